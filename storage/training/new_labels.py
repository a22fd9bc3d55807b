"""Counts of the labels since the current checkpoint was trained, and of the pairs that a training would take.

    news = count_new_labels(session, SnapshotConfig(), since_label_id=newest_trained_label(session, current.id))
    news.labels, news.pairs, news.held_out, news.replay

Shown on a page that asks again and again: it reads the labels after `since_label_id` and the kept totals of their pairs, so
it costs as much as there is news. The data itself is chosen by `storage.training.snapshots.make_snapshot`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from sqlalchemy import Select, func, select

from storage.labelling.consensus import COUNTED, iterate_consensus
from storage.labelling.labels import IS_LAST
from storage.labelling.pair_totals import OVERALL
from storage.schema import AgreementPatternRow, AssignmentRow, CampaignPairRow, Choice, LabelRow, UserRow
from storage.splits import is_held_out
from storage.training.snapshot_config import SnapshotConfig, campaign_ids, changed_campaign_pairs, pair_keys
from storage.training.snapshots import replay_wanted

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_CHOICES = get_args(Choice)
_AT_ONCE = 1000


@dataclass(frozen=True)
class NewLabels:
    """What is new, counted over pairs of the store.

    Common answers are the kept ones, by majority: with a weighted consensus a snapshot may have some more or fewer.

    Attributes:
        labels: those in force that were given or edited since, of annotators and imports.
        annotators: who gave them.
        pairs: with news and a common answer; of these `held_out` are kept from training and `new` are for it.
        without_majority, too_few: pairs with news that can't be used.
        replay: older pairs that an incremental training takes along.
        compared: held-out pairs with and without news, of which the latter are estimated by their share.
        total_pairs: all with a common answer.
        alpha_patterns: counts of the choices on the pairs with news, see `AgreementPatternRow`, None where no pair has two
            labels.
    """

    labels: int
    pairs: int
    annotators: int
    alpha_patterns: Mapping[str, int] | None = field(hash=False)
    held_out: int
    compared: int
    new: int
    replay: int
    total_pairs: int
    without_majority: int
    too_few: int


def count_new_labels(session: Session, settings: SnapshotConfig, since_label_id: int) -> NewLabels:
    """Count the labels since a revision; 0 counts from the beginning.

    Raises:
        StorageError: a campaign is unknown.
    """
    campaigns = campaign_ids(session, settings)
    changed = changed_campaign_pairs(since_label_id, campaigns)
    pairs = select(CampaignPairRow.pair_id).where(CampaignPairRow.id.in_(changed))
    pairs_by_use = _sorted_out(session, settings, campaigns, pairs)
    labels, annotators = _given(session, since_label_id, campaigns)
    held_out = _held_out(session, sorted(pairs_by_use.usable), settings)
    new = len(pairs_by_use.usable) - held_out
    limit = replay_wanted(new, settings.replay_share) if since_label_id > 0 else 0
    total = session.scalar(_common_answers(func.count(CampaignPairRow.pair_id.distinct()), campaigns)) or 0
    return NewLabels(
        labels=labels,
        pairs=len(pairs_by_use.usable),
        annotators=annotators,
        alpha_patterns=_patterns(session, since_label_id, campaigns, changed) or None,
        held_out=held_out,
        compared=held_out + round(settings.held_out_share * max(0, total - len(pairs_by_use.answered))),
        new=new,
        replay=_older(session, settings, campaigns, pairs_by_use.all, limit),
        total_pairs=total,
        without_majority=len(pairs_by_use.without_majority),
        too_few=len(pairs_by_use.too_few),
    )


@dataclass(frozen=True)
class _Sorted:
    """Pairs by what can be done with them, by id.

    Args:
        answered: with a common answer in a campaign, whatever the campaigns say together.
    """

    usable: set[int]
    without_majority: set[int]
    too_few: set[int]
    answered: set[int]

    @property
    def all(self) -> set[int]:
        return self.usable | self.without_majority | self.too_few


def _sorted_out(
    session: Session, settings: SnapshotConfig, campaigns: Sequence[int] | None, pairs: Select[Any] | Sequence[int]
) -> _Sorted:
    """Sort the labelled ones of these pairs (ids, or a selection of them) by what can be done with them."""
    columns = (CampaignPairRow.pair_id, CampaignPairRow.labelled, CampaignPairRow.consensus)
    statement: Any = select(*columns).where(CampaignPairRow.state != "dropped", CampaignPairRow.pair_id.in_(pairs))
    if campaigns is not None:
        statement = statement.where(CampaignPairRow.campaign_id.in_(campaigns))
    rows = defaultdict(list)
    for row in session.execute(statement):
        if row.labelled or row.consensus:
            rows[row.pair_id].append(row)
    pairs_by_use, unclear = _Sorted(set(), set(), set(), set()), []
    for pair_id, members in rows.items():
        if any(member.consensus for member in members):
            pairs_by_use.answered.add(pair_id)
        if len(members) > 1 or (members[0].consensus and members[0].labelled < settings.min_labels):
            unclear.append(pair_id)
        else:
            (pairs_by_use.usable if members[0].consensus else pairs_by_use.without_majority).add(pair_id)
    # Pairs of several campaigns, and those that a lead may have decided.
    for consensus in iterate_consensus(session, campaigns, "majority", unclear):
        if consensus.choice is None:
            pairs_by_use.without_majority.add(consensus.pair_id)
        elif consensus.labels < settings.min_labels and not consensus.adjudicated:
            pairs_by_use.too_few.add(consensus.pair_id)
        else:
            pairs_by_use.usable.add(consensus.pair_id)
    return pairs_by_use


def _given(session: Session, since: int, campaigns: Sequence[int] | None) -> tuple[int, int]:
    """How many labels, of how many people."""
    if since <= 0:
        return _given_at_all(session, campaigns)
    statement: Any = (
        select(func.count(), func.count(LabelRow.annotator_id.distinct()))
        .select_from(LabelRow)
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .join(CampaignPairRow, CampaignPairRow.id == LabelRow.campaign_pair_id)
        .where(LabelRow.id > since, LabelRow.action == "label", AssignmentRow.kind.in_(COUNTED), IS_LAST)
        .where(CampaignPairRow.state != "dropped")
    )
    if campaigns is not None:
        statement = statement.where(LabelRow.campaign_id.in_(campaigns))
    labels, annotators = session.execute(statement).one()
    return labels, annotators


def _given_at_all(session: Session, campaigns: Sequence[int] | None) -> tuple[int, int]:
    labels: Any = select(func.coalesce(func.sum(CampaignPairRow.labelled), 0)).where(CampaignPairRow.state != "dropped")
    theirs: Any = select(AssignmentRow.id).where(
        AssignmentRow.annotator_id == UserRow.id, AssignmentRow.state == "labelled", AssignmentRow.kind.in_(COUNTED)
    )
    if campaigns is not None:
        labels = labels.where(CampaignPairRow.campaign_id.in_(campaigns))
        theirs = theirs.where(AssignmentRow.campaign_id.in_(campaigns))
    people = select(func.count()).select_from(UserRow).where(theirs.exists())
    return int(session.scalar(labels) or 0), session.scalar(people) or 0


def _patterns(session: Session, since: int, campaigns: Sequence[int] | None, changed: Select[Any]) -> dict[str, int]:
    """How many of the rows with news have which counts of choices."""
    if since <= 0:
        kept: Any = select(AgreementPatternRow.pattern, func.sum(AgreementPatternRow.pairs)).where(
            AgreementPatternRow.item == OVERALL, AgreementPatternRow.pairs != 0
        )
        if campaigns is not None:
            kept = kept.where(AgreementPatternRow.campaign_id.in_(campaigns))
        rows = session.execute(kept.group_by(AgreementPatternRow.pattern).order_by(AgreementPatternRow.pattern))
        return {pattern: int(pairs) for pattern, pairs in rows}
    choices = (
        select(LabelRow.campaign_pair_id, LabelRow.choice, func.count())
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .where(LabelRow.campaign_pair_id.in_(changed), LabelRow.action == "label", IS_LAST, AssignmentRow.kind.in_(COUNTED))
        .group_by(LabelRow.campaign_pair_id, LabelRow.choice)
    )
    counted: dict[int, dict[str, int]] = defaultdict(lambda: dict.fromkeys(_CHOICES, 0))
    for campaign_pair_id, choice, labels in session.execute(choices):
        counted[campaign_pair_id][str(choice)] = labels
    several = [counts for counts in counted.values() if sum(counts.values()) > 1]
    return dict(sorted(Counter(",".join(map(str, counts.values())) for counts in several).items()))


def _held_out(session: Session, pair_ids: Sequence[int], settings: SnapshotConfig) -> int:
    by, share = settings.held_out_by, settings.held_out_share
    return sum(is_held_out(key.split_key(by), share) for key in pair_keys(session, pair_ids).values())


def _older(
    session: Session, settings: SnapshotConfig, campaigns: Sequence[int] | None, changed: set[int], limit: int
) -> int:
    """How many pairs without news can be trained on, at most `wanted`: it looks no further than that."""
    count = last = 0
    pair_id = CampaignPairRow.pair_id
    while count < limit:
        statement = _common_answers(pair_id, campaigns).where(pair_id > last).distinct().order_by(pair_id).limit(_AT_ONCE)
        ids = session.scalars(statement).all()
        if not ids:
            return count
        last = ids[-1]
        older = [candidate for candidate in ids if candidate not in changed]
        usable = sorted(_sorted_out(session, settings, campaigns, older).usable)
        count += len(usable) - _held_out(session, usable, settings)
    return limit


def _common_answers(column: Any, campaigns: Sequence[int] | None) -> Any:
    """Select a column of the campaign pairs with a common answer."""
    statement = select(column).where(CampaignPairRow.consensus.is_not(None), CampaignPairRow.state != "dropped")
    return statement if campaigns is None else statement.where(CampaignPairRow.campaign_id.in_(campaigns))
