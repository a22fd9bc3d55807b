"""The most bytes of tensors that exist at a time while a block runs, on any device: each storage counts from birth to end.

    with PeakBytes(known=[]) as peak:
        torch.ones(1024, 1024).sum()
    peak.bytes      # 4 MiB and a number

What a kernel takes and gives back within itself is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class PeakBytes(TorchDispatchMode):
    """Counts what operations return; what a kernel takes and gives back within itself is not seen.

    Attributes:
        now: bytes of storages made since the block began that still exist.
        bytes: the most of `now`.
    """

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        """Leave out what was there before; known: all of it that operations in the block may return, or views of it."""
        super().__init__()
        self.now = self.bytes = 0
        self._seen = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self._note(value.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen[key] = size
        self.now += size
        self.bytes = max(self.bytes, self.now)
        weakref.finalize(storage, self._end, key)

    def _end(self, key: int) -> None:
        self.now -= self._seen.pop(key, 0)
