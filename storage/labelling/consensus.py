"""The common answer of a pair's labels, which training uses. Every raw label stays.

    for one in consensus(session, [campaign.id], method="weighted"):
        one.choice, one.support, one.sub_scores["A"]["camera"]

Counted is one current label of each annotator on a pair, of the kinds "work" and "import"; planned repeats measure the
annotator and not the pair. A lead's adjudication overrules all of them. Pairs that a lead dropped are left out.

- majority: a choice, and a value of a sub-score, needs more than half of the labels.
- weighted: the same with the labels weighted by the log-odds of their annotators' accuracies, see
`storage.labelling.dawid_skene`;
  a choice needs a posterior probability above one half.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Row, select

from descore.answer import DIMENSIONS
from storage.campaigns.counted import counted_campaigns
from storage.errors import StorageError
from storage.labelling.dawid_skene import CHOICES, KnownLabels, annotator_weights, posterior
from storage.labelling.labels import IS_LAST
from storage.schema import AssignmentRow, CampaignPairRow, Choice, LabelRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Method = Literal["majority", "weighted"]
COUNTED = ("work", "import")
CHECKED = ("gold", "qualification")
_PAIRS_AT_ONCE = 1000
_MARGIN = 1e-9  # two sums of the same weights in another order may differ by less than this
_SIGNED = {"A": 1.0, "B": -1.0, "tie": 0.0, "both_bad": 0.0}
_SIZE = {"clearly": 2.0, "slightly": 1.0}


@dataclass(frozen=True)
class Consensus:
    """The common answer of a pair.

    Attributes:
        choice: None where no choice has enough support.
        strength: mean over the labels from -2 (B clearly) to +2 (A clearly), 0 for ties; None where a label that prefers one
            video names no strength.
        sub_scores: {"A": {dimension: value}, "B": ...}, only the values that have a majority.
        labels: annotators counted.
        support: the share of the choice among the labels (majority) or its posterior probability (weighted), 0..1; of an
            adjudicated pair the support that the lead's choice had among the annotators. 0 without a choice.
        label_ids: the revisions behind it, oldest first, a lead's decision among them.
        annotators: who gave the labels that are counted.
    """

    pair_id: int
    choice: Choice | None
    strength: float | None
    sub_scores: dict[str, dict[str, str]]
    labels: int
    support: float
    adjudicated: bool
    label_ids: tuple[int, ...] = ()
    annotators: tuple[int, ...] = ()


def consensus(
    session: Session, campaign_ids: Sequence[int] | None = None, method: Method = "majority"
) -> tuple[Consensus, ...]:
    """Return the common answers of all pairs that have a label, by pair id.

    Args:
        campaign_ids: whose labels count; None for all campaigns and imports that count. A pair of several campaigns gets one
            answer.

    Raises:
        StorageError: unknown method.
    """
    return tuple(iterate_consensus(session, campaign_ids, method))


def iterate_consensus(
    session: Session,
    campaign_ids: Sequence[int] | None = None,
    method: Method = "majority",
    pair_ids: Collection[int] | None = None,
) -> Iterator[Consensus]:
    """As `consensus`, one after the other: a large store does not have to fit into memory.

    Args:
        pair_ids: of these pairs only; None for all. Annotators are weighted by all they said either way.

    Raises:
        StorageError: unknown method.
    """
    if method not in ("majority", "weighted"):
        raise StorageError(f"a consensus is found by majority or weighted, not {method!r}")
    if campaign_ids is None:
        campaign_ids = counted_campaigns(session)
    weights = annotator_weights(_known_labels(session, campaign_ids)) if method == "weighted" else None
    columns = (LabelRow.strength, LabelRow.sub_scores)
    for pair_id, rows in _pair_by_pair(session, campaign_ids, *columns, among=pair_ids):
        yield _common_answer(pair_id, rows, weights)


def _pair_by_pair(
    session: Session, campaign_ids: Sequence[int] | None, *columns: Any, among: Collection[int] | None = None
) -> Iterator[tuple[int, list[Row[Any]]]]:
    """Yield the current labels that count or overrule, oldest first, of one pair after the other, by pair id.

    Some pairs at a time, along an index: to sort a million labels at once would take the database longer.
    """
    common = (LabelRow.id, LabelRow.pair_id, LabelRow.annotator_id, LabelRow.choice, AssignmentRow.kind)
    labels = _current(select(*common, *columns), (*COUNTED, "adjudication"))
    by_pair = _campaign_pair_ids(session, campaign_ids, among)
    pair_ids = sorted(by_pair)
    for start in range(0, len(pair_ids), _PAIRS_AT_ONCE):
        campaign_pair_ids = [
            campaign_pair_id for pair_id in pair_ids[start : start + _PAIRS_AT_ONCE] for campaign_pair_id in by_pair[pair_id]
        ]
        rows = session.execute(labels.where(LabelRow.campaign_pair_id.in_(campaign_pair_ids))).all()
        groups: dict[int, list[Row[Any]]] = defaultdict(list)
        for row in sorted(rows, key=attrgetter("id")):
            groups[row.pair_id].append(row)
        yield from sorted(groups.items())


def _campaign_pair_ids(
    session: Session, campaign_ids: Sequence[int] | None, among: Collection[int] | None
) -> dict[int, list[int]]:
    """Map the pairs that were not dropped to their campaign pairs in these campaigns."""
    rows: Any = select(CampaignPairRow.pair_id, CampaignPairRow.id).where(CampaignPairRow.state != "dropped")
    if campaign_ids is not None:
        rows = rows.where(CampaignPairRow.campaign_id.in_(campaign_ids))
    pair_ids = None if among is None else sorted(among)
    statements = [rows]
    if pair_ids is not None:
        starts = range(0, len(pair_ids), _PAIRS_AT_ONCE)
        statements = [rows.where(CampaignPairRow.pair_id.in_(pair_ids[start : start + _PAIRS_AT_ONCE])) for start in starts]
    by_pair: dict[int, list[int]] = defaultdict(list)
    for statement in statements:
        for pair_id, campaign_pair_id in session.execute(statement):
            by_pair[pair_id].append(campaign_pair_id)
    return by_pair


def _current(statement: Any, kinds: Sequence[str]) -> Any:
    """Restrict a selection from labels to those in force, of some kinds."""
    of_kinds = (LabelRow.action == "label", AssignmentRow.kind.in_(kinds), IS_LAST)
    return statement.join(AssignmentRow, AssignmentRow.id == LabelRow.assignment_id).where(*of_kinds)


def _known_labels(session: Session, campaign_ids: Sequence[int] | None) -> KnownLabels:
    """All that tells how reliable people are: labels among others, and answers to pairs whose answer is known."""
    labels = KnownLabels()
    for pair_id, rows in _pair_by_pair(session, campaign_ids):
        counted, decision = _sorted_out(rows)
        for row in counted:
            labels.add(pair_id, row.annotator_id, row.choice)
        if decision is not None:
            labels.answers[pair_id] = decision.choice
    gold: Any = (
        select(CampaignPairRow.id, CampaignPairRow.gold, LabelRow.annotator_id, LabelRow.choice)
        .join(LabelRow, LabelRow.campaign_pair_id == CampaignPairRow.id)
        .where(CampaignPairRow.is_gold)
    )
    if campaign_ids is not None:
        gold = gold.where(CampaignPairRow.campaign_id.in_(campaign_ids))
    for row in session.execute(_current(gold, CHECKED)):
        # Pairs and gold questions are told apart by the sign.
        labels.add(-row.id, row.annotator_id, row.choice)
        labels.answers[-row.id] = row.gold["choice"]
    return labels


def _sorted_out(rows: list[Row[Any]]) -> tuple[list[Row[Any]], Row[Any] | None]:
    """Split labels into the last one of each annotator, and the last adjudication."""
    decisions = [row for row in rows if row.kind == "adjudication"]
    by_annotator = {row.annotator_id: row for row in rows if row.kind != "adjudication"}
    return list(by_annotator.values()), decisions[-1] if decisions else None


def _common_answer(pair_id: int, rows: list[Row[Any]], weights: Mapping[int, float] | None) -> Consensus:
    counted, decision = _sorted_out(rows)
    shares = _shares(counted, weights)
    if decision is not None:
        choice: Choice | None = decision.choice
        strength, cells = _mean_strength([decision]), _majority_cells(counted, weights)
        for side, values in decision.sub_scores.items():
            cells.setdefault(side, {}).update(values)
    else:
        best = max(CHOICES, key=lambda name: shares[name])
        choice = best if shares[best] > 0.5 + _MARGIN else None
        strength, cells = _mean_strength(counted), _majority_cells(counted, weights)
    support = shares[choice] if choice and counted else float(choice is not None)
    return Consensus(
        pair_id=pair_id,
        choice=choice,
        strength=strength,
        sub_scores=cells,
        labels=len(counted),
        support=support,
        adjudicated=decision is not None,
        label_ids=tuple(sorted(row.id for row in (*counted, *([decision] if decision is not None else [])))),
        annotators=tuple(sorted(row.annotator_id for row in counted)),
    )


def _shares(rows: list[Row[Any]], weights: Mapping[int, float] | None) -> dict[Choice, float]:
    """How much of the labels' weight stands behind each choice."""
    if weights is None:
        votes = Counter(row.choice for row in rows)
        return {name: votes[name] / max(1, len(rows)) for name in CHOICES}
    sums = [sum(weights[row.annotator_id] for row in rows if row.choice == name) for name in CHOICES]
    return dict(zip(CHOICES, posterior(sums), strict=True))


def _mean_strength(rows: list[Row[Any]]) -> float | None:
    if any(row.strength is None for row in rows if row.choice in ("A", "B")):
        return None
    return sum(_SIGNED[row.choice] * _SIZE.get(row.strength or "", 0.0) for row in rows) / len(rows)


def _majority_cells(rows: list[Row[Any]], weights: Mapping[int, float] | None) -> dict[str, dict[str, str]]:
    """Find the value of each sub-score that more than half of those who gave one agree on, by weight."""
    sums: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        # Somebody worse than chance tells nothing of which other value it should be.
        weight = 1.0 if weights is None else max(0.0, weights[row.annotator_id])
        for side, values in row.sub_scores.items():
            for dimension, value in values.items():
                sums[side, dimension][value] += weight
    cells: dict[str, dict[str, str]] = {}
    for side in ("A", "B"):
        for dimension in DIMENSIONS:
            weights_by_value = sums.get((side, dimension))
            if weights_by_value is None:
                continue
            best = max(weights_by_value, key=weights_by_value.__getitem__)
            if weights_by_value[best] > sum(weights_by_value.values()) / 2 + _MARGIN:
                cells.setdefault(side, {})[dimension] = best
    return cells
