"""Scoring runs: judge pairs of the store for the benchmarks, leaderboard and findings of the Analyse page.

    summary = score(database, run, "bundled", on_progress, stop)
    summary.sentence

The run's request selects the pairs: {"sources": [names] or null, "campaigns": [ids] or null, "pairs": [ids] or null,
"modes": ["think", "quick"]}; without sources, campaigns and pairs all of them. Each answer is kept as it comes, so a run
that is stopped or killed goes on where it was, and pairs that the app has judged before are not judged again. A video that
can't be read costs its pair.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from descore.checkpoints.folder import folder_fingerprint, locate
from descore.errors import RewardError
from descore.judge import DeScore
from descore.judgement import MODES, Judgement, Mode
from descore.video import VideoError, read_clip
from storage import Database, StorageError
from storage.analysis.judged_pairs import analysed_pairs
from storage.analysis.video_stats import VideoStats, save_video_stats, video_stats
from storage.errors import NotInStoreError
from storage.judgements import JudgementRecord, Question, find_judgement, save_judgement
from storage.pairs import Pair, Video, get_pair
from storage.video_files import video_path
from trainer.data.video_stats import POLICY, measure

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.training.runs import Run
    from trainer.engine.stop_signals import StopSignals
    from trainer.evaluation.held_out import OnProgress

log = logging.getLogger(__name__)

PAIRS_AT_ONCE = 8
DEFAULT_MODES: tuple[Mode, ...] = ("think", "quick")
_RECORDED = tuple(field.name for field in fields(JudgementRecord) if field.name != "checkpoint")


@dataclass(frozen=True)
class ScoringSummary:
    """Result of a scoring.

    Attributes:
        pairs: of the request.
        judged: by this call.
        known: judged before.
        problems: pairs that failed, and why.
        complete: no signal ended it early.
    """

    pairs: int
    judged: int
    known: int
    problems: tuple[str, ...]
    complete: bool

    @property
    def sentence(self) -> str:
        """For people."""
        lost = f"; {len(self.problems)} could not be judged, such as {self.problems[0]}" if self.problems else ""
        return f"{self.pairs} pairs: {self.judged} judged, {self.known} were known{lost}"


def score(database: Database, run: Run, checkpoint: str, on_progress: OnProgress, stop: StopSignals) -> ScoringSummary:
    """Judge the pairs of a request that are not judged yet, in batches.

    Args:
        checkpoint: as `DeScore.from_pretrained` takes it.
        on_progress: called with the number of finished pairs and of all pairs.

    Raises:
        StorageError: the request names something unknown.
        descore.errors.CheckpointError, descore.errors.RewardError: the checkpoint can't be used for it.
    """
    modes, fingerprint = _modes(run), folder_fingerprint(locate(checkpoint)[0])
    with database.read() as session:
        sources, campaigns = run.request.get("sources"), run.request.get("campaigns")
        pairs = analysed_pairs(session, fingerprint, sources=sources, campaign_ids=campaigns)
    named = run.request.get("pairs")
    if named is not None:
        wanted = set(named)
        pairs = tuple(pair for pair in pairs if pair.pair_id in wanted)
    todo = [pair.pair_id for pair in pairs if None in pair.video_stats or any(getattr(pair, mode) is None for mode in modes)]
    known, done = len(pairs) - len(todo), 0
    on_progress(known, len(pairs))
    work = _Scoring(database, modes, DeScore.from_pretrained(checkpoint), fingerprint)
    for first in range(0, len(todo), PAIRS_AT_ONCE):
        if stop.received:
            break
        batch = todo[first : first + PAIRS_AT_ONCE]
        work.judge(batch)
        done += len(batch)
        on_progress(known + done, len(pairs))
    judged = done - len(work.problems)
    return ScoringSummary(len(pairs), judged, known, tuple(work.problems), complete=done == len(todo))


class _Scoring:
    """Judging of pairs of the store by one checkpoint."""

    def __init__(self, database: Database, modes: tuple[Mode, ...], judge: DeScore, fingerprint: str) -> None:
        if not judge.has_reward and "quick" in modes:
            raise RewardError(f"{judge.name} has no trained scoring module; ask for mode think alone")
        self.problems: list[str] = []
        self._database, self._modes, self._judge, self._fingerprint = database, modes, judge, fingerprint
        # More rows fill a CPU better; on a GPU an 8B's cache of long thoughts is what they cost.
        self._rows = 2 * PAIRS_AT_ONCE if judge.model.backbone.device.type == "cpu" else PAIRS_AT_ONCE

    def judge(self, pair_ids: Sequence[int]) -> None:
        """Judge pairs and measure their videos; where one can't be read, one pair after the other."""
        with self._database.read() as session:
            pairs = [get_pair(session, pair_id) for pair_id in pair_ids]
        try:
            self._judge_all(pairs)
        except (VideoError, ValueError, RewardError, NotInStoreError) as error:
            if len(pairs) == 1:
                self.problems.append(f"pair {pairs[0].id}: {error}")
                log.warning("left out: %s", self.problems[-1])
                return
            for pair in pairs:
                self.judge([pair.id])

    def _judge_all(self, pairs: Sequence[Pair]) -> None:
        with self._database.read() as session:
            missing, unmeasured = self._missing(session, pairs), _unmeasured(session, pairs)
        facts = [self._facts(video) for video in unmeasured]
        answers: list[tuple[Question, Judgement]] = []
        for mode in self._modes:
            open_questions = [(video, question) for video, question in missing if question.mode == mode]
            if open_questions:
                paths = [self._path(video) for video, _ in open_questions]
                prompts = [question.prompt for _, question in open_questions]
                judgements = self._judge.score(paths, prompts, mode, batch_size=self._rows)
                questions = [question for _, question in open_questions]
                answers += zip(questions, judgements, strict=True)
        with self._database.write() as session:
            save_video_stats(session, facts)
            for question, judgement in answers:
                values = asdict(judgement)
                record = JudgementRecord(checkpoint=self._judge.name, **{name: values[name] for name in _RECORDED})
                save_judgement(session, question, record)

    def _missing(self, session: Session, pairs: Iterable[Pair]) -> list[tuple[Video, Question]]:
        """Questions without an answer; one that several pairs share comes once."""
        missing: dict[Question, Video] = {}
        for pair in pairs:
            for video in (pair.video_a, pair.video_b):
                for mode in self._modes:
                    question = Question(video.id, pair.prompt, self._fingerprint, mode)
                    if question not in missing and find_judgement(session, question) is None:
                        missing[question] = video
        return [(video, question) for question, video in missing.items()]

    def _path(self, video: Video) -> Path:
        return video_path(video.file, self._database.home)

    def _facts(self, video: Video) -> VideoStats:
        path = self._path(video)
        return VideoStats(video.id, **asdict(measure(read_clip(path, POLICY))), file_bytes=path.stat().st_size)


def _unmeasured(session: Session, pairs: Iterable[Pair]) -> list[Video]:
    videos = {video.id: video for pair in pairs for video in (pair.video_a, pair.video_b)}
    known = video_stats(session, list(videos))
    return [video for video_id, video in videos.items() if video_id not in known]


def _modes(run: Run) -> tuple[Mode, ...]:
    requested: Sequence[Mode] = run.request.get("modes") or DEFAULT_MODES
    modes = tuple(mode for mode in MODES if mode in requested and mode != "k")
    if len(modes) != len(requested):
        raise StorageError(f"a scoring run has the modes think and quick (got {', '.join(map(str, requested))})")
    return modes
