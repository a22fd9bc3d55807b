"""The manifest of a checkpoint, `descore.json`, apart from its list of files. Imports no torch."""

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
_KINDS = {
    "name": str,
    "trained_on": str,
    "prompt_version": str,
    "max_thought_tokens": int,
    "lineage": Mapping,
    "metrics": Mapping,
}


@dataclass(frozen=True)
class BaseModel:
    """A backbone that is referred to, not copied.

    Attributes:
        source: a Hub id, a folder, or a checkpoint that embeds a backbone.
        revision: commit of a Hub id.
        fingerprint: `descore.modeling.backbone.fingerprint` of the backbone that the checkpoint was trained on, filled in
            when the checkpoint is saved: an adapter on a base model that has changed since would give wrong rewards
            without an error.
    """

    source: str
    revision: str | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not all(
            isinstance(one, str | None) for one in (self.revision, self.fingerprint)
        ):
            raise CheckpointError("the base model of the manifest is of another kind; fetch the checkpoint again")


@dataclass(frozen=True)
class Manifest:
    """The settings and the history of a checkpoint.

    Attributes:
        name: what people call the checkpoint.
        trained_on: one sentence for readers of the page.
        base_model: the backbone that is referred to; None if it is embedded.
        frame_policy: which frames the model sees, and how large.
        prompt_version: key of `descore.prompt.PROMPTS`.
        dimensions: the sub-scores' names.
        max_thought_tokens: a thought is cut off there.
        calibration: the scale of the rewards, by mode.
        lineage: where the checkpoint comes from (parent, stage, data, seeds).
        metrics: split -> name -> number.

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
        for name, kind in _KINDS.items():
            if not isinstance(getattr(self, name), kind) or isinstance(getattr(self, name), bool):
                raise CheckpointError(f"{name} of the manifest is of another kind; fetch the checkpoint again")
        if self.prompt_version not in PROMPTS:
            raise CheckpointError(f"unknown prompt version {self.prompt_version!r}; update descore")
        if self.dimensions != DIMENSIONS:
            raise CheckpointError(f"the checkpoint scores {self.dimensions}, this version of descore {DIMENSIONS}")
        if self.max_thought_tokens < 1:
            raise CheckpointError(f"max_thought_tokens must be at least 1, not {self.max_thought_tokens}")

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values."""
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
        """Build the manifest from the mapping that `to_dict` returns.

        Raises:
            CheckpointError: another format version, missing or unknown keys, values that can't be honoured.
        """
        if values.get("format_version") != FORMAT_VERSION:
            raise CheckpointError(
                f"format version {values.get('format_version')!r}, and this code reads {FORMAT_VERSION}: update descore"
            )
        required = {item.name for item in fields(cls)}
        present = set(values) - {"format_version", "files"}
        if required != present:
            lacking, unknown = sorted(required - present), sorted(present - required)
            raise CheckpointError(f"the manifest lacks {lacking} and has unknown {unknown}")
        try:
            converted = {
                "base_model": None if values["base_model"] is None else BaseModel(**values["base_model"]),
                "frame_policy": FramePolicy.from_dict(values["frame_policy"]),
                "dimensions": tuple(values["dimensions"]),
                "calibration": Calibration.from_dict(values["calibration"]),
            }
            return cls(**{**{key: values[key] for key in present}, **converted})
        except CheckpointError:
            raise
        except Exception as error:  # whatever the parts meet in values of other kinds
            raise CheckpointError(f"the manifest can't be read: {error}") from error
