"""Small files that ask for a lot of decoding, written in a moment."""

from __future__ import annotations

from pathlib import Path


def write_gif(path: Path, side: int, frames: int) -> Path:
    """Write a GIF of `side` x `side` pixels whose frames, 20 ms each, change a single pixel: 23 bytes a frame."""
    sides = side.to_bytes(2, "little") * 2
    one_pixel = b"," + b"\0" * 4 + b"\1\0\1\0" + b"\0" + b"\x02\x02\x44\x01\0"
    frame = b"\x21\xf9\x04\x04\x02\0\0\0" + one_pixel
    path.write_bytes(b"GIF89a" + sides + b"\x80\0\0" + b"\0" * 6 + frame * frames + b";")
    return path
