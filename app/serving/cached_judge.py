"""Judging a pair or one video, from the store if that was done before, else by the checkpoint that serves.

    visitor = Visitor(session="a tab", address="192.0.2.1")
    for answer in stream_answer(serving, database, clip_store, pair, "think", k=8, cancel=event, visitor=visitor):
        ...                                  # an Answer: the texts so far; the last one holds the outcome

From the store the answer comes at once, from the model as it thinks, once it is the visitor's turn. A question that was
begun is finished by the checkpoint that began it, even if another one is promoted meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Protocol

from app.clip_store import ClipStore
from app.serving.answer import Answer, VideoAnswer
from app.serving.judging_queue import Ticket, Visitor
from app.serving.serving import Served, Serving
from descore.calibration import ModeCalibration
from descore.judgement import Event, Judgement, Mode, ThoughtDelta, Verdict
from descore.video import Lane
from storage import Database, StorageError
from storage.judgements import JudgementRecord, Question, StoredJudgement, find_judgement, save_judgement
from storage.pairs import Video

log = logging.getLogger(__name__)

UPDATE_SECONDS = 0.06  # streamed text reaches the page in steps of at least this length
PLACE_SECONDS = 1.0  # between two updates of the place in the queue
CANCELLED = "Cancelled; nothing was kept."
_RECORDED = tuple(field.name for field in fields(JudgementRecord) if field.name != "checkpoint")


class Subject(Protocol):
    """Videos of one prompt: a stored `Pair`, or a `VideoOfPrompt`."""

    @property
    def videos(self) -> tuple[Video, ...]:
        """The videos: one, or A and B."""
        ...

    @property
    def prompt(self) -> str:
        """What they were asked to show."""
        ...


@dataclass(frozen=True)
class VideoOfPrompt:
    """One video, to be judged alone."""

    video: Video
    prompt: str

    @property
    def videos(self) -> tuple[Video, ...]:
        """The video."""
        return (self.video,)


@dataclass(frozen=True)
class Recall:
    """Which judgements to read from the store, and how to show them.

    Attributes:
        fingerprint, mode, k: as in `storage.judgements.Question`.
        scale: the calibration that they are shown with.
        compare: makes the verdict from the judgements.
    """

    fingerprint: str
    mode: Mode
    k: int
    scale: ModeCalibration | None
    compare: Callable[[tuple[Judgement, ...]], Verdict]


@dataclass(frozen=True)
class _Turns:
    """What is asked before each step of the model: it waits while others go first, and ends when the visitor has left."""

    ticket: Ticket
    left: threading.Event

    def is_set(self) -> bool:
        self.ticket.give_way(self.left.is_set)
        return self.left.is_set()


def stream_answer(
    serving: Serving,
    database: Database,
    clip_store: ClipStore,
    subject: Subject,
    mode: Mode,
    k: int,
    cancel: threading.Event,
    visitor: Visitor,
) -> Iterator[Answer]:
    """Yield the growing answer about a pair or a video; the last one has the outcome, unless it was cancelled.

    An outcome that the store can't keep (a full disk, say) is shown all the same, and says so.

    While others are before this visitor, the answer says the place in the queue, about once a second.

    Raises:
        descore.video.VideoError: a video can't be used.
        ValueError: the prompt, the mode or k can't be used.
        descore.errors.RewardError: there is no finite reward.
        ModelAsideError: the store has no answer, and the model is offloaded for a training run.
        QueueFullError: this visitor, or everybody together, has as many judgements waiting as may be.
        StorageError: the store can't be read.
    """
    stored = stored_answer(serving.now, database, subject, mode, k)
    if stored is not None:
        yield stored
        return
    serving.now.require_model()
    with serving.queue.enter(visitor, large=mode == "k") as ticket:
        while not ticket.wait(PLACE_SECONDS, cancel.is_set) and not cancel.is_set():
            yield Answer(phase="running", mode=mode, scale=serving.now.scale(mode), place=ticket.place, k=_thoughts(mode, k))
        if cancel.is_set():
            yield Answer(phase="cancelled", mode=mode, status=CANCELLED)
            return
        # Meanwhile somebody else may have asked the same, or another checkpoint may have been promoted.
        with serving.in_use() as served:
            stored = stored_answer(served, database, subject, mode, k)
            if stored is not None:
                yield stored
                return
            paths = [clip_store.original(video) for video in subject.videos]
            lane = Lane("judging", visitor.origin)
            turns = _Turns(ticket, cancel)
            events = served.require_model().stream(paths, subject.prompt, mode, k=k, cancel=turns, lane=lane)
            begun = Answer(phase="running", mode=mode, scale=served.scale(mode), k=_thoughts(mode, k))
            yield from _growing(begun, events, partial(_remember, served, database, subject, k))


def _growing(answer: Answer, events: Iterator[Event], keep: Callable[[Verdict], None]) -> Iterator[Answer]:
    """Yield the answer as the events of a judgement come in, and keep its verdict in the store."""
    yield answer
    shown_at = 0.0
    for event in events:
        answer = _grown(answer, event)
        if isinstance(event, Verdict):
            try:
                keep(event)
            except StorageError as error:
                log.error("a judgement could not be kept: %s", error)
                answer = replace(answer, kept=False, status=f"{answer.status}; not kept: {error}")
        if isinstance(event, Verdict) or time.monotonic() - shown_at >= UPDATE_SECONDS:
            yield answer
            shown_at = time.monotonic()
    if answer.comparison is None:
        yield replace(answer, phase="cancelled", status=CANCELLED)


def stored_answer(served: Served, database: Database, subject: Subject, mode: Mode, k: int = 0) -> Answer | None:
    """Return a checkpoint's answer about a pair or a video if the store has it; the weights are not needed for that.

    Raises:
        StorageError: the store can't be read.
    """
    compare = partial(served.compare, mode, subject.prompt)
    return recalled_answer(database, subject, Recall(served.fingerprint, mode, k, served.scale(mode), compare))


def recalled_answer(database: Database, subject: Subject, recall: Recall) -> Answer | None:
    """Return any checkpoint's answer if the store has it.

    Raises:
        StorageError: the store can't be read.
    """
    questions = _questions(recall.fingerprint, subject, recall.mode, recall.k)
    with database.read() as session:
        found = [find_judgement(session, question) for question in questions]
    stored = [judgement for judgement in found if judgement is not None]
    return _from_store(recall, subject, stored) if len(stored) == len(found) else None


def _grown(answer: Answer, event: Event) -> Answer:
    if isinstance(event, Verdict):
        seconds = max(video.seconds for video in event.videos)
        by = f"{event.checkpoint} ({event.engine})"
        return replace(answer, phase="done", comparison=event, status=f"judged in {seconds:.1f} s by {by}")
    sides = list(answer.sides)
    side = sides[event.index]
    if isinstance(event, ThoughtDelta):
        sides[event.index] = replace(side, raw=side.raw + event.text)
    else:
        sides[event.index] = VideoAnswer(event.judgement.thought, event.judgement)
    return replace(answer, sides=(sides[0], sides[1]))


def _thoughts(mode: Mode, k: int) -> int:
    return k if mode == "k" else 0


def _questions(fingerprint: str, subject: Subject, mode: Mode, k: int) -> list[Question]:
    return [Question(video.id, subject.prompt, fingerprint, mode, k) for video in subject.videos]


def _remember(served: Served, database: Database, subject: Subject, k: int, comparison: Verdict) -> None:
    with database.write() as session:
        for question, judgement in zip(
            _questions(served.fingerprint, subject, comparison.mode, k), comparison.videos, strict=True
        ):
            values = asdict(judgement)
            record = JudgementRecord(checkpoint=comparison.checkpoint, **{name: values[name] for name in _RECORDED})
            save_judgement(session, question, record)


def _from_store(recall: Recall, subject: Subject, stored: list[StoredJudgement]) -> Answer:
    judged = tuple(
        Judgement(path=video.public_id, mode=recall.mode, **{name: getattr(row.record, name) for name in _RECORDED})
        for video, row in zip(subject.videos, stored, strict=True)
    )
    sides = [*(VideoAnswer(judgement.thought, judgement) for judgement in judged), VideoAnswer()]
    judged_on = max(row.created_at for row in stored)
    engines = ", ".join(dict.fromkeys(row.record.engine for row in stored if row.record.engine))
    return Answer(
        phase="done",
        mode=recall.mode,
        sides=(sides[0], sides[1]),
        comparison=recall.compare(judged),
        scale=recall.scale,
        from_store=True,
        status=f"from the store, judged {judged_on:%Y-%m-%d %H:%M} UTC" + (f" ({engines})" if engines else ""),
        k=_thoughts(recall.mode, recall.k),
    )
