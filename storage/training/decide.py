"""Deciding a candidate with few labels: a blind campaign of the pairs on which it and the current checkpoint differ.

    with database.write() as session:
        decision = open_decision(session, candidate.id, current.id, DecisionConfig(margin=0.03), lead.id)
        state = decision_state(session, decision)
        if state.look.outcome is not None:
            record_outcome(session, candidate.id, state)
    state.look.e_value, state.labels_left

A decision is kept with the candidate's gate, as an entry of "decisions": which campaign asks, what both checkpoints prefer
on its pairs (frozen when they were added), and in the end the outcome. People are asked one question a pair, and each pair
counts once, by their common answer. The test is `storage.training.sequential_test`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from storage.campaigns.campaign import (
    CampaignConfig,
    create_campaign,
    free_campaign_name,
    get_campaign,
    list_campaigns,
    set_status,
)
from storage.campaigns.guidelines import DEFAULT_GUIDELINES, Guidelines, current_guidelines
from storage.errors import StorageError
from storage.labelling.campaign_pairs import add_pairs
from storage.labelling.consensus import iterate_consensus
from storage.schema import utc_now
from storage.training.decide_pairs import Comparison, compare_on, decision_pool, differing_of, in_layers
from storage.training.model_registry import Checkpoint, get_checkpoint, lock_gate, set_gate
from storage.training.sequential_test import MARGIN, Look, SequentialTest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ENTRIES = "decisions"  # of a gate
MOST_PEOPLE = 9
_SIGN = {"A": 1, "B": -1}
_LONGEST_NAME = 150


@dataclass(frozen=True)
class DecisionConfig:
    """How people are asked.

    Attributes:
        margin: largest difference of agreement that does not matter, as a fraction of 1.
        people: that label each pair; one is best, since another pair tells more than a second label.

    Raises:
        StorageError: out of range.
    """

    margin: float = MARGIN
    people: int = 1

    def __post_init__(self) -> None:
        if not 0.001 <= self.margin <= 0.5:
            raise StorageError("a difference that does not matter lies between 0.1 and 50 points")
        if not 1 <= self.people <= MOST_PEOPLE:
            raise StorageError(f"1 to {MOST_PEOPLE} people label a pair")


@dataclass(frozen=True)
class Decision:
    """A decision between a candidate and the checkpoint that served when it was opened.

    Attributes:
        campaign_id: the campaign that asks.
        current_id: the checkpoint that the candidate is compared with.
        current: its name.
        sides: of the pairs that both had judged, by id: +1 where the candidate prefers A and the other B, -1 the other way
            round, 0 where they prefer the same video. People are asked about the first two kinds.
        opened_at: in ISO form.
        opened_by: a user's id.
        recorded: the outcome, see `record_outcome`; None while it is open.
    """

    campaign_id: int
    current_id: int
    current: str
    sides: Mapping[int, int] = field(hash=False)
    config: DecisionConfig
    opened_at: str
    opened_by: int | None
    recorded: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def test(self) -> SequentialTest:
        """The test of its labels."""
        return SequentialTest(len(self.differing) / len(self.sides), self.config.margin)

    @property
    def differing(self) -> tuple[int, ...]:
        """The pairs that people are asked about."""
        return differing_of(self.sides)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {
            "campaign_id": self.campaign_id,
            "current_id": self.current_id,
            "current": self.current,
            "sides": {str(pair_id): side for pair_id, side in self.sides.items()},
            "margin": self.config.margin,
            "people": self.config.people,
            "opened_at": self.opened_at,
            "opened_by": self.opened_by,
            "recorded": None if self.recorded is None else dict(self.recorded),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """Read what `to_dict` gave."""
        return cls(
            campaign_id=values["campaign_id"],
            current_id=values["current_id"],
            current=values["current"],
            sides={int(pair_id): side for pair_id, side in values["sides"].items()},
            config=DecisionConfig(values["margin"], values["people"]),
            opened_at=values["opened_at"],
            opened_by=values["opened_by"],
            recorded=values["recorded"],
        )


@dataclass(frozen=True)
class DecisionState:
    """What people say so far.

    Attributes:
        look: at the labels up to the one that decided it; at all of them while it is open.
        labels_left: forecast of the labels that it takes still; None where nothing can be said.
        unanswered: pairs of the campaign that wait for an answer.
        status: of the campaign.
        campaign: its name.
    """

    decision: Decision
    look: Look
    labels_left: int | None
    unanswered: int
    status: str
    campaign: str


def decisions_of(checkpoint: Checkpoint) -> tuple[Decision, ...]:
    """Read the decisions about a checkpoint, oldest first."""
    return tuple(Decision.from_dict(entry) for entry in (checkpoint.gate or {}).get(ENTRIES, ()))


def open_decision(session: Session, candidate_id: int, current_id: int, config: DecisionConfig, by: int | None) -> Decision:
    """Open a blind campaign of the unlabelled pairs on which the two prefer different videos.

    Raises:
        NotInStoreError: there is no such checkpoint.
        StorageError: they are the same, no pair can be asked, or a decision between them is open already.
    """
    candidate, current = (get_checkpoint(session, key) for key in (candidate_id, current_id))
    if candidate.id == current.id:
        raise StorageError(f"{candidate.name} serves already; there is nothing to decide")
    gate = lock_gate(session, candidate.id)
    if any(not entry["recorded"] and entry["current_id"] == current.id for entry in gate.get(ENTRIES, ())):
        raise StorageError("people are being asked about these two already; add pairs to that campaign")
    comparison = compare_on(session, decision_pool(session, candidate, current), candidate, current)
    if not comparison.differing:
        raise StorageError(
            f"{candidate.name} and {current.name} prefer the same video on all {len(comparison.sides)} pairs that both have "
            "judged; let them judge more pairs"
        )
    layers = in_layers(session, comparison.differing)
    settings = CampaignConfig(
        name=free_campaign_name(session, f"Decide: {candidate.name[:_LONGEST_NAME]}"),
        dimensions=(),
        overlap=config.people,
        gold_share=0.0,
        repeat_share=0.0,
    )
    campaign = create_campaign(session, settings, layers[0], _guidelines(session), created_by=by)
    for layer in layers[1:]:
        add_pairs(session, campaign.id, layer)
    decision = Decision(
        campaign_id=campaign.id,
        current_id=current.id,
        current=current.name,
        sides=comparison.sides,
        config=config,
        opened_at=utc_now().isoformat(),
        opened_by=by,
    )
    _save(session, candidate.id, decision)
    return decision


def add_differing(session: Session, candidate_id: int, campaign_id: int) -> int:
    """Ask about the differing pairs that were judged since, too; returns how many came in.

    Raises:
        NotInStoreError: there is no such checkpoint.
        StorageError: there is no such open decision.
    """
    lock_gate(session, candidate_id)
    candidate = get_checkpoint(session, candidate_id)
    decision = _open_one(candidate, campaign_id)
    fresh = further_pairs(session, candidate, decision)
    for layer in in_layers(session, fresh.differing):
        add_pairs(session, campaign_id, layer)
    _save(session, candidate_id, replace(decision, sides={**decision.sides, **fresh.sides}))
    return len(fresh.differing)


def further_pairs(session: Session, candidate: Checkpoint, decision: Decision) -> Comparison:
    """Compare the two on pairs that both have judged since a decision was opened."""
    current = get_checkpoint(session, decision.current_id)
    comparison = compare_on(session, decision_pool(session, candidate, current), candidate, current)
    sides = {pair_id: side for pair_id, side in comparison.sides.items() if pair_id not in decision.sides}
    return Comparison(sides, comparison.unjudged)


def decision_state(session: Session, decision: Decision) -> DecisionState:
    """Read what people say so far.

    Raises:
        NotInStoreError: the campaign is gone.
    """
    campaign = get_campaign(session, decision.campaign_id)
    test, sides = decision.test, _answers(session, decision)
    look = test.first_outcome(sides) or test.look(sides.count(1), sides.count(-1), sides.count(0))
    return DecisionState(
        decision=decision,
        look=look,
        labels_left=test.labels_left(look),
        unanswered=len(decision.differing) - len(sides),
        status=campaign.status,
        campaign=campaign.config.name,
    )


def record_outcome(session: Session, candidate_id: int, state: DecisionState, at: datetime | None = None) -> bool:
    """Keep the outcome with the candidate's gate and pause the campaign, once; returns whether this call did it.

    Raises:
        NotInStoreError: there is no such checkpoint.
        StorageError: it is not decided, or there is no such decision.
    """
    if state.look.outcome is None:
        raise StorageError("nothing is decided yet")
    lock_gate(session, candidate_id)
    candidate = get_checkpoint(session, candidate_id)
    campaign_id = state.decision.campaign_id
    if any(known.campaign_id == campaign_id and known.recorded for known in decisions_of(candidate)):
        return False
    decision = _open_one(candidate, campaign_id)
    recorded = {
        **state.look.to_dict(),
        "sentence": outcome_sentence(candidate.name, decision, state.look),
        "at": (at or utc_now()).isoformat(),
    }
    _save(session, candidate_id, replace(decision, recorded=recorded))
    if get_campaign(session, campaign_id).status == "open":
        set_status(session, campaign_id, "paused")
    return True


def outcome_sentence(candidate: str, decision: Decision, look: Look) -> str:
    """Write the outcome as a sentence, as it is kept."""
    low, high = (f"{100 * value:+.1f}".replace("-", "\N{MINUS SIGN}") for value in look.interval)
    title = {"better": "Better", "worse": "Worse"}.get(
        look.outcome or "", f"No difference of more than {100 * decision.config.margin:g} points"
    )
    ties = f", on {look.ties} with neither" if look.ties else ""
    return (
        f"{title}: on {look.better} of {look.labels} pairs on which the two differ people side with {candidate}, on "
        f"{look.worse} with {decision.current}{ties}; agreement changes by {low} to {high} points (95 %, however often one "
        "looked)."
    )


def _answers(session: Session, decision: Decision) -> list[int]:
    """Sides of the pairs that have their answer, in the order in which they got it: +1 candidate, -1 current, 0 neither."""
    answered = []
    for common in iterate_consensus(session, [decision.campaign_id]):
        side = decision.sides.get(common.pair_id)
        if not side or (common.labels < decision.config.people and not common.adjudicated):
            continue
        # People who don't agree among each other side with neither.
        answered.append((max(common.label_ids), side * _SIGN.get(common.choice or "", 0)))
    return [side for _, side in sorted(answered)]


def _open_one(candidate: Checkpoint, campaign_id: int) -> Decision:
    for decision in decisions_of(candidate):
        if decision.campaign_id == campaign_id and decision.recorded is None:
            return decision
    raise StorageError("this decision is over, or unknown; reload the page")


def _save(session: Session, candidate_id: int, decision: Decision) -> None:
    """Put a decision into the candidate's gate, in the place of an earlier state of it."""
    gate = dict(lock_gate(session, candidate_id))
    others: Sequence[Mapping[str, Any]] = [
        entry for entry in gate.get(ENTRIES, ()) if entry["campaign_id"] != decision.campaign_id
    ]
    set_gate(session, candidate_id, {**gate, ENTRIES: [*others, decision.to_dict()]})


def _guidelines(session: Session) -> Guidelines:
    """Those of the newest campaign, so that people judge as they were asked to; without one the program's."""
    campaigns = list_campaigns(session)
    return current_guidelines(session, campaigns[-1].id)[1] if campaigns else DEFAULT_GUIDELINES
