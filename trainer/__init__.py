"""Training of a DeScore checkpoint on people's labels: `python -m trainer`, or from Python by `train` and `evaluate`.

The imports are lazy: the parts of this package are used without all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.python_api import TrainResult, evaluate, train

__all__ = ["TrainResult", "evaluate", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from trainer import python_api

        return getattr(python_api, name)
    raise AttributeError(f"module 'trainer' has no attribute {name!r}")
