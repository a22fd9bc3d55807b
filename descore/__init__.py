"""DeScore: a video reward model that thinks, then scores.

    from descore import DeScore
    judge = DeScore.from_pretrained("bundled")
    judge.judge(["a.mp4", "b.mp4"], "a red circle bounces").verdict

The imports are lazy: processes that only decode videos import `descore.video` without paying for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descore.errors import (
        CheckpointError,
        DeviceError,
        EngineError,
        MissingLibraryError,
        NotEnoughMemoryError,
        PromptError,
        RewardError,
        TableError,
    )
    from descore.judge import DeScore
    from descore.judgement import Judged, Judgement, ThoughtDelta, Verdict
    from descore.metrics import PreferenceReport
    from descore.pair_frames import Evaluation, evaluate
    from descore.video import Frames, VideoError

_HOMES = {
    "descore.errors": (
        "CheckpointError", "DeviceError", "EngineError", "MissingLibraryError", "NotEnoughMemoryError", "PromptError",
        "RewardError", "TableError",
    ),
    "descore.judge": ("DeScore",),
    "descore.judgement": ("Judged", "Judgement", "ThoughtDelta", "Verdict"),
    "descore.metrics": ("PreferenceReport",),
    "descore.pair_frames": ("Evaluation", "evaluate"),
    "descore.video": ("Frames", "VideoError"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CheckpointError",
    "DeScore",
    "DeviceError",
    "EngineError",
    "Evaluation",
    "Frames",
    "Judged",
    "Judgement",
    "MissingLibraryError",
    "NotEnoughMemoryError",
    "PreferenceReport",
    "PromptError",
    "RewardError",
    "TableError",
    "ThoughtDelta",
    "Verdict",
    "VideoError",
    "evaluate",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'descore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
