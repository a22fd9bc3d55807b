"""Gold pairs: pairs whose answer is known, which check annotators and train them.

for one in gold_choices(session, campaign.id, "unanimous"):
    if one.suggested is not None:
        set_gold(session, campaign.id, one.pair.id, Gold(one.suggested, explanation="all three agreed"))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from sqlalchemy import Select, select, update

from storage.campaigns import slots
from storage.campaigns.campaign import Gold, lock_campaign
from storage.errors import CampaignError, NotInStoreError
from storage.labelling.labels import IS_LAST
from storage.pairs import Pair, get_pair
from storage.schema import AssignmentRow, CampaignPairRow, Choice, LabelRow, MemberRow, PairRow, UserRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

GoldList = Literal["unanimous", "adjudicated", "gold", "all"]
CHECKS = ("gold", "qualification")
_COUNTED = ("work", "import")
# Decisions are found through those who make them: labels and assignments are indexed by person, not by kind.
_LEADS = select(UserRow.id).where(UserRow.role == "lead")


@dataclass(frozen=True)
class GoldChoice:
    """A pair that is gold or could be.

    Attributes:
        suggested: what its labels say, if they say one thing.
        summary: the choices of its labels, counted, in words.
        campaign_pair_id: where the list goes on, for `gold_choices(after=...)`.
    """

    pair: Pair
    gold: Gold | None
    suggested: Choice | None
    summary: str
    campaign_pair_id: int


def gold_choices(
    session: Session, campaign_id: int, kind: GoldList, after: int = 0, limit: int = 20
) -> tuple[GoldChoice, ...]:
    """Pairs of a campaign that are gold already, or those to choose gold pairs from.

    Raises:
        CampaignError: unknown kind.
    """
    if kind not in get_args(GoldList):
        raise CampaignError(f"pairs are listed as {', '.join(get_args(GoldList))}; found {kind!r}")
    here = select(CampaignPairRow).where(CampaignPairRow.campaign_id == campaign_id, CampaignPairRow.id > after)
    rows = session.scalars(_of_kind(here, campaign_id, kind).order_by(CampaignPairRow.id).limit(limit))
    return tuple(_choice(session, row) for row in rows)


def set_gold(session: Session, campaign_id: int, pair_id: int, gold: Gold | None) -> None:
    """Make a pair of a campaign gold, give it another answer, or (None) make it an ordinary one again.

    What people answered to it so far is checked against the new answer.

    Raises:
        NotInStoreError: the pair is not in the campaign.
        CampaignError: people answered it as a gold pair, so it has to stay one.
    """
    lock_campaign(session, campaign_id)
    row = _campaign_pair(session, campaign_id, pair_id)
    if gold is None:
        if row.gold is None:
            return
        if _answers(session, row.id):
            raise CampaignError("people were checked with this pair already: it stays gold; its answer can be changed")
        _write(session, row.id, gold=None, is_gold=False)
        slots.put_back(session, campaign_id, [row.id])
        return
    before = None if row.gold is None else row.gold["choice"]
    if row.gold is not None and gold.sub_scores is None:
        gold = replace(gold, sub_scores=row.gold.get("sub_scores"))
    _write(session, row.id, gold=asdict(gold), is_gold=True, open_slots=0)
    if before != gold.choice:
        _recheck(session, campaign_id, row.id, before, gold.choice)


def known_answers(session: Session, sources: Sequence[str], limit: int = 50) -> dict[int, Gold]:
    """Answers that earlier campaigns or imports know of pairs of these sources: gold there, or decided by a lead."""
    answers: dict[int, Gold] = {}
    earlier = (
        select(CampaignPairRow.pair_id, CampaignPairRow.gold)
        .join(PairRow, PairRow.id == CampaignPairRow.pair_id)
        .where(PairRow.source.in_(sources), CampaignPairRow.is_gold)
    )
    for pair_id, content in session.execute(earlier.order_by(CampaignPairRow.id).limit(limit)):
        answers[pair_id] = Gold(**content)
    decided: Any = (
        select(LabelRow.pair_id, LabelRow.choice, LabelRow.note)
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .join(PairRow, PairRow.id == LabelRow.pair_id)
        .where(LabelRow.annotator_id.in_(_LEADS), LabelRow.action == "label", IS_LAST)
        .where(AssignmentRow.kind == "adjudication", PairRow.source.in_(sources))
    )
    for pair_id, choice, note in session.execute(decided.order_by(LabelRow.id).limit(limit)):
        answers.setdefault(pair_id, Gold(choice, explanation=note))
    return answers


def _of_kind(statement: Select[Any], campaign_id: int, kind: GoldList) -> Select[Any]:
    if kind == "all":
        return statement.where(CampaignPairRow.state == "open")
    if kind == "gold":
        return statement.where(CampaignPairRow.is_gold)
    ordinary = statement.where(~CampaignPairRow.is_gold, CampaignPairRow.state == "open")
    if kind == "adjudicated":
        decided = select(AssignmentRow.campaign_pair_id).where(
            AssignmentRow.campaign_id == campaign_id,
            AssignmentRow.annotator_id.in_(_LEADS),
            AssignmentRow.kind == "adjudication",
            AssignmentRow.state == "labelled",
        )
        return ordinary.where(CampaignPairRow.id.in_(decided))
    other = (
        select(LabelRow.id)
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .where(
            LabelRow.campaign_pair_id == CampaignPairRow.id,
            LabelRow.action == "label",
            LabelRow.choice != CampaignPairRow.consensus,
            AssignmentRow.kind.in_(_COUNTED),
            IS_LAST,
        )
    )
    return ordinary.where(CampaignPairRow.labelled >= 2, CampaignPairRow.consensus.is_not(None), ~other.exists())


def _choice(session: Session, row: CampaignPairRow) -> GoldChoice:
    labels = _choices(session, row.id)
    given = Counter(choice for kind, choice in labels if kind in _COUNTED)
    decisions = [choice for kind, choice in labels if kind == "adjudication"]
    parts = [f"{number} {choice.replace('_', ' ')}" for choice, number in given.most_common()]
    parts += [f"a lead decided {decisions[-1].replace('_', ' ')}"] if decisions else []
    suggested = decisions[-1] if decisions else (next(iter(given)) if len(given) == 1 else None)
    gold = Gold(**row.gold) if row.gold else None
    return GoldChoice(get_pair(session, row.pair_id), gold, suggested, ", ".join(parts), row.id)


def _choices(session: Session, campaign_pair_id: int) -> list[tuple[str, Choice]]:
    """List the kind and choice of each label in force, oldest first."""
    statement: Any = (
        select(AssignmentRow.kind, LabelRow.choice)
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .where(LabelRow.campaign_pair_id == campaign_pair_id, LabelRow.action == "label", IS_LAST)
        .order_by(LabelRow.id)
    )
    return [(kind, choice) for kind, choice in session.execute(statement)]


def _answers(session: Session, campaign_pair_id: int) -> Mapping[int, Choice]:
    """Return the answers of annotators who were checked with this pair, by annotator id."""
    statement: Any = (
        select(LabelRow.annotator_id, LabelRow.choice)
        .join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id)
        .where(
            LabelRow.campaign_pair_id == campaign_pair_id,
            LabelRow.action == "label",
            AssignmentRow.kind.in_(CHECKS),
            IS_LAST,
        )
    )
    return dict(session.execute(statement).tuples().all())


def _recheck(session: Session, campaign_id: int, campaign_pair_id: int, before: Choice | None, after: Choice) -> None:
    """Bring the totals of those who answered in line with the new answer."""
    for annotator, choice in _answers(session, campaign_pair_id).items():
        change = int(choice == after) - int(choice == before)
        member = (MemberRow.campaign_id == campaign_id, MemberRow.annotator_id == annotator)
        session.execute(update(MemberRow).where(*member).values(gold_right=MemberRow.gold_right + change))


def _campaign_pair(session: Session, campaign_id: int, pair_id: int) -> CampaignPairRow:
    same = (CampaignPairRow.campaign_id == campaign_id, CampaignPairRow.pair_id == pair_id)
    row = session.scalars(select(CampaignPairRow).where(*same).execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise NotInStoreError(f"campaign {campaign_id} has no pair {pair_id}")
    return row


def _write(session: Session, campaign_pair_id: int, **values: Any) -> None:
    session.execute(update(CampaignPairRow).where(CampaignPairRow.id == campaign_pair_id).values(**values))
