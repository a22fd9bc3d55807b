"""Encoded rows of labelled pairs: frames are decoded once, kept on disk, and encoded by the processor.

reader = PairReader(model.processor, manifest.frame_policy, manifest.prompt_version, cache_folder)
reader.expect(pairs_of_the_next_step)             # decode in the background
rows = reader.rows(pair)                          # raises BadPairError where a video can't be used
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from descore.encode import Row, encode_prompt, with_thought
from descore.video import FramePolicy, VideoClip, VideoError, read_clip
from descore.video.worker_pool import PROCESSES

if TYPE_CHECKING:
    from trainer.data.pairs import TrainingPair


class BadPairError(ValueError):
    """A pair that can't be trained on.

    Attributes:
        which: "A", "B", or "prompt".
        reason: one sentence.
    """

    def __init__(self, identity: str, which: str, reason: str) -> None:
        super().__init__(f"pair {identity[:12]}, {which}: {reason}")
        self.identity, self.which, self.reason = identity, which, reason

    def __reduce__(self) -> tuple[type[BadPairError], tuple[str, str, str]]:
        return type(self), (self.identity, self.which, self.reason)


class FrameCache:
    """Decoded clips on disk, by the sha256 of the video file and the frame policy. Several processes may share it."""

    def __init__(self, folder: Path, policy: FramePolicy) -> None:
        settings = json.dumps(policy.to_dict(), sort_keys=True)
        self._folder = folder / hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True)

    def get(self, content: str) -> VideoClip | None:
        """Read a clip; None where there is none or its file is damaged."""
        try:
            with safe_open(self._path(content), framework="numpy") as kept:
                frames, timestamps, metadata = kept.get_tensor("frames"), kept.get_tensor("timestamps"), kept.metadata()
            whole = zlib.crc32(frames.data) == int(metadata["crc32"])
            return VideoClip(frames, timestamps, float(metadata["duration"]), metadata["reader"]) if whole else None
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def put(self, content: str, clip: VideoClip) -> None:
        """Write a clip, atomically."""
        # Not numpy's own format: its header is parsed by `ast`, which fails in CPython 3.11 when two threads do so at once.
        frames = np.ascontiguousarray(clip.frames)
        metadata = {"duration": repr(float(clip.duration)), "reader": clip.reader, "crc32": str(zlib.crc32(frames.data))}
        kept = {"frames": frames, "timestamps": np.ascontiguousarray(clip.timestamps)}
        handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".partial")
        with os.fdopen(handle, "wb") as file:
            file.write(save(kept, metadata=metadata))
        Path(temporary).replace(self._path(content))

    def _path(self, content: str) -> Path:
        return self._folder / f"{content}.safetensors"


class PairReader:
    """Reads the videos of pairs for one processor and frame policy."""

    def __init__(
        self, processor: Any, policy: FramePolicy, prompt_version: str, cache_folder: Path | None, timeout: float = 60.0
    ) -> None:
        """Make a reader.

        Args:
            cache_folder: keeps decoded frames; None: they are not kept.
            timeout: seconds that decoding one video may take.
        """
        self.processor = processor
        self.policy = policy
        self.prompt_version = prompt_version
        self._cache = None if cache_folder is None else FrameCache(cache_folder, policy)
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(PROCESSES, thread_name_prefix="frames")
        self._expected: dict[str, Future[VideoClip]] = {}

    def expect(self, pairs: Iterable[TrainingPair]) -> None:
        """Begin to decode the videos of pairs that are needed soon; cancel those expected earlier and not fetched."""
        paths = {content: path for pair in pairs for content, path in zip(pair.contents, pair.videos, strict=True)}
        for content in set(self._expected) - set(paths):
            self._expected.pop(content).cancel()
        for content, path in paths.items():
            if content not in self._expected:
                self._expected[content] = self._threads.submit(self._read, content, path)

    def rows(self, pair: TrainingPair, max_prompt_tokens: int | None = None) -> tuple[Row, Row]:
        """Encode the prompts of A and B, without thoughts.

        Raises:
            BadPairError: a video or the prompt can't be used, or a prompt with its video is longer than `max_prompt_tokens`.
        """
        rows = []
        for which, content, path in zip("AB", pair.contents, pair.videos, strict=True):
            expected = self._expected.pop(content, None)
            try:
                clip = self._read(content, path) if expected is None else expected.result()
            except VideoError as error:
                raise BadPairError(pair.identity, which, str(error)) from error
            try:
                row = encode_prompt(self.processor, clip, pair.prompt, self.policy, self.prompt_version)
            except ValueError as error:
                raise BadPairError(pair.identity, "prompt", str(error)) from error
            _check_length(pair, which, row, max_prompt_tokens, "its prompt and video")
            rows.append(row)
        return rows[0], rows[1]

    def with_thoughts(
        self, pair: TrainingPair, rows: tuple[Row, Row], thoughts: tuple[str, str], max_length: int | None = None
    ) -> tuple[Row, Row]:
        """Append thoughts to rows.

        Raises:
            BadPairError: a thought holds control tokens, or a row becomes longer than `max_length` tokens.
        """
        longer = []
        for which, row, thought in zip("AB", rows, thoughts, strict=True):
            try:
                longer.append(with_thought(self.processor, row, thought))
            except ValueError as error:
                raise BadPairError(pair.identity, which, str(error)) from error
            _check_length(pair, which, longer[-1], max_length, "its prompt, video and thought")
        return longer[0], longer[1]

    def close(self) -> None:
        """Cancel the videos that are still expected."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, content: str, path: Path) -> VideoClip:
        clip = None if self._cache is None else self._cache.get(content)
        if clip is None:
            clip = read_clip(path, self.policy, self._timeout)
            if self._cache is not None:
                self._cache.put(content, clip)
        return clip


def _check_length(pair: TrainingPair, which: str, row: Row, limit: int | None, what: str) -> None:
    length = len(row["input_ids"])
    if limit is not None and length > limit:
        raise BadPairError(pair.identity, which, f"{what} take {length} tokens, more than {limit}")
