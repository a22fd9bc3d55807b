"""Pairs for figures, each with its common answer, a checkpoint's rewards, and what was measured of its videos.

    pairs = analysed_pairs(session, checkpoint.fingerprint, sources=["genai-bench"])
    pairs[0].choice, pairs[0].think.rewards, pairs[0].generators

A handful of queries, however many pairs: 20,000 take a few seconds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from sqlalchemy import Row, Text, cast, func, select
from sqlalchemy.orm import Session, aliased

from storage.analysis.video_stats import VideoStats, stats_of
from storage.labelling.consensus import Consensus, iterate_consensus
from storage.schema import CampaignPairRow, JudgementRow, PairRow, VideoRow, VideoStatsRow
from storage.splits import SplitBy, is_held_out, pair_identity, split_key

Preference = Literal["A", "B", "tie"]
_CHOICE: dict[str | None, Preference | None] = {"A": "A", "B": "B", "tie": "tie", "both_bad": "tie", None: None}
_FEW = 1000  # ids that are listed in a query rather than looked for in all that it finds


@dataclass(frozen=True)
class PairScore:
    """What a checkpoint gave the two videos of a pair, (A, B).

    Attributes:
        rewards: as the scoring module gave them, not standardised.
        sub_scores: None where a thought can't be read, or mode "quick" has none.
        strict: whether the thought keeps the format.
        thought_chars: its length.
        spread: standard deviation of the rewards over k sampled thoughts, where the pair was judged so too; with mode
            "think" only.
        overall: the overall scores that the thoughts give; None where one gives none.
        distance: of the videos from those that the checkpoint knows, 1.0 at the limit; None where it is not known.
    """

    rewards: tuple[float, float]
    sub_scores: tuple[Mapping[str, str] | None, Mapping[str, str] | None] = field(hash=False)
    strict: tuple[bool, bool]
    thought_chars: tuple[int, int]
    spread: tuple[float, float] | None = None
    overall: tuple[float | None, float | None] = (None, None)
    distance: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class AnalysedPair:
    """A pair for analysis; tuples are of its videos (A, B).

    Attributes:
        identity: `storage.splits.pair_identity`.
        choice, strength, support, labels, human: the common answer of people, see `storage.labelling.consensus.Consensus`;
            both bad counts as a tie; None, 0 and {} without one.
        seconds: the clips' lengths.
        think, quick: None where a reward of either video is missing.
    """

    pair_id: int
    identity: str
    prompt: str
    source: str
    choice: Preference | None
    strength: float | None
    support: float
    labels: int
    human: Mapping[str, Mapping[str, str]] = field(hash=False)
    generators: tuple[str | None, str | None]
    seconds: tuple[float, float]
    fps: tuple[float, float]
    think: PairScore | None
    quick: PairScore | None
    video_stats: tuple[VideoStats | None, VideoStats | None]


def analysed_pairs(
    session: Session,
    fingerprint: str | None,
    *,
    sources: Sequence[str] | None = None,
    campaign_ids: Sequence[int] | None = None,
    held_out_share: float | None = None,
    held_out_by: SplitBy = "pairs",
) -> tuple[AnalysedPair, ...]:
    """Pairs by id, with or without labels and judgements.

    Args:
        fingerprint: of the checkpoint whose judgements are wanted, as in `storage.judgements.Question`; None for none.
        sources: pairs that came from there. campaign_ids: pairs in one of these, and the labels given there; without
            them all labels count.
        held_out_share: the held-out pairs only. held_out_by: as in `storage.training.snapshot_config`.
    """
    rows = _pairs(session, sources, campaign_ids)
    identities = {row.id: pair_identity(row.sha_a, row.sha_b, row.prompt) for row in rows}
    if held_out_share is not None:
        keys = {row.id: split_key(held_out_by, identities[row.id], row.prompt) for row in rows}
        rows = [row for row in rows if is_held_out(keys[row.id], held_out_share)]
    narrowed = sources is not None or held_out_share is not None
    among = [row.id for row in rows] if narrowed else None
    common = (
        {consensus.pair_id: consensus for consensus in iterate_consensus(session, campaign_ids, pair_ids=among)}
        if rows
        else {}
    )
    judged = _judged(session, fingerprint, rows) if fingerprint is not None else {}
    video_stats = _video_stats(session, {video for row in rows for video in (row.a, row.b)})
    return tuple(_analysed(row, identities[row.id], common.get(row.id), judged, video_stats) for row in rows)


def _pairs(session: Session, sources: Sequence[str] | None, campaign_ids: Sequence[int] | None) -> list[Row[Any]]:
    a, b = aliased(VideoRow), aliased(VideoRow)
    columns = [PairRow.id, PairRow.prompt, PairRow.prompt_hash, PairRow.source, PairRow.generator_a, PairRow.generator_b]
    for side, video in (("a", a), ("b", b)):
        columns += [
            video.id.label(side),  # type: ignore[list-item]
            video.sha256.label(f"sha_{side}"),  # type: ignore[list-item]
            video.duration.label(f"seconds_{side}"),  # type: ignore[list-item]
            video.fps.label(f"fps_{side}"),  # type: ignore[list-item]
        ]
    statement: Any = select(*columns).join(a, a.id == PairRow.video_a_id).join(b, b.id == PairRow.video_b_id)
    if sources is not None:
        statement = statement.where(PairRow.source.in_(sources))
    if campaign_ids is not None:
        campaign_pairs = select(CampaignPairRow.pair_id).where(CampaignPairRow.campaign_id.in_(campaign_ids))
        statement = statement.where(PairRow.id.in_(campaign_pairs.where(CampaignPairRow.state != "dropped")))
    return list(session.execute(statement.order_by(PairRow.id)))


@dataclass(frozen=True)
class _VideoScore:
    """One checkpoint's judgement of one video in one mode."""

    reward: float | None
    spread: float | None
    sub_scores: Mapping[str, str] | None
    strict: bool
    chars: int
    overall: float | None
    distance: float | None


