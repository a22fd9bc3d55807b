"""The manifest of a checkpoint: what `descore.json` says, apart from the list of files. No torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from descore.answer import DIMENSIONS
from descore.calibration import Calibration
from descore.errors import CheckpointError
from descore.prompt import DEFAULT_PROMPT_VERSION, PROMPTS
from descore.video.types import FramePolicy

FORMAT_VERSION = 1


@dataclass(frozen=True)
class BaseModel:
    """A backbone that is referred to, not copied: a Hub id, a folder, or a checkpoint that embeds one.

    fingerprint: `descore.modeling.backbone.fingerprint` of the backbone that the checkpoint was trained on, filled in
    when the checkpoint is saved. An adapter on a base model that has changed since would give wrong rewards
    without a word.
    """

    source: str
    revision: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What `descore.json` says about a checkpoint.

    trained_on: one sentence for readers of the page. base_model: None if the backbone is embedded.
    max_thought_tokens: a thought is cut off there. lineage: where the checkpoint comes from (parent, stage,
    data, seeds). metrics: split -> name -> number.

    Raises:
        CheckpointError: a setting that this version of the code can't honour.
    """

    name: str
    trained_on: str = ""
    base_model: BaseModel | None = None
    frame_policy: FramePolicy = field(default_factory=FramePolicy)
    prompt_version: str = DEFAULT_PROMPT_VERSION
    dimensions: tuple[str, ...] = DIMENSIONS
    max_thought_tokens: int = 4096
    calibration: Calibration = field(default_factory=lambda: Calibration({}))
    lineage: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prompt_version not in PROMPTS:
            raise CheckpointError(f"unknown prompt version {self.prompt_version!r}; update descore")
        if self.dimensions != DIMENSIONS:
            raise CheckpointError(f"the checkpoint scores {self.dimensions}, this version of descore {DIMENSIONS}")
        if self.max_thought_tokens < 1:
            raise CheckpointError(f"max_thought_tokens must be at least 1, not {self.max_thought_tokens}")

    def to_dict(self) -> dict[str, Any]:
        """The manifest as plain JSON values."""
        base = self.base_model
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "trained_on": self.trained_on,
            "base_model": None if base is None else asdict(base),
            "frame_policy": self.frame_policy.to_dict(),
            "prompt_version": self.prompt_version,
            "dimensions": list(self.dimensions),
            "max_thought_tokens": self.max_thought_tokens,
            "calibration": self.calibration.to_dict(),
            "lineage": dict(self.lineage),
            "metrics": dict(self.metrics),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Read what `to_dict` wrote.

        Raises:
            CheckpointError: another format version, missing or unknown keys, values that can't be honoured.
        """
        if values.get("format_version") != FORMAT_VERSION:
            raise CheckpointError(
                f"format version {values.get('format_version')!r}, and this code reads {FORMAT_VERSION}: update descore"
            )
        wanted = {item.name for item in fields(cls)}
        found = set(values) - {"format_version", "files"}
        if wanted != found:
            lacking, unknown = sorted(wanted - found), sorted(found - wanted)
            raise CheckpointError(f"the manifest lacks {lacking} and has unknown {unknown}")
        try:
            converted = {
                "base_model": None if values["base_model"] is None else BaseModel(**values["base_model"]),
                "frame_policy": FramePolicy.from_dict(values["frame_policy"]),
                "dimensions": tuple(values["dimensions"]),
                "calibration": Calibration.from_dict(values["calibration"]),
            }
            return cls(**{**{key: values[key] for key in found}, **converted})
        except CheckpointError:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the manifest can't be read: {error}") from error
