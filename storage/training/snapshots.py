"""Snapshots: the frozen data of a training, with each pair's common answer and the revisions behind it.

    settings = SnapshotConfig(campaigns=("winter models",))
    snapshot = make_snapshot(session, settings, since_label_id=newest_trained_label(session, current.id), incremental=True)
    snapshot.counts          # {"new": 412, "replay": 412, "held_out": 230, "labels": 2961, "annotators": 7}

A pair is new where a label of it changed after `since_label_id`, the newest label that the current checkpoint could know.
Older pairs come along as replay, drawn by a stable hash, others each time. Pairs that are held out are in every snapshot
and never trained on: single pairs, or whole prompts, and then no video of theirs either. Several pairs of the store with the
same two videos and prompt, in either order, become one.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from storage.errors import StorageError
from storage.labelling.consensus import Consensus, iterate_consensus
from storage.schema import CampaignPairRow, CheckpointRow, PairRow, Part, RunRow
from storage.splits import SplitBy, is_held_out, stable_share
from storage.training.snapshot_config import (
    PairKey,
    SnapshotConfig,
    campaign_ids,
    changed_campaign_pairs,
    newest_label,
    pair_keys,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["Snapshot", "SnapshotConfig", "SnapshotPair", "make_snapshot", "replay_wanted", "snapshot_hash"]

# Of a store with fewer prompts, a share of whole prompts would be much larger or smaller than asked.
LEAST_PROMPTS = 30
_SIGN = {"A": 1, "B": -1, "tie": 0, "both_bad": 0}
_OTHER = {"A": "B", "B": "A"}


@dataclass(frozen=True)
class SnapshotPair:
    """One pair of a run's data.

    Attributes:
        label: +1 A preferred, -1 B, 0 a tie, for the videos as `pair_id` has them.
        strength: of the preference: 0 unknown, 1 slightly, 2 clearly, or a mean over people.
        sub_scores: {"A": {dimension: value}, "B": ...}, the known ones.
        label_ids: the revisions behind it.
    """

    pair_id: int
    part: Part
    identity: str
    label: int
    strength: float
    sub_scores: Mapping[str, Mapping[str, str]] = field(hash=False)
    label_ids: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """The data of a run: its pairs, ordered by identity.

    Attributes:
        sha256: over the content of all pairs.
        last_label_id: the newest label that the run could know.
        counts: {"new", "replay", "held_out", "labels", "annotators"}, and "known_videos" where training pairs are left out
            since a video of theirs is in a held-out pair.
        chosen_by: the config, with since_label_id and incremental.
    """

    pairs: tuple[SnapshotPair, ...]
    sha256: str
    last_label_id: int
    counts: Mapping[str, int] = field(hash=False)
    chosen_by: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class _Answer:
    """A common answer about one pair of the store.

    Attributes:
        decided: there is one.
        key: the pair by content.
    """

    pair: SnapshotPair
    decided: bool
    key: PairKey
    people: int
    adjudicated: bool
    annotators: tuple[int, ...]


def make_snapshot(session: Session, settings: SnapshotConfig, since_label_id: int, incremental: bool) -> Snapshot:
    """Choose the data of a training. It reads all labels of the campaigns: use a reading session.

    Args:
        incremental: new pairs and as many older ones as make `replay_share`; else all pairs count as new.

    Raises:
        StorageError: a campaign is unknown.
    """
    campaigns = campaign_ids(session, settings)
    # Labels of campaigns that were left out stay new: they were not trained on.
    last = newest_label(session) if campaigns is None else since_label_id
    since = since_label_id if incremental else 0
    changed = _changed_pairs(session, since, campaigns)
    groups: dict[str, list[_Answer]] = defaultdict(list)
    for answer in _answers(session, settings, campaigns):
        groups[answer.pair.identity].append(answer)
    merged = {identity: pair for identity, group in groups.items() if (pair := _common(group, settings)) is not None}
    fresh = {identity for identity in merged if any(answer.pair.pair_id in changed for answer in groups[identity])}
    keys = {identity: groups[identity][0].key for identity in merged}
    parts = _parts(keys, fresh, settings, since)
    known = _known_videos(keys, parts) if settings.held_out_by == "prompts" else set()
    parts = {identity: part for identity, part in parts.items() if identity not in known}
    pairs = tuple(replace(merged[identity], part=part) for identity, part in sorted(parts.items()))
    annotators = {person for pair in pairs for answer in groups[pair.identity] for person in answer.annotators}
    counts = {part: sum(pair.part == part for pair in pairs) for part in ("new", "replay", "held_out")}
    counts |= {"labels": sum(len(pair.label_ids) for pair in pairs), "annotators": len(annotators)}
    if known:
        counts["known_videos"] = len(known)
    chosen_by = asdict(settings) | {"campaigns": list(settings.campaigns)}
    return Snapshot(
        pairs=pairs,
        sha256=snapshot_hash(pairs),
        last_label_id=last,
        counts=counts,
        chosen_by=chosen_by | {"since_label_id": since, "incremental": incremental},
    )


def snapshot_hash(pairs: Iterable[SnapshotPair]) -> str:
    """sha256 over the content of all pairs, in whatever order they come."""
    lines = sorted(json.dumps(asdict(pair), sort_keys=True) for pair in pairs)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def replay_wanted(new: int, share: float) -> int:
    """Count the older pairs that make `share` of the training pairs beside `new` ones."""
    return round(new * share / (1 - share))


def _changed_pairs(session: Session, since: int, campaigns: Sequence[int] | None) -> set[int]:
    changed = changed_campaign_pairs(since, campaigns)
    return set(session.scalars(select(CampaignPairRow.pair_id).where(CampaignPairRow.id.in_(changed))))


def _answers(session: Session, settings: SnapshotConfig, campaigns: Sequence[int] | None) -> Iterable[_Answer]:
    """Yield the common answers by pair id, those without a choice too."""
    answers = list(iterate_consensus(session, campaigns, settings.consensus))
    keys = pair_keys(session, [consensus.pair_id for consensus in answers])
    for consensus in answers:
        yield _answer(consensus, keys[consensus.pair_id])


def _answer(consensus: Consensus, key: PairKey) -> _Answer:
    label = _SIGN.get(consensus.choice or "", 0)
    pair = SnapshotPair(
        pair_id=consensus.pair_id,
        part="new",
        identity=key.identity,
        label=label,
        strength=max(0.0, label * (consensus.strength or 0.0)),
        sub_scores=consensus.sub_scores,
        label_ids=consensus.label_ids,
    )
    return _Answer(pair, consensus.choice is not None, key, consensus.labels, consensus.adjudicated, consensus.annotators)


def _common(group: Sequence[_Answer], settings: SnapshotConfig) -> SnapshotPair | None:
    """Merge the answers about the store's pairs of one identity, with A and B as the first has them; None without one.

    Each of them has one voice; one that a lead decided overrules the others.
    """
    decided = [answer for answer in group if answer.decided]
    adjudicated = [answer for answer in decided if answer.adjudicated]
    if not decided or (sum(answer.people for answer in decided) < settings.min_labels and not adjudicated):
        return None
    if len(decided) == 1:
        return decided[0].pair
    first = decided[0]
    voices = [
        answer.pair if answer.key.first == first.key.first else _exchanged(answer.pair)
        for answer in adjudicated[-1:] or decided
    ]
    label, votes = Counter(pair.label for pair in voices).most_common(1)[0]
    if 2 * votes <= len(voices):
        return None
    strengths = [pair.strength for pair in voices if pair.label == label]
    return replace(
        first.pair,
        label=label,
        strength=0.0 if 0.0 in strengths else sum(strengths) / len(strengths),
        sub_scores=_majority_cells([pair.sub_scores for pair in voices]),
        label_ids=tuple(sorted(label_id for answer in decided for label_id in answer.pair.label_ids)),
    )


def _exchanged(pair: SnapshotPair) -> SnapshotPair:
    """Exchange A and B of a pair."""
    scores = {_OTHER[side]: values for side, values in pair.sub_scores.items()}
    return replace(pair, label=-pair.label, sub_scores=scores)


def _majority_cells(sub_scores: Sequence[Mapping[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for scores in sub_scores:
        for side, values in scores.items():
            for dimension, value in values.items():
                votes[side, dimension][value] += 1
    cells: dict[str, dict[str, str]] = {}
    for (side, dimension), counted in sorted(votes.items()):
        value, count = counted.most_common(1)[0]
        if 2 * count > sum(counted.values()):
            cells.setdefault(side, {})[dimension] = value
    return cells


def _parts(keys: Mapping[str, PairKey], fresh: set[str], settings: SnapshotConfig, since: int) -> dict[str, Part]:
    """Which part each identity belongs to; older pairs that are not drawn are missing."""
    parts: dict[str, Part] = {}
    older = []
    for identity, key in keys.items():
        if is_held_out(key.split_key(settings.held_out_by), settings.held_out_share):
            parts[identity] = "held_out"
        elif identity in fresh:
            parts[identity] = "new"
        else:
            older.append(identity)
    count = replay_wanted(sum(part == "new" for part in parts.values()), settings.replay_share)
    # With `since` in the draw, the next run replays others.
    drawn = sorted(older, key=lambda identity: (stable_share("replay", since, identity), identity))[:count]
    return parts | dict.fromkeys(drawn, "replay")


def _known_videos(keys: Mapping[str, PairKey], parts: Mapping[str, Part]) -> set[str]:
    """Find the pairs to train on that share a video with a held-out one."""
    held_out = {
        content
        for identity, part in parts.items()
        if part == "held_out"
        for content in (keys[identity].first, keys[identity].second)
    }
    return {
        identity
        for identity, part in parts.items()
        if part != "held_out" and not held_out.isdisjoint((keys[identity].first, keys[identity].second))
    }


def held_out_share_in_use(session: Session) -> float:
    """Return the smallest held-out share of the runs behind checkpoints in use; the default without any."""
    return min((share for share, _ in _splits_in_use(session)), default=SnapshotConfig().held_out_share)


def held_out_by_in_use(session: Session) -> SplitBy:
    """Return what is held out: as for the checkpoints in use; without any whole prompts, where there are enough of them."""
    used = {by for _, by in _splits_in_use(session)}
    if used:
        return "pairs" if "pairs" in used else "prompts"
    prompts = (
        select(func.count(PairRow.prompt_hash.distinct()))
        .join(CampaignPairRow, CampaignPairRow.pair_id == PairRow.id)
        .where(CampaignPairRow.consensus.is_not(None))
    )
    return "prompts" if (session.scalar(prompts) or 0) >= LEAST_PROMPTS else "pairs"


def with_share_in_use(session: Session, settings: SnapshotConfig) -> SnapshotConfig:
    """Hold out as the checkpoints in use did: whole prompts or pairs, and no larger share; see `keep_held_out`."""
    share = held_out_share_in_use(session)
    settings = replace(settings, held_out_by=held_out_by_in_use(session))
    return replace(settings, held_out_share=share) if 0 < share < settings.held_out_share else settings


def keep_held_out(session: Session, snapshot: Snapshot) -> None:
    """Refuse another split: it would hold out pairs that a former run trained on, and its checkpoint would look too good.

    Raises:
        StorageError: checkpoints in use were trained with a smaller share, or held out single pairs and not whole prompts,
            or the other way round.
    """
    splits = _splits_in_use(session)
    smallest = min((share for share, _ in splits), default=1.0)
    if float(snapshot.chosen_by["held_out_share"]) > smallest:
        raise StorageError(
            f"checkpoints in use were trained with {smallest:.0%} of the pairs held out; with a larger share pairs that "
            "they learnt would count as held out. Choose a share that is not larger, or delete those checkpoints"
        )
    by, used = snapshot.chosen_by.get("held_out_by", "pairs"), {by for _, by in splits}
    if used and by not in used:
        raise StorageError(
            f"checkpoints in use were trained with held-out {' and '.join(sorted(used))}, not {by}; pairs that they learnt "
            "would count as held out. Hold out the same, or delete those checkpoints"
        )


def _splits_in_use(session: Session) -> list[tuple[float, SplitBy]]:
    """Held-out share and kind of split of each checkpoint that is not deleted; those of earlier versions held out pairs."""
    used = (
        select(RunRow.snapshot)
        .join(CheckpointRow, CheckpointRow.run_id == RunRow.id)
        .where(CheckpointRow.deleted_at.is_(None), RunRow.snapshot.is_not(None))
    )
    splits: list[tuple[float, SplitBy]] = [
        (float(settings["held_out_share"]), settings.get("held_out_by", "pairs"))
        for settings in session.scalars(used)
        if settings is not None
    ]
    # Checkpoints that `python -m trainer run --out` made from a store, and that the app was asked to serve.
    others = select(CheckpointRow.settings).where(CheckpointRow.deleted_at.is_(None), CheckpointRow.run_id.is_(None))
    for settings in session.scalars(others):
        data = (settings or {}).get("data") or {}
        if data.get("csv") is None and "held_out_share" in data:
            splits.append((float(data["held_out_share"]), data.get("held_out_by", "pairs")))
    return splits