_Judged = dict[tuple[int, str, str], _VideoScore]


def _judged(session: Session, fingerprint: str, rows: Sequence[Row[Any]]) -> _Judged:
    """(video, prompt hash, mode) -> what was said; of several numbers of thoughts the largest."""
    columns = (
        *(JudgementRow.video_id, JudgementRow.prompt_hash, JudgementRow.mode, JudgementRow.reward),
        *(JudgementRow.reward_spread, JudgementRow.strict_format, func.length(JudgementRow.thought)),
        *(JudgementRow.overall_score, JudgementRow.distance),
    )
    statement: Any = (
        select(*columns, cast(JudgementRow.sub_scores, Text))
        .where(JudgementRow.fingerprint == fingerprint)
        .order_by(JudgementRow.k, JudgementRow.seed.desc())
    )
    videos = {video for row in rows for video in (row.a, row.b)}
    if len(videos) <= _FEW:
        statement = statement.where(JudgementRow.video_id.in_(videos))
    read = cache(json.loads)  # most say the same few things
    found = session.execute(statement)
    return {
        (video_id, prompt_hash, mode): _VideoScore(
            reward, spread, None if scores is None else read(scores), strict, chars, overall, distance
        )
        for video_id, prompt_hash, mode, reward, spread, strict, chars, overall, distance, scores in found
    }


def _video_stats(session: Session, videos: Collection[int]) -> dict[int, VideoStats]:
    statement = select(VideoStatsRow)
    if len(videos) <= _FEW:
        statement = statement.where(VideoStatsRow.video_id.in_(videos))
    return {row.video_id: stats_of(row) for row in session.scalars(statement)}


def _analysed(
    row: Row[Any], identity: str, common: Consensus | None, judged: _Judged, video_stats: Mapping[int, VideoStats]
) -> AnalysedPair:
    return AnalysedPair(
        pair_id=row.id,
        identity=identity,
        prompt=row.prompt,
        source=row.source,
        choice=_CHOICE[common.choice if common else None],
        strength=common.strength if common else None,
        support=common.support if common else 0.0,
        labels=common.labels if common else 0,
        human=common.sub_scores if common else {},
        generators=(row.generator_a, row.generator_b),
        seconds=(row.seconds_a, row.seconds_b),
        fps=(row.fps_a, row.fps_b),
        think=_scored(row, "think", judged),
        quick=_scored(row, "quick", judged),
        video_stats=(video_stats.get(row.a), video_stats.get(row.b)),
    )


def _scored(row: Row[Any], mode: str, judged: _Judged) -> PairScore | None:
    a, b = judged.get((row.a, row.prompt_hash, mode)), judged.get((row.b, row.prompt_hash, mode))
    if a is None or b is None or a.reward is None or b.reward is None:
        return None
    many = [judged.get((video, row.prompt_hash, "k")) for video in (row.a, row.b)] if mode == "think" else []
    spreads = [score.spread for score in many if score is not None and score.spread is not None]
    return PairScore(
        rewards=(a.reward, b.reward),
        sub_scores=(a.sub_scores, b.sub_scores),
        strict=(a.strict, b.strict),
        thought_chars=(a.chars, b.chars),
        spread=(spreads[0], spreads[1]) if len(spreads) == 2 else None,
        overall=(a.overall, b.overall),
        distance=(a.distance, b.distance),
    )
