"""The running totals of a campaign: kept in the transaction that changes a label, so that the lead's page reads few rows.

`differences` recomputes them from assignments and labels and says where they differ; `rebuild` sets them right.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, bindparam, delete, func, or_, select, text, update

from storage.campaigns.campaign import Campaign, get_campaign, lock_campaign
from storage.campaigns.slots import next_position
from storage.labelling.pair_totals import COUNTS, Entry, PairTotals, tally
from storage.schema import AgreementPatternRow, Choice, PairState
from storage.sql import ASSIGNMENTS, CAMPAIGN_PAIRS, LABELS, MEMBERS, PATTERNS, for_dialect, upsert

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_CHUNK = 2000

_LAST_LABEL = (
    select(func.max(LABELS.c.id)).where(LABELS.c.assignment_id == ASSIGNMENTS.c.id).correlate(ASSIGNMENTS).scalar_subquery()
)
_ENTRIES: Select[Any] = select(
    *(ASSIGNMENTS.c[name] for name in ("campaign_pair_id", "id", "annotator_id", "kind", "state", "left_video")),
    LABELS.c.id.label("label_id"),
    LABELS.c.choice,
    LABELS.c.sub_scores,
).outerjoin_from(ASSIGNMENTS, LABELS, (LABELS.c.id == _LAST_LABEL) & (ASSIGNMENTS.c.state == "labelled"))
# Answers to a gold pair are each counted alone, and there may be as many as annotators.
_MATTERS = text("assignments.state IN ('leased', 'labelled') AND assignments.kind NOT IN ('gold', 'qualification')")
_ENTRIES_OF_PAIR = _ENTRIES.where(
    ASSIGNMENTS.c.campaign_pair_id == bindparam("campaign_pair"),
    or_(ASSIGNMENTS.c.annotator_id == bindparam("annotator"), _MATTERS),
)
_PAIR_COLUMNS = ("state", "open_slots", "labelled", "consensus", "disputed")
_STORE_PAIR = (
    update(CAMPAIGN_PAIRS)
    .where(CAMPAIGN_PAIRS.c.id == bindparam("campaign_pair"))
    .values({name: bindparam(f"new_{name}") for name in _PAIR_COLUMNS})
)
_STORE_AND_REQUEUE_PAIR = _STORE_PAIR.values(position=next_position(bindparam("campaign")))
_ADD_TO_MEMBER = (
    update(MEMBERS)
    .where(MEMBERS.c.campaign_id == bindparam("campaign"), MEMBERS.c.annotator_id == bindparam("annotator"))
    .values({name: MEMBERS.c[name] + bindparam(f"more_{name}") for name in COUNTS})
)
_ADD_TO_PATTERN = upsert(PATTERNS, ("pairs",), add=True)


@dataclass(frozen=True)
class CountedPair:
    """A pair in a campaign, as far as its totals need it."""

    id: int
    is_gold: bool
    gold_choice: Choice | None
    state: PairState


@dataclass
class _Totals:
    """Recomputed totals while they are summed up."""

    members: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    patterns: Counter[tuple[str, str]] = field(default_factory=Counter)


def agreement_patterns(session: Session, campaign_id: int) -> dict[str, dict[str, int]]:
    """For "overall" and each dimension, how many pairs have which counts of answers; see `AgreementPatternRow`."""
    rows = session.execute(
        select(AgreementPatternRow.item, AgreementPatternRow.pattern, AgreementPatternRow.pairs)
        .where(AgreementPatternRow.campaign_id == campaign_id, AgreementPatternRow.pairs != 0)
        .order_by(AgreementPatternRow.item, AgreementPatternRow.pattern)
    )
    patterns: dict[str, dict[str, int]] = {}
    for row in rows:
        patterns.setdefault(row.item, {})[row.pattern] = row.pairs
    return patterns


def entries_of(session: Session, campaign_pair_id: int, annotator_id: int) -> list[Entry]:
    """List the assignments of a pair that can matter when this person's label changes."""
    rows = session.execute(_ENTRIES_OF_PAIR, {"campaign_pair": campaign_pair_id, "annotator": annotator_id})
    return [_entry(row) for row in rows]


def apply(
    session: Session,
    campaign: Campaign,
    pair: CountedPair,
    before: Sequence[Entry],
    after: Sequence[Entry],
    state: PairState,
) -> None:
    """Add to the totals what a change of one pair's assignments makes.

    Args:
        pair: the pair as it was.
        before, after: its assignments, as of `entries_of`.
        state: what the pair is from now on.
    """
    old, new = tally(before, pair.gold_choice), tally(after, pair.gold_choice)
    stored = _stored(campaign, pair.is_gold, new) | {"state": state}
    values = {"campaign_pair": pair.id} | {f"new_{name}": value for name, value in stored.items()}
    if not pair.is_gold and (new.held < old.held or (state == "open" and pair.state != "open")):
        session.execute(_STORE_AND_REQUEUE_PAIR, values | {"campaign": campaign.id})
    else:
        session.execute(_STORE_PAIR, values)
    members = {annotator: Counter(counts) for annotator, counts in new.members.items()}
    for annotator, counts in old.members.items():
        members.setdefault(annotator, Counter()).subtract(counts)
    _add_to_members(session, campaign.id, members)
    patterns = Counter(new.patterns)
    patterns.subtract(old.patterns)
    _add_to_patterns(session, campaign.id, patterns)


