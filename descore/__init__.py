"""DeScore: a video reward model that thinks, then scores.

    from descore import DeScore
    judge = DeScore.from_pretrained("bundled")
    judge.judge(["a.mp4", "b.mp4"], "a red circle bounces").verdict

The import is lazy: processes that only decode videos import `descore.video` without paying for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descore.judge import DeScore

__all__ = ["DeScore"]


def __getattr__(name: str) -> Any:
    if name == "DeScore":
        from descore.judge import DeScore

        return DeScore
    raise AttributeError(f"module 'descore' has no attribute {name!r}")
