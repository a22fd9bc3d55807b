"""Proof from the bits of a coded frame that it starts a closed group of pictures and shows one picture.

Containers only mark "key frames", and an open group's first frame carries the same mark as a closed one's;
decord counts frames from such marks, so for it they must be proven. H.264 (ITU-T H.264, 7.3) and VP9
(bitstream specification 0.6, 6.2 and annex B) are known here; everything else stays unproven.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

_H264_SLICES, _IDR, _SPS = frozenset(range(1, 6)), 5, 7
_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})


def starts_closed_gop(codec: str, extradata: bytes, packet: Any) -> tuple[bool, bool]:
    """Tell whether a packet starts a closed group of pictures, and whether it yields exactly one shown picture.

    False also means "not proven".

    Args:
        codec: ffmpeg's name.
        extradata: the stream's codec configuration (avcC for H.264 in mp4).
        packet: bytes-like.
    """
    if codec == "h264":
        return _h264(extradata, bytes(packet))
    if codec in ("vp9", "libvpx-vp9"):
        return _vp9(bytes(packet))
    return False, False


def _h264(extradata: bytes, data: bytes) -> tuple[bool, bool]:
    if not _h264_plain(extradata):
        return False, False
    kinds = {unit[0] & 31 for unit in _length_prefixed(data, (extradata[4] & 3) + 1) if unit}
    slices = kinds & _H264_SLICES
    # A parameter set inside the stream may allow what those in front forbid.
    one_picture = bool(slices) and _SPS not in kinds
    return one_picture and slices == {_IDR}, one_picture


def _length_prefixed(data: bytes, width: int) -> Iterator[bytes]:
    position = 0
    while position + width <= len(data):
        length = int.from_bytes(data[position : position + width], "big")
        yield data[position + width : position + width + length]
        position += width + length


@lru_cache(maxsize=64)
def _h264_plain(extradata: bytes) -> bool:
    """Tell whether every sequence parameter set of an avcC record forbids field pictures and gaps in frame numbers."""
    if len(extradata) < 8 or extradata[0] != 1:
        return False
    count, position = extradata[5] & 31, 6
    for _ in range(count):
        length = int.from_bytes(extradata[position : position + 2], "big")
        if not _sps_is_plain(extradata[position + 3 : position + 2 + length]):
            return False
        position += 2 + length
    return count > 0


class _Bits:
    """A reader of an H.264 raw byte sequence payload, most significant bit first."""

    def __init__(self, payload: bytes) -> None:
        payload = payload.replace(b"\0\0\3", b"\0\0")
        self._bits = "".join(f"{byte:08b}" for byte in payload)
        self._position = 0

    def take(self, count: int) -> int:
        chunk = self._bits[self._position : self._position + count]
        if len(chunk) < count:
            raise EOFError("parameter set too short")
        self._position += count
        return int(chunk, 2) if count else 0

    def unsigned(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _sps_is_plain(payload: bytes) -> bool:
    bits = _Bits(payload)
    try:
        profile = bits.take(8)
        bits.take(16)
        bits.unsigned()
        if profile in _HIGH_PROFILES:
            _skip_high_profile_fields(bits)
        bits.unsigned()
        _skip_order_count_fields(bits)
        bits.unsigned()
        gaps_allowed = bits.take(1)
        bits.unsigned()
        bits.unsigned()
        frames_only = bits.take(1)
    except EOFError:
        return False
    return bool(frames_only) and not gaps_allowed


def _skip_high_profile_fields(bits: _Bits) -> None:
    chroma = bits.unsigned()
    if chroma == 3:
        bits.take(1)
    bits.unsigned()
    bits.unsigned()
    bits.take(1)
    if not bits.take(1):
        return
    for index in range(8 if chroma != 3 else 12):
        if bits.take(1):
            _skip_scaling_list(bits, 16 if index < 6 else 64)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _skip_order_count_fields(bits: _Bits) -> None:
    kind = bits.unsigned()
    if kind == 0:
        bits.unsigned()
    elif kind == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()


def _vp9(data: bytes) -> tuple[bool, bool]:
    frames = _vp9_frames(data)
    headers = [_vp9_header(frame) for frame in frames]
    if not headers or None in headers:
        return False, False
    shown = sum(1 for header in headers if header is not None and header[1])
    key = headers[0] is not None and headers[0][0]
    return key, shown == 1


def _vp9_frames(data: bytes) -> list[bytes]:
    """Split a packet into its frames: one, or those that a superframe index at its end lists (annex B)."""
    if not data or data[-1] & 0xE0 != 0xC0:
        return [data]
    count, width = (data[-1] & 7) + 1, (data[-1] >> 3 & 3) + 1
    index = data[-(2 + count * width) :]
    if len(index) < 2 + count * width or index[0] != data[-1]:
        return [data]
    frames, position = [], 0
    for i in range(count):
        length = int.from_bytes(index[1 + i * width : 1 + (i + 1) * width], "little")
        frames.append(data[position : position + length])
        position += length
    return frames


def _vp9_header(frame: bytes) -> tuple[bool, bool] | None:
    """Read (key frame, shown) from the first byte of an uncompressed header; None where it isn't one."""
    if not frame or frame[0] >> 6 != 2 or frame[0] >> 4 & 3 == 3:
        return None
    if frame[0] >> 3 & 1:
        return False, True
    return not frame[0] >> 2 & 1, bool(frame[0] >> 1 & 1)