def rebuild(session: Session, campaign_id: int) -> None:
    """Compute all totals of a campaign from its assignments and labels; needed after labels were added in bulk.

    Raises:
        NotInStoreError: there is no such campaign.
    """
    campaign = lock_campaign(session, campaign_id)
    totals = _Totals()
    statement = update(CAMPAIGN_PAIRS).where(CAMPAIGN_PAIRS.c.id == bindparam("campaign_pair"))
    for rows in _recomputed(session, campaign, totals):
        wrong = [{"campaign_pair": pair.id, **values} for pair, values in rows if _differs(pair, values)]
        if wrong:
            session.execute(statement, wrong)
    session.execute(update(MEMBERS).where(MEMBERS.c.campaign_id == campaign_id).values(dict.fromkeys(COUNTS, 0)))
    _add_to_members(session, campaign_id, totals.members)
    session.execute(delete(PATTERNS).where(PATTERNS.c.campaign_id == campaign_id))
    _add_to_patterns(session, campaign_id, totals.patterns)


def differences(session: Session, campaign_id: int) -> list[str]:
    """Where the stored totals are not those of the assignments and labels, in words; empty when all is right.

    Raises:
        NotInStoreError: there is no such campaign.
    """
    campaign = get_campaign(session, campaign_id)
    totals, lines = _Totals(), []
    for rows in _recomputed(session, campaign, totals):
        for pair, values in rows:
            lines += [
                f"pair {pair.pair_id}: {name} is {getattr(pair, name)}, should be {value}"
                for name, value in values.items()
                if getattr(pair, name) != value
            ]
    stored = session.execute(select(MEMBERS).where(MEMBERS.c.campaign_id == campaign_id)).all()
    for row in stored:
        right = totals.members.get(row.annotator_id, Counter())
        lines += [
            f"annotator {row.annotator_id}: {name} is {getattr(row, name)}, should be {right[name]}"
            for name in COUNTS
            if getattr(row, name) != right[name]
        ]
    strangers = totals.members.keys() - {row.annotator_id for row in stored}
    lines += [f"annotator {annotator} has assignments and is no member" for annotator in sorted(strangers)]
    patterns = agreement_patterns(session, campaign_id)
    kept = {(item, pattern): pairs for item, counts in patterns.items() for pattern, pairs in counts.items()}
    lines += [
        f"agreement {item} {pattern}: {kept.get((item, pattern), 0)} pairs, should be {totals.patterns[item, pattern]}"
        for item, pattern in sorted(kept.keys() | totals.patterns.keys())
        if kept.get((item, pattern), 0) != totals.patterns[item, pattern]
    ]
    return lines


def _recomputed(session: Session, campaign: Campaign, totals: _Totals) -> Iterator[list[tuple[Row[Any], dict[str, Any]]]]:
    """Yield some pairs at a time with the values that they should have; `totals` is complete at the end."""
    in_campaign = select(CAMPAIGN_PAIRS.c.id).where(CAMPAIGN_PAIRS.c.campaign_id == campaign.id)
    all_ids = session.scalars(in_campaign.order_by(CAMPAIGN_PAIRS.c.id)).all()
    for start in range(0, len(all_ids), _CHUNK):
        ids = all_ids[start : start + _CHUNK]
        pairs = session.execute(select(CAMPAIGN_PAIRS).where(CAMPAIGN_PAIRS.c.id.in_(ids))).all()
        assignments: dict[int, list[Entry]] = defaultdict(list)
        for row in session.execute(_ENTRIES.where(ASSIGNMENTS.c.campaign_pair_id.in_(ids))):
            assignments[row.campaign_pair_id].append(_entry(row))
        recomputed = []
        for pair in pairs:
            counted = tally(assignments[pair.id], pair.gold["choice"] if pair.gold else None)
            recomputed.append((pair, _stored(campaign, pair.is_gold, counted)))
            for annotator, counts in counted.members.items():
                totals.members[annotator].update(counts)
            totals.patterns.update(counted.patterns)
        yield recomputed


def _stored(campaign: Campaign, is_gold: bool, counted: PairTotals) -> dict[str, Any]:
    overlap = campaign.config.overlap
    return {
        "open_slots": 0 if is_gold else max(0, overlap - counted.held),
        "labelled": counted.labelled,
        "consensus": counted.consensus,
        "disputed": counted.labelled >= overlap and counted.consensus is None,
    }


def _differs(pair: Row[Any], values: Mapping[str, Any]) -> bool:
    return any(getattr(pair, name) != value for name, value in values.items())


def _add_to_members(session: Session, campaign_id: int, more: Mapping[int, Mapping[str, int]]) -> None:
    rows = [
        {"campaign": campaign_id, "annotator": annotator} | {f"more_{name}": counts.get(name, 0) for name in COUNTS}
        for annotator, counts in more.items()
        if any(counts.values())
    ]
    if rows:
        session.execute(_ADD_TO_MEMBER, rows)


def _add_to_patterns(session: Session, campaign_id: int, more: Mapping[tuple[str, str], int]) -> None:
    rows = [
        {"campaign_id": campaign_id, "item": item, "pattern": pattern, "pairs": pairs}
        for (item, pattern), pairs in more.items()
        if pairs
    ]
    if rows:
        session.execute(for_dialect(session, _ADD_TO_PATTERN), rows)


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        assignment_id=row.id,
        annotator_id=row.annotator_id,
        kind=row.kind,
        state=row.state,
        left_video=row.left_video,
        label_id=row.label_id or 0,
        choice=row.choice,
        sub_scores=row.sub_scores,
    )
