"""Judging the rows of one request, in a thread of the queue: kept results first, the engine for the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descore.batch_scoring import items_at_once
from descore.engines.engine import FinishedThought
from descore.errors import PromptError, RewardError
from descore.judgement import Event, Judged, Judgement, Mode, ThoughtDelta
from descore.server.errors import ServerError, server_error
from descore.server.memory import BoundedCache, Question, clip_size, question, size_of
from descore.server.metrics import Metrics
from descore.server.served import Served
from descore.server.video_store import VideoStore
from descore.verdicts import judgement_of
from descore.video import JUDGING, VideoError

log = logging.getLogger(__name__)
_READERS = 4  # videos that are read at the same time; how many are decoded is the decoders' business

Thoughts = list[FinishedThought]


@dataclass(frozen=True)
class JudgingRequest:
    """Rows to judge.

    Attributes:
        videos: hashes of stored videos, one a row.
        prompts: one a row.
        mode, k, seed: as in `descore.judge.DeScore.stream`.
    """

    videos: tuple[str, ...]
    prompts: tuple[str, ...]
    mode: Mode
    k: int
    seed: int


@dataclass(frozen=True)
class Finished:
    """The thoughts of all rows, for engines."""

    rows: tuple[Thoughts, ...]


@dataclass(frozen=True)
class Row:
    """One row's result: a judgement, or the error that it met alone."""

    judgement: Judgement | None = None
    error: ServerError | None = None


