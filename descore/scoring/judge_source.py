"""Who answers the questions of a table: a checkpoint in this process, or judging servers.

source = JudgeSource.of_checkpoint("bundled", engine="auto")        # nothing is loaded yet
judge = source.load()

`JudgeSource.of_judge` takes one that is there already, such as `DeScore.from_server(urls)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from descore.checkpoints.folder import MANIFEST_FILE, folder_fingerprint, locate, read_manifest
from descore.checkpoints.manifest import BaseModel, Manifest
from descore.errors import EngineError
from descore.judge import DeScore

if TYPE_CHECKING:
    from pathlib import Path

    from descore.engines.engine import EngineName


@dataclass(frozen=True)
class JudgeSource:
    """A judge that is loaded when the first question needs it.

    Attributes:
        fingerprint: of the checkpoint's content, a part of each question.
        manifest: the checkpoint's settings.
        load: loads the judge, once.
    """

    fingerprint: str
    manifest: Manifest
    load: Callable[[], DeScore]

    @classmethod
    def of_folder(cls, folder: Path, load: Callable[[], DeScore]) -> JudgeSource:
        """Name the checkpoint of a folder, which `load` loads.

        Raises:
            descore.errors.CheckpointError: there is none.
        """
        return cls(folder_fingerprint(folder), checkpoint_manifest(folder), cache(load))

    @classmethod
    def of_checkpoint(cls, checkpoint: str | Path, engine: EngineName = "auto") -> JudgeSource:
        """Name a checkpoint as `DeScore.from_pretrained` does.

        Raises:
            descore.errors.CheckpointError: there is none.
        """
        return cls.of_folder(locate(checkpoint)[0], partial(DeScore.from_pretrained, checkpoint, engine=engine))

    @classmethod
    def of_judge(cls, judge: DeScore) -> JudgeSource:
        """Take a judge whose engine knows its checkpoint's fingerprint, such as that of servers.

        Raises:
            EngineError: it does not.
        """
        fingerprint = getattr(judge.engine, "fingerprint", None)
        if fingerprint is None:
            raise EngineError(f"{judge.engine.label} does not say which files its checkpoint has; name the checkpoint")
        return cls(fingerprint, judge.manifest, lambda: judge)


def checkpoint_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint that nothing is computed with; a bare backbone has none."""
    if (folder / MANIFEST_FILE).exists():
        return read_manifest(folder)
    return Manifest(name=folder.name, base_model=BaseModel(str(folder)))
