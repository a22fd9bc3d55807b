"""A disk without room, told from other faults of writing: each library that writes weights says it in its own way."""

from __future__ import annotations

import errno
import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a full quota, a limit of the process
# safetensors: "No space left on device (os error 28)"; torch.save: "iostream error", "unexpected pos 874496 vs 874388".
_SAID = rf"no space left|os error ({'|'.join(map(str, _CODES))})\b|iostream error|unexpected pos|failed writing file"
_WORDS = re.compile(_SAID, re.IGNORECASE)


def is_without_room(error: BaseException) -> bool:
    """Tell whether an error of writing files comes of a disk, a quota or a limit that is full."""
    chain: BaseException | None = error
    while chain is not None:
        if (isinstance(chain, OSError) and chain.errno in _CODES) or _WORDS.search(str(chain)):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def no_room_sentence(folder: Path) -> str:
    """Say that a folder's disk is full, and how much room it has."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e6
    return f"there is no room left to write into {folder} ({free:,.0f} MB are free): free some, then do it again"
