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
from app.serving.judging_queue import Visitor
from app.serving.serving import Served, Serving
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
    with serving.queue.enter(visitor) as ticket:
        while not ticket.wait(PLACE_SECONDS, cancel.is_set) and not cancel.is_set():
            yield Answer(phase="running", mode=mode, scale=serving.now.scale(mode), place=ticket.place)
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
            events = served.require_model().stream(paths, subject.prompt, mode, k=k, cancel=cancel, lane=lane)
            begun = Answer(phase="running", mode=mode, scale=served.scale(mode))
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
    stored = _recall(served, database, subject, mode, k)
    answer = Answer(phase="running", mode=mode, scale=served.scale(mode))
    return None if stored is None else _from_store(served, answer, subject, stored)


def _grown(answer: Answer, event: Event) -> Answer:
    if isinstance(event, Verdict):
        seconds = max(video.seconds for video in event.videos)
        return replace(answer, phase="done", comparison=event, status=f"judged in {seconds:.1f} s by {event.checkpoint}")
    sides = list(answer.sides)
    side = sides[event.index]
    if isinstance(event, ThoughtDelta):
        sides[event.index] = replace(side, raw=side.raw + event.text)
    else:
        sides[event.index] = VideoAnswer(event.judgement.thought, event.judgement)
    return replace(answer, sides=(sides[0], sides[1]))


def _questions(served: Served, subject: Subject, mode: Mode, k: int) -> list[Question]:
    return [Question(video.id, subject.prompt, served.fingerprint, mode, k) for video in subject.videos]


def _recall(served: Served, database: Database, subject: Subject, mode: Mode, k: int) -> list[StoredJudgement] | None:
    """Return the stored judgement of each video, or None if one is missing."""
    with database.read() as session:
        found = [find_judgement(session, question) for question in _questions(served, subject, mode, k)]
    stored = [judgement for judgement in found if judgement is not None]
    return stored if len(stored) == len(found) else None


def _remember(served: Served, database: Database, subject: Subject, k: int, comparison: Verdict) -> None:
    with database.write() as session:
        for question, judgement in zip(_questions(served, subject, comparison.mode, k), comparison.videos, strict=True):
            values = asdict(judgement)
            record = JudgementRecord(checkpoint=comparison.checkpoint, **{name: values[name] for name in _RECORDED})
            save_judgement(session, question, record)


def _from_store(served: Served, answer: Answer, subject: Subject, stored: list[StoredJudgement]) -> Answer:
    judged = tuple(
        Judgement(path=video.public_id, mode=answer.mode, **{name: getattr(row.record, name) for name in _RECORDED})
        for video, row in zip(subject.videos, stored, strict=True)
    )
    sides = [*(VideoAnswer(judgement.thought, judgement) for judgement in judged), *answer.sides][:2]
    judged_on = max(row.created_at for row in stored)
    return replace(
        answer,
        phase="done",
        sides=(sides[0], sides[1]),
        comparison=served.compare(answer.mode, subject.prompt, judged),
        from_store=True,
        status=f"from the store, judged {judged_on:%Y-%m-%d %H:%M} UTC",
    )
