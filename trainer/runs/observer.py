"""Observer of a run: hears how far each part is, and the judged held-out pairs.

from trainer.runs.pipeline import run

class Printer(RunObserver):
    def progress(self, stage, part, done, total): print(stage, part, done, total)

run(["cold-start"], config, folder, observer=Printer())
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from storage.atomic import write_atomic
from storage.training.run_folder import PAIR_IDS, PROGRESS
from trainer.evaluation.sample_thoughts import save_samples

if TYPE_CHECKING:
    from trainer.evaluation.held_out import JudgedPairs
    from trainer.paradigm import StageName

# Parts of a stage in their order: thoughts for pairs without any, judging before, steps, judging after.
Part = Literal["thoughts", "before", "training", "after"]
_SECONDS = 1.0  # between two writes of the progress of one part


class RunObserver:
    """Base class, which does nothing. Only the main process of a run calls it."""

    def progress(self, stage: StageName, part: Part, done: int, total: int) -> None:
        """Hear that `done` of `total` pairs (in "training": steps) of a part are done."""

    def judged(self, stage: StageName, when: Literal["before", "after"], pairs: JudgedPairs) -> None:
        """Hear that the held-out pairs were judged, with the weights before a stage or after it."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run in its folder is: `done` of `total` pairs or steps of a part."""

    stage: str
    part: str
    done: int
    total: int


class FolderObserver(RunObserver):
    """Keeps progress and thoughts about some held-out pairs in the run's folder, for processes that only see the folder."""

    def __init__(self, folder: Path, stages: Sequence[StageName]) -> None:
        """Observe the run in `folder`, whose `pair-ids.json` has the pairs of the store, if it is one of the store."""
        self._folder, self._stages = folder, list(stages)
        self._ids = _pair_ids(folder)
        self._written: tuple[str, str] | None = None
        self._at = 0.0

    def progress(self, stage: StageName, part: Part, done: int, total: int) -> None:
        """Write `progress.json`, once a second at most within a part."""
        now = time.monotonic()
        if self._written == (stage, part) and now - self._at < _SECONDS and done < total:
            return
        self.told(RunProgress(stage, part, done, total))
        self._written, self._at = (stage, part), now

    def told(self, progress: RunProgress) -> None:
        """Write a word about the progress at once."""
        write_atomic(self._folder / PROGRESS, json.dumps(asdict(progress)))

    def judged(self, stage: StageName, when: Literal["before", "after"], pairs: JudgedPairs) -> None:
        """Write samples of a stage's end, which are those of the next one's beginning too."""
        save_samples(self._folder, stage, when, pairs.pairs, self._ids)
        following = self._stages[self._stages.index(stage) + 1 :] if stage in self._stages else []
        if when == "after" and following:  # it starts with the same weights
            save_samples(self._folder, following[0], "before", pairs.pairs, self._ids)


def read_progress(folder: Path) -> RunProgress | None:
    """Read what a `FolderObserver` wrote; None before its first word."""
    try:
        return RunProgress(**json.loads((folder / PROGRESS).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def save_pair_ids(folder: Path, ids: Mapping[str, int]) -> None:
    """Write identity -> pair of the store into a run's folder."""
    write_atomic(folder / PAIR_IDS, json.dumps(dict(ids)))


def _pair_ids(folder: Path) -> dict[str, int]:
    try:
        ids: dict[str, int] = json.loads((folder / PAIR_IDS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return ids
