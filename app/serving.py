"""The checkpoint that answers, and what was asked of it before.

    served = Served.load("bundled")
    for said in answer(served, database, shelf, pair, "think", k=8, cancel=event):
        ...                                  # Said: the texts so far; the last one holds the verdict

The answer comes from the store at once if the same question was asked before, else from the model as it thinks.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from app.clips import ClipShelf
from app.components.verdict import Said, Side
from descore import DeScore
from descore.calibration import ModeCalibration
from descore.checkpoint import MANIFEST_FILE, locate
from descore.events import Judged, Judgement, Mode, ThoughtDelta, Verdict
from storage import Database
from storage.judgements import JudgementRecord, Question, StoredJudgement, find_judgement, save_judgement
from storage.pairs import Pair

UPDATE_SECONDS = 0.06  # streamed text reaches the page in steps of at least this length
_RECORDED = tuple(field.name for field in fields(JudgementRecord) if field.name != "checkpoint")


@dataclass(frozen=True)
class Served:
    """One loaded checkpoint. `fingerprint` changes with anything in it."""

    model: DeScore
    fingerprint: str

    @classmethod
    def load(cls, checkpoint: str) -> Served:
        """Load a checkpoint by name, folder or Hub id.

        Raises:
            descore.errors.CheckpointError: there is none, or it can't be used.
        """
        folder, _ = locate(checkpoint)
        return cls(DeScore.from_pretrained(checkpoint), fingerprint(folder))

    @property
    def knows(self) -> str:
        """What it was trained on, in a few words."""
        if not self.model.has_reward:
            return "a backbone without a trained scoring module: thoughts and sub-scores, no reward"
        return self.model.manifest.trained_on or "its card does not say what it was trained on"

    def scale(self, mode: Mode) -> ModeCalibration | None:
        """The calibration that the rewards of a mode are read with."""
        return self.model.manifest.calibration.for_mode(mode) if self.model.has_reward else None


def fingerprint(folder: Path) -> str:
    """Identifies a checkpoint's content: its manifest lists every file with its hash.

    A bare backbone has no manifest; there the files' names, sizes and times must do.
    """
    manifest = folder / MANIFEST_FILE
    if manifest.is_file():
        return hashlib.sha256(manifest.read_bytes()).hexdigest()
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def answer(
    served: Served, database: Database, shelf: ClipShelf, pair: Pair, mode: Mode, k: int, cancel: threading.Event
) -> Iterator[Said]:
    """The answer to one question about one pair, growing; the last one has the verdict, unless it was cancelled.

    Raises:
        descore.video.VideoError, ValueError, RewardError: a video, the prompt or the mode can't be used.
        StorageError: the store can't be read or written.
    """
    said = Said(phase="running", mode=mode, scale=served.scale(mode))
    stored = _recall(served, database, pair, mode, k)
    if stored is not None:
        yield _from_store(served, said, pair, stored)
        return
    yield said
    paths = [shelf.original(pair.video_a), shelf.original(pair.video_b)]
    shown_at = 0.0
    for event in served.model.stream(paths, pair.prompt, mode, k=k, cancel=cancel):
        said = _grown(said, event)
        if isinstance(event, Verdict):
            _remember(served, database, pair, event, k)
        if isinstance(event, Verdict) or time.monotonic() - shown_at >= UPDATE_SECONDS:
            yield said
            shown_at = time.monotonic()
    if said.verdict is None:
        yield replace(said, phase="cancelled", status="Cancelled; nothing was kept.")


def _grown(said: Said, event: ThoughtDelta | Judged | Verdict) -> Said:
    if isinstance(event, Verdict):
        seconds = max(video.seconds for video in event.videos)
        return replace(said, phase="done", verdict=event, status=f"judged in {seconds:.1f} s")
    sides = list(said.sides)
    side = sides[event.index]
    if isinstance(event, ThoughtDelta):
        sides[event.index] = replace(side, raw=side.raw + event.text)
    else:
        sides[event.index] = Side(event.judgement.thought, event.judgement)
    return replace(said, sides=(sides[0], sides[1]))


def _questions(served: Served, pair: Pair, mode: Mode, k: int) -> tuple[Question, Question]:
    a, b = (Question(video.id, pair.prompt, served.fingerprint, mode, k) for video in (pair.video_a, pair.video_b))
    return a, b


def _recall(
    served: Served, database: Database, pair: Pair, mode: Mode, k: int
) -> tuple[StoredJudgement, StoredJudgement] | None:
    """Both videos' stored judgements, or None if either is missing."""
    with database.read() as session:
        a, b = (find_judgement(session, question) for question in _questions(served, pair, mode, k))
    return None if a is None or b is None else (a, b)


def _remember(served: Served, database: Database, pair: Pair, verdict: Verdict, k: int) -> None:
    with database.write() as session:
        for question, judgement in zip(_questions(served, pair, verdict.mode, k), verdict.videos, strict=True):
            values = asdict(judgement)
            record = JudgementRecord(checkpoint=verdict.checkpoint, **{name: values[name] for name in _RECORDED})
            save_judgement(session, question, record)


def _from_store(served: Served, said: Said, pair: Pair, stored: tuple[StoredJudgement, StoredJudgement]) -> Said:
    videos = (pair.video_a, pair.video_b)
    a, b = (
        Judgement(path=video.public_id, mode=said.mode, **{name: getattr(one.record, name) for name in _RECORDED})
        for video, one in zip(videos, stored, strict=True)
    )
    judged_on = max(one.created_at for one in stored)
    return replace(
        said,
        phase="done",
        sides=(Side(a.thought, a), Side(b.thought, b)),
        verdict=served.model.verdict(said.mode, pair.prompt, (a, b)),
        from_store=True,
        status=f"from the store, judged {judged_on:%Y-%m-%d %H:%M} UTC",
    )
