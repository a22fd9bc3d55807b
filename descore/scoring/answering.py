"""Answering of a table's questions: batches of the model, with decoding ahead of it.

    run = Answering(lambda: judge, questions, results, ScoreConfig("quick"), out=None)
    run.compute()
    run.judged, run.failed

Batches are cut by the numbers of the distinct questions, and a batch's answers are kept all or none, in their order. So a
run that was killed makes the same batches again, and with them the very same rewards as one that was left alone. As many
batches are under way as the engine gains from.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING, Any, TextIO

from descore.batch_scoring import items_at_once
from descore.errors import PromptError, RewardError
from descore.scoring.progress import Progress
from descore.scoring.read_ahead import read_ahead
from descore.scoring.results_file import Answer, ResultsFile
from descore.video import TABLE_PROCESSES, TABLES, VideoError

if TYPE_CHECKING:
    from descore.checkpoints.manifest import Manifest
    from descore.judge import DeScore
    from descore.scoring.config import ScoreConfig
    from descore.scoring.questions import Questions, Slot

_BATCHES_AHEAD = 3
_MOST_CALLS = 64
_BYTES_AHEAD = 1 << 29  # of decoded frames: a clip of 64 frames of a megapixel has 200 MB
Todo = tuple["Slot", str | None]  # a question, and what is wrong with it
Read = tuple[Any, str | None]  # a clip, or why there is none


class Answering:
    """One run over the questions of a table.

    Attributes:
        questions, results: what is asked, and where answers are kept.
        size: questions in a batch.
        distinct: questions that were walked through.
        judged, failed: of them by this run; those that were left failed count too.
        progress: counts, times and their line.
    """

    def __init__(
        self,
        load: Callable[[], DeScore],
        questions: Questions,
        results: ResultsFile,
        config: ScoreConfig,
        out: TextIO | None,
    ) -> None:
        self._load, self.questions, self.results, self._config = load, questions, results, config
        self._judge: DeScore | None = None
        self._missing, self._cancelled = 0, threading.Event()
        self.size = items_at_once(config.batch_size, config.mode, config.k)
        self.distinct = self.judged = self.failed = 0
        self.progress = Progress(questions.last_positions(), len(questions), out)

    @property
    def manifest(self) -> Manifest | None:
        """Of the judge, where one was needed."""
        return self._judge.manifest if self._judge else None

    def compute(self) -> None:
        """Answer what has no answer yet, in batches; reading runs ahead."""
        hashing = ThreadPoolExecutor(2, thread_name_prefix="hash")
        reading = ThreadPoolExecutor(TABLE_PROCESSES, thread_name_prefix="read")
        judging = ThreadPoolExecutor(_MOST_CALLS, thread_name_prefix="judge")
        under_way: deque[tuple[int, Future[list[Answer]]]] = deque()
        try:
            depth = _BATCHES_AHEAD * max(self.size, TABLE_PROCESSES)
            ahead = read_ahead(reading, self._read, self._todo(hashing), depth, _bytes, _BYTES_AHEAD)
            batches = groupby(ahead, lambda item: item[0][0].number // self.size)
            while True:
                with self.progress.waiting("decoding"):
                    batch = next(((number, list(items)) for number, items in batches), None)
                if batch is None:
                    break
                assert self._judge is not None
                if len(under_way) >= min(self._judge.engine.batches_at_once, _MOST_CALLS):
                    self._keep(*under_way.popleft())
                items = batch[1]
                under_way.append((items[-1][0][0].position + 1, judging.submit(self._answers, items)))
            while under_way:
                self._keep(*under_way.popleft())
        finally:
            self._cancelled.set()
            for threads in (hashing, reading, judging):
                threads.shutdown(wait=False, cancel_futures=True)
        if self._missing:
            raise ValueError(
                f"{self._missing:,} videos have no answer in any shard; run the shards that are left, then merge"
            )
        self.progress.reached(len(self.questions))
        self.progress.finish()

    def _keep(self, position: int, answers: Future[list[Answer]]) -> None:
        """Wait for the answers of a batch, and keep them."""
        with self.progress.waiting("model"):
            kept = answers.result()
        self.results.append(kept)
        self.failed += sum(answer.error is not None for answer in kept)
        self.judged += sum(answer.error is None for answer in kept)
        self.progress.reached(position)

    def _todo(self, threads: ThreadPoolExecutor) -> Iterator[Todo]:
        """Walk through the questions and yield those that are this run's to answer, with what is known to be wrong."""
        config, results = self._config, self.results
        for slot in self.questions.slots(threads):
            self.distinct += 1
            is_ours = config.shard is None or slot.number // self.size % config.shard[1] == config.shard[0] - 1
            if not is_ours:
                continue
            if slot.key in results and (config.keep_errors or config.merge or not results.has_failed(slot.key)):
                self.failed += results.has_failed(slot.key)
            elif config.merge:
                self._missing += 1
            else:
                if self._judge is None:
                    with self.progress.waiting("loading"):
                        self._judge = self._load()
                yield slot, self._prompt_error(slot.prompt) or slot.video.error

    def _prompt_error(self, prompt: str) -> str | None:
        assert self._judge is not None
        try:
            self._judge.check_prompt(prompt)
        except PromptError as error:
            return str(error)
        return None

    def _read(self, todo: Todo) -> Read:
        (slot, error), judge = todo, self._judge
        assert judge is not None
        if error is not None:
            return None, error
        try:
            clip = judge.engine.read(slot.video.path, TABLES)
        except VideoError as unreadable:
            return None, str(unreadable)
        if not slot.video.is_unchanged:
            return None, f"{slot.video.path.name}: it was changed while it was read; run the command again"
        return clip, None

    def _answers(self, batch: Sequence[tuple[Todo, Read]]) -> list[Answer]:
        good = [(slot, clip) for (slot, _), (clip, error) in batch if error is None]
        answers = [_answer(slot, error=error) for (slot, _), (_, error) in batch if error is not None]
        return answers + self._judged(good)

    def _judged(self, batch: Sequence[tuple[Slot, Any]]) -> list[Answer]:
        """Judge a batch; where that fails, one video after the other, so that a bad one costs itself alone."""
        if not batch:
            return []
        judge, config = self._judge, self._config
        assert judge is not None
        slots, clips = [slot for slot, _ in batch], [clip for _, clip in batch]
        paths, prompts = [slot.video.path for slot in slots], [slot.prompt for slot in slots]
        try:
            judgements = judge.score_clips(clips, paths, prompts, config.mode, config.k, config.seed, self._cancelled)
        except (ValueError, RewardError) as error:
            if len(batch) == 1:
                return [_answer(slots[0], error=str(error))]
            return [answer for item in batch for answer in self._judged([item])]
        return [_answer(slot, judgement) for slot, judgement in zip(slots, judgements, strict=True)]


def _answer(slot: Slot, judgement: Any = None, error: str | None = None) -> Answer:
    return Answer(slot.key, slot.video.identity, slot.prompt, judgement, error)


def _bytes(read: Read) -> int:
    frames = getattr(read[0], "frames", None)
    return int(getattr(frames, "nbytes", 0))
