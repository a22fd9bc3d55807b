"""The decoding process: it reads one request a line from stdin and writes one answer to stdout, until stdin closes.

Request: a JSON line {"job": "read", "path": ..., "seconds": 30, ...}. Answer: four bytes of header length
(big endian), the header as JSON, then `header["bytes"]` raw bytes (the frames). Plain JSON and bytes, no
pickles, so a broken decoder can't make the parent run anything. Neither torch nor gradio is imported here.
"""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from descore.video.types import FramePolicy, VideoError, VideoLimits, VideoUnreadableError

Answer = tuple[dict[str, Any], np.ndarray | None]

# Virtual memory of one decoding process; a file that asks for more fails instead of taking the machine down.
_ADDRESS_SPACE_BYTES = 8 * 1024**3


# Of a process in the background: other processes on a busy machine come first.
_NICENESS = 10


def main(background: bool = False) -> None:
    """Serve requests until the parent closes the pipe or dies."""
    if background and hasattr(os, "nice"):
        os.nice(_NICENESS)
    requests, answers = _private_pipes()
    _limit_memory()
    # Libraries are loaded before the first request comes, so that it is answered at once, and not before the
    # pipes are set apart, as nobody knows what they print.
    from descore.video import decord_reader, read_frames  # noqa: F401

    if decord_reader.usable():
        decord_reader.load()
    for line in requests:
        request = json.loads(line)
        _alarm(request["seconds"])
        header, frames = _answer(request)
        _alarm(0)
        _send(answers, header, frames)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout for the protocol alone: all that libraries print goes to stderr."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = _ADDRESS_SPACE_BYTES if hard == resource.RLIM_INFINITY else min(_ADDRESS_SPACE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _alarm(seconds: float) -> None:
    # The parent kills a process that takes too long. This is for a parent that died meanwhile: the default
    # action of SIGALRM ends the process even inside native code that holds the interpreter lock.
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds) + 2 if seconds else 0)


def _send(answers: BinaryIO, header: dict[str, Any], frames: np.ndarray | None) -> None:
    size = 0 if frames is None else frames.nbytes
    text = json.dumps({**header, "bytes": size}).encode()
    answers.write(len(text).to_bytes(4, "big") + text)
    if frames is not None:
        answers.write(np.ascontiguousarray(frames).data)
    answers.flush()


def _answer(request: dict[str, Any]) -> Answer:
    try:
        return _JOBS[request["job"]](request, VideoLimits(**request["limits"]))
    except VideoError as error:
        return {"error": type(error).__name__, "reason": error.reason}, None
    except MemoryError:
        return {"error": "VideoTooLargeError", "reason": "decoding it needs more memory than is allowed"}, None
    except Exception as error:  # a file nobody foresaw must cost this answer, not the process
        reason = f"it can't be read ({type(error).__name__}: {error})"
        return {"error": VideoUnreadableError.__name__, "reason": reason}, None


def _read(request: dict[str, Any], limits: VideoLimits) -> Answer:
    from descore.video.read_frames import read

    clip = read(request["path"], FramePolicy(**request["policy"]), limits, request["use_decord"])
    header = {
        "shape": clip.frames.shape,
        "timestamps": clip.timestamps.tolist(),
        "duration": clip.duration,
        "reader": clip.reader,
    }
    return header, clip.frames


def _probe(request: dict[str, Any], limits: VideoLimits) -> Answer:
    from descore.video.ingest import probe

    return asdict(probe(request["path"], limits)), None


def _validate(request: dict[str, Any], limits: VideoLimits) -> Answer:
    from descore.video.ingest import validate

    return {"frames": validate(request["path"], limits)}, None


def _reencode(request: dict[str, Any], limits: VideoLimits) -> Answer:
    from descore.video.ingest import reencode

    return {"frames": reencode(request["path"], request["out"], limits)}, None


_JOBS: dict[str, Callable[[dict[str, Any], VideoLimits], Answer]] = {
    "read": _read,
    "probe": _probe,
    "validate": _validate,
    "reencode": _reencode,
}
