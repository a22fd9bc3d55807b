"""Detection of files whose end is missing, from the container's own sizes, without a decoder.

A half mp4 whose index comes first opens, plays and "seeks" without an error, so the sizes that containers
write down are compared with the size of the file: ISO boxes, Matroska/WebM segment, RIFF chunk, transport
packets, GIF trailer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import os

_ISO_BOXES = frozenset(b"ftyp moov mdat moof mfra free skip wide uuid meta sidx styp pdin emsg pnot".split())
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def truncation(path: str | os.PathLike[str]) -> str | None:
    """Say in one sentence what is missing; None where the file is whole as far as its container tells."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        head = file.read(512)
        if head[4:8] in _ISO_BOXES:
            return _iso(file, size)
        if head.startswith(_EBML):
            return _matroska(head, size)
        if head.startswith(b"RIFF"):
            return _short(8 + int.from_bytes(head[4:8], "little"), size) if len(head) >= 8 else None
        if head.startswith((b"GIF87a", b"GIF89a")):
            return _gif(file, size)
        for step, offset in ((188, 0), (192, 4)):
            if len(head) > offset + 2 * step and all(head[offset + i * step] == 0x47 for i in range(3)):
                return "its last transport packet is cut off" if size % step else None
    return None


def _iso(file: BinaryIO, size: int) -> str | None:
    position, indexed = 0, False
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        kind, length = header[4:8], int.from_bytes(header[:4], "big")
        if kind not in _ISO_BOXES:
            break
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - position
        if position + length > size:
            return _short(position + length, size)
        indexed = indexed or kind in (b"moov", b"moof")
        if length < 8:
            break
        position += length
    return None if indexed else "its index (moov) is missing; the recording or the upload broke off"


def _matroska(head: bytes, size: int) -> str | None:
    length, start = _vint(head, 4)
    segment = start + (length or 0)
    if length is None or head[segment : segment + 4] != _SEGMENT:
        return None
    length, start = _vint(head, segment + 4)
    return None if length is None else _short(start + length, size)


def _vint(data: bytes, position: int) -> tuple[int | None, int]:
    """Read an EBML variable-length size (None: unknown, as live streams have it); return it and the position behind it."""
    first = data[position] if position < len(data) else 0
    if not first:
        return None, position
    width = 9 - first.bit_length()
    bits = 7 * width
    value = int.from_bytes(data[position : position + width], "big") & ((1 << bits) - 1)
    return (None if value == (1 << bits) - 1 else value), position + width


def _gif(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - 64))
    return None if file.read().rstrip(b"\0").endswith(b";") else "its GIF trailer is missing"


def _short(needed: int, size: int) -> str | None:
    if needed <= size:
        return None
    return f"it breaks off after {size} of {needed} bytes; copy or upload it again"