class Judging:
    """Judges with one checkpoint; threads may share it."""

    def __init__(
        self,
        served: Served,
        store: VideoStore,
        results: BoundedCache[Thoughts],
        clips: BoundedCache[Any],
        metrics: Metrics,
    ) -> None:
        self._served, self._store = served, store
        self._results, self._clips, self._metrics = results, clips, metrics

    def stream(self, request: JudgingRequest, cancelled: threading.Event) -> Iterator[Event | Finished]:
        """Judge the videos of a request together: yield their texts, then `Finished`, judgements and the verdict.

        It ends without them once cancelled. The verdict comes where all rows have one prompt.

        Raises:
            ServerError: a video is not here any more.
            VideoError, PromptError, RewardError: as `DeScore.stream`.
        """
        begun = time.monotonic()
        thoughts: dict[int, Thoughts] = {}
        for index, kept in self._kept(request):
            thoughts[index] = kept
            if kept[0].text:
                yield ThoughtDelta(index, kept[0].text)
        missing = [index for index in range(len(request.videos)) if index not in thoughts]
        for places in self._batches(request, missing):
            with self._store.hold([request.videos[index] for index in places]) as paths:
                clips = self._read(places, request, paths)
            new = yield from self._think(request, places, clips, cancelled)
            if new is None:
                return
            thoughts |= new
        rows = tuple(thoughts[index] for index in range(len(request.videos)))
        yield Finished(rows)
        judged = tuple(self._judgement(request, index, row, begun) for index, row in enumerate(rows))
        for index, judgement in enumerate(judged):
            yield Judged(index, judgement)
        if len(set(request.prompts)) == 1:
            yield self._served.judge.verdict(request.mode, request.prompts[0], judged)

    def score(self, request: JudgingRequest, cancelled: threading.Event) -> list[Row] | None:
        """Judge each row by itself: one with an error costs itself alone; None once cancelled."""
        begun = time.monotonic()
        rows: dict[int, Row] = {}
        for index, kept in self._kept(request):
            rows[index] = Row(self._judgement(request, index, kept, begun))
        missing = [index for index in range(len(request.videos)) if index not in rows]
        for places in self._batches(request, missing):
            if cancelled.is_set():
                return None
            good, clips = self._readable(request, places, rows)
            if good and not self._score_batch(request, good, clips, rows, begun, cancelled):
                return None
        return [rows[index] for index in range(len(request.videos))]

    def _score_batch(
        self,
        request: JudgingRequest,
        places: Sequence[int],
        clips: Sequence[Any],
        rows: dict[int, Row],
        begun: float,
        cancelled: threading.Event,
    ) -> bool:
        """Think about rows together, and alone where one of them spoils the reward of all; False once cancelled."""
        try:
            thinking = self._think(request, places, clips, cancelled)
            while True:
                next(thinking)
        except StopIteration as end:
            new: dict[int, Thoughts] | None = end.value
        except (PromptError, RewardError) as error:
            if len(places) > 1:
                pairs = zip(places, clips, strict=True)
                return all(self._score_batch(request, [i], [c], rows, begun, cancelled) for i, c in pairs)
            self._metrics.rows.labels(request.mode, "error").inc()
            rows[places[0]] = Row(error=server_error(error))
            return True
        if new is None:
            return False
        rows.update({index: Row(self._judgement(request, index, row, begun)) for index, row in new.items()})
        return True

    def _readable(self, request: JudgingRequest, places: Sequence[int], rows: dict[int, Row]) -> tuple[list[int], list[Any]]:
        """Read the videos of rows; those that can't be read, or have no prompt, get their error."""
        good, clips = [], []
        for index in places:
            try:
                self._served.judge.check_prompt(request.prompts[index])
                with self._store.hold([request.videos[index]]) as paths:
                    clips += self._read([index], request, paths)
                good.append(index)
            except (VideoError, PromptError, ServerError) as error:
                self._metrics.rows.labels(request.mode, "error").inc()
                rows[index] = Row(error=server_error(error))
        return good, clips

    def _think(
        self, request: JudgingRequest, places: Sequence[int], clips: Sequence[Any], cancelled: threading.Event
    ) -> Generator[ThoughtDelta, None, dict[int, Thoughts] | None]:
        """Yield the texts of some rows under their places in the request; return their thoughts, None once cancelled."""
        engine = self._served.judge.engine
        rows = [engine.encode(clip, request.prompts[index]) for index, clip in zip(places, clips, strict=True)]
        thinking = engine.think(rows, request.mode, request.k, request.seed, cancelled)
        try:
            while True:
                delta = next(thinking)
                yield ThoughtDelta(places[delta.index], delta.text)
        except StopIteration as end:
            thoughts: list[Thoughts] | None = end.value
        finally:
            thinking.close()
        if thoughts is None:
            self._metrics.rows.labels(request.mode, "cancelled").inc(len(places))
            return None
        new = dict(zip(places, thoughts, strict=True))
        for index, row in new.items():
            self._results.put(self._question(request, index), row, size_of(row))
            self._metrics.count_tokens(sum(self._tokens(thought) for thought in row))
        self._metrics.rows.labels(request.mode, "judged").inc(len(places))
        return new

    def _tokens(self, thought: FinishedThought) -> int:
        if thought.log_probs or not thought.text:
            return len(thought.log_probs)
        return self._served.judge.engine.count_tokens(thought.text)

    def _kept(self, request: JudgingRequest) -> Iterator[tuple[int, Thoughts]]:
        for index in range(len(request.videos)):
            kept = self._results.get(self._question(request, index))
            self._metrics.cache.labels("miss" if kept is None else "hit").inc()
            if kept is not None:
                self._metrics.rows.labels(request.mode, "cached").inc()
                yield index, kept

    def _read(self, places: Sequence[int], request: JudgingRequest, paths: Sequence[Path]) -> list[Any]:
        def read(index: int, path: Path) -> Any:
            return self.clip(request.videos[index], path)

        if len(places) == 1:
            return [read(places[0], paths[0])]
        with ThreadPoolExecutor(max_workers=min(_READERS, len(places))) as threads:
            return list(threads.map(read, places, paths))

    def clip(self, video: str, path: Path) -> Any:
        """Return what the engine reads of a stored video.

        Raises:
            VideoError: it can't be used.
        """
        key = (video, self._served.fingerprint)
        clip = self._clips.get(key)
        if clip is None:
            clip = self._served.judge.engine.read(path, JUDGING)
            self._clips.put(key, clip, clip_size(clip))
        return clip

    def _question(self, request: JudgingRequest, index: int) -> Question:
        fingerprint, prompt = self._served.fingerprint, request.prompts[index]
        return question(request.videos[index], prompt, fingerprint, request.mode, request.k, request.seed)

    def _judgement(self, request: JudgingRequest, index: int, thoughts: Thoughts, begun: float) -> Judgement:
        seconds = time.monotonic() - begun
        return judgement_of(self._served.judge.engine, request.videos[index], request.mode, thoughts, seconds)

    def _batches(self, request: JudgingRequest, places: Sequence[int]) -> Iterator[Sequence[int]]:
        size = items_at_once(self._served.judge.engine.rows_at_once(), request.mode, request.k)
        for first in range(0, len(places), size):
            yield places[first : first + size]
