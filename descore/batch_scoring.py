"""Scoring of many videos in batches: read ahead of the model, one error an item, progress.

`descore.judge.DeScore.score` is the way in.
"""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from tqdm import tqdm

from descore.judgement import Judgement, Mode
from descore.video.memory_frames import Frames, Video, check_video

if TYPE_CHECKING:
    from descore.engines.engine import Engine
    from descore.video import Lane

# Videos that are read at the same time; how many are decoded at the same time is the decoders' business.
READERS = 8
# What may be wrong with an item: videos and prompts raise ValueErrors, engines RuntimeErrors, disks OSErrors.
ITEM_ERRORS = (ValueError, RuntimeError, OSError)

Progress = bool | Callable[[int, int], object]
BatchSize = int | Literal["auto"]


@dataclass
class ReadVideo:
    """A video that an engine has read.

    Attributes:
        clip: what the engine's `read` returned.
        folder: temporary files that it may still need; None where there are none.
    """

    clip: Any
    folder: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove the temporary files."""
        if self.folder is not None:
            self.folder.cleanup()


def read_video(engine: Engine, video: Video, lane: Lane) -> ReadVideo:
    """Let an engine read a file, the bytes of one, or frames in memory.

    Raises:
        descore.video.VideoError: it can't be used.
    """
    video = check_video(video)
    if not isinstance(video, (bytes, Frames)):
        return ReadVideo(engine.read(Path(video), lane=lane))
    folder = tempfile.TemporaryDirectory(prefix="descore-")
    try:
        if isinstance(video, Frames):
            return ReadVideo(engine.read_frames(video, Path(folder.name)), folder)
        path = Path(folder.name) / "video"
        path.write_bytes(video)
        return ReadVideo(engine.read(path, lane=lane), folder)
    except BaseException:
        folder.cleanup()
        raise


def read_videos(engine: Engine, videos: Sequence[Video], lane: Lane) -> list[ReadVideo]:
    """Read the videos of one call at the same time; where one fails, nothing of the others stays.

    Raises:
        descore.video.VideoError: one can't be used; of several, the first.
    """
    with ThreadPoolExecutor(max_workers=max(1, min(READERS, len(videos)))) as threads:
        reading = [threads.submit(read_video, engine, video, lane) for video in videos]
    failed = [error for future in reading if (error := future.exception()) is not None]
    if failed:
        for future in reading:
            if future.exception() is None:
                future.result().close()
        raise failed[0]
    return [future.result() for future in reading]


def rows_of(batch_size: BatchSize, engine: Engine) -> int:
    """Return how many rows think at the same time.

    Raises:
        ValueError: neither a number from 1 on nor "auto".
    """
    if batch_size == "auto":
        return engine.rows_at_once()
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f'batch_size is a whole number from 1 on or "auto", not {batch_size!r}')
    return batch_size


def items_at_once(rows: int, mode: Mode, k: int) -> int:
    """Return how many videos are judged together where so many rows think at the same time: in mode k each has k."""
    return max(1, rows // k) if mode == "k" else rows


def refused_prompts(prompts: Sequence[str], check: Callable[[str], None], keep: bool) -> dict[int, Exception]:
    """Check each prompt once; return the refusals by index where they are kept, else raise the first."""
    refusals: dict[str, Exception] = {}
    for prompt in dict.fromkeys(prompts):
        try:
            check(prompt)
        except ITEM_ERRORS as error:
            if not keep:
                raise
            refusals[prompt] = error
    return {index: refusals[prompt] for index, prompt in enumerate(prompts) if prompt in refusals}


@dataclass
class BatchScoring:
    """One call of `score`.

    Attributes:
        read: reads one video; several threads call it.
        encode: makes a row of a clip and a prompt.
        judge_rows: thinks about rows; gives a judgement for each (index of the item, row), with the seconds since `start`.
        size: rows at a time.
        shrink: halve the size where the device runs out of memory.
        keep_errors: put an item's error in its place instead of raising it.
    """

    read: Callable[[Any], ReadVideo]
    encode: Callable[[Any, str], Any]
    judge_rows: Callable[[Sequence[tuple[int, Any]], float], list[Judgement]]
    size: int
    shrink: bool = False
    keep_errors: bool = False

    def run(
        self, items: Sequence[tuple[Any, str]], known: dict[int, Exception], progress: Progress = False
    ) -> list[Judgement | Exception]:
        """Score the items, in their order.

        Args:
            items: videos with their prompts.
            known: items that can't be scored, by index, with the reason.
        """
        results: dict[int, Judgement | Exception] = {**known}
        waiting = deque(index for index in range(len(items)) if index not in known)
        reading: deque[tuple[int, Future[ReadVideo]]] = deque()
        with _reporter(progress, len(items)) as report, ThreadPoolExecutor(max_workers=READERS) as threads:
            try:
                while waiting or reading:
                    while waiting and len(reading) < 2 * self.size:  # the next batch is read while this one is judged
                        index = waiting.popleft()
                        reading.append((index, threads.submit(self.read, items[index][0])))
                    batch = [reading.popleft() for _ in range(min(self.size, len(reading)))]
                    self._judge_batch(batch, items, results)
                    report(len(results))
            finally:
                for _, future in reading:
                    if not future.cancel() and future.exception() is None:
                        future.result().close()
        return [results[index] for index in range(len(items))]

    def _judge_batch(
        self,
        batch: Sequence[tuple[int, Future[ReadVideo]]],
        items: Sequence[tuple[Any, str]],
        results: dict[int, Judgement | Exception],
    ) -> None:
        start = time.monotonic()
        opened: list[ReadVideo] = []
        rows: list[tuple[int, Any]] = []
        try:
            for index, future in batch:
                try:
                    opened.append(future.result())
                    rows.append((index, self.encode(opened[-1].clip, items[index][1])))
                except ITEM_ERRORS as error:
                    self._keep(results, index, error)
            self._judge(rows, start, results)
        finally:
            for video in opened:
                video.close()

    def _judge(self, rows: Sequence[tuple[int, Any]], start: float, results: dict[int, Judgement | Exception]) -> None:
        """Judge rows at once; where that fails, in halves, so that one row's error is its own."""
        if not rows:
            return
        try:
            judgements = self.judge_rows(rows, start)
        except ITEM_ERRORS as error:
            no_room = self.shrink and isinstance(error, torch.OutOfMemoryError)
            if len(rows) == 1 or not (self.keep_errors or no_room):
                self._keep(results, rows[0][0], error)
                return
            if no_room:
                self.size = max(1, len(rows) // 2)
        else:
            results |= {index: judgement for (index, _), judgement in zip(rows, judgements, strict=True)}
            return
        # Outside of the handler, whose traceback would keep the failed batch in memory.
        middle = len(rows) // 2
        self._judge(rows[:middle], start, results)
        self._judge(rows[middle:], start, results)

    def _keep(self, results: dict[int, Judgement | Exception], index: int, error: Exception) -> None:
        if not self.keep_errors:
            raise error
        results[index] = error


@contextmanager
def _reporter(progress: Progress, total: int) -> Iterator[Callable[[int], object]]:
    """Yield what is called with the number of finished items."""
    if callable(progress):
        yield lambda done: progress(done, total)
        return
    with tqdm(total=total, unit="video", disable=not progress) as bar:
        yield lambda done: bar.update(done - bar.n)
