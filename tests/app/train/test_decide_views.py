"""What the Train page shows of a decision and of the power of a comparison."""

from __future__ import annotations

from typing import Any

import pytest

from app.train.views.decide import DecideSummary, decide_view, decision_pill, evidence_text
from app.train.views.power import power_view
from storage.labelling.krippendorff import Alpha
from storage.training.decide import Decision, DecisionConfig, DecisionState, outcome_sentence
from storage.training.decide_pairs import Comparison, DecisionPool
from storage.training.power import ComparisonPower

EVIL = "<img src=x onerror=alert(1)>"
SIDES = {pair: (1, -1, 0, 0, 0)[pair % 5] for pair in range(100)}  # they differ on 40 of 100


def summary(**changes: Any) -> DecideSummary:
    fields: dict[str, Any] = {
        "candidate_id": 7,
        "candidate": "week 12",
        "current": "bundled",
        "serves": False,
        "pool": DecisionPool(tuple(range(160)), 12, 3),
        "comparison": Comparison(SIDES, tuple(range(100, 160))),
        "state": None,
    }
    return DecideSummary(**{**fields, **changes})


def state(better: int, worse: int, ties: int = 0, recorded: bool = False, **changes: Any) -> DecisionState:
    decision = Decision(3, 1, "bundled", SIDES, DecisionConfig(), "2026-05-04T12:00:00+00:00", 1)
    look = decision.test.look(better, worse, ties)
    if recorded:
        kept = {**look.to_dict(), "sentence": outcome_sentence("week 12", decision, look), "at": "2026-05-05"}
        decision = Decision.from_dict({**decision.to_dict(), "recorded": kept})
    fields: dict[str, Any] = {
        "decision": decision,
        "look": look,
        "labels_left": decision.test.labels_left(look),
        "unanswered": 40 - look.labels,
        "status": "open",
        "campaign": "Decide: week 12",
    }
    return DecisionState(**{**fields, **changes})


def test_before_people_are_asked_it_says_how_many_pairs_differ_and_what_it_takes() -> None:
    html = str(decide_view(summary(), may_act=True))
    for text in (
        "160",
        "100",
        "40 %",
        "12 pairs with a video that was trained on",
        "3 pairs with a prompt that was",
        "A difference in agreement of 5 points takes about",
    ):
        assert text in html
    assert 'data-act="decide_open" data-id="7"' in html
    assert "ask people about 40 pairs" in html
    assert 'data-act="decide_judge"' in html
    assert 'max="60"' in html
    assert "data-act" not in str(decide_view(summary(), may_act=False))


def test_without_a_judged_pair_both_judge_first() -> None:
    html = str(decide_view(summary(comparison=Comparison({}, tuple(range(160)))), may_act=True))
    assert "decide_open" not in html
    assert 'is-main">Let both judge them' in html
    nothing = summary(pool=DecisionPool((), 4, 0, ("theirs",)), comparison=Comparison({}, ()))
    html = str(decide_view(nothing, may_act=True))
    assert "No pair is left that could decide" in html
    assert "what theirs learnt before it came here" in html
    assert "<form" not in html
    assert "gives no reward." in str(decide_view(summary(comparison=None, trouble="it gives no reward"), may_act=True))


def test_while_people_are_asked_it_says_how_it_stands() -> None:
    html = str(decide_view(summary(comparison=Comparison({1: 1}, ()), state=state(9, 4, 2)), may_act=True))
    assert "Not decided yet. If it goes on like this, about" in html
    assert "more label" in html
    assert "let both judge more pairs" in html  # more are needed than wait
    assert "Add 1 pair that were judged since" in html or "Add 1 pair" in html
    assert "promote" not in html
    paused = str(decide_view(summary(state=state(0, 0, status="paused")), may_act=True))
    assert "40 pairs of the campaign" in paused
    assert "is paused" in paused


@pytest.mark.parametrize(("better", "worse", "title", "offers"), [(20, 3, "Better:", True), (3, 20, "Worse:", False)])
def test_a_recorded_outcome_is_the_ground_for_promoting(better: int, worse: int, title: str, offers: bool) -> None:
    decided = summary(state=state(better, worse, recorded=True), pool=None, comparison=None)
    html = str(decide_view(decided, may_act=True))
    assert title in html
    assert f"on {better} of 23 pairs on which the two differ people side with week 12" in html
    assert ('data-act="promote" data-id="7"' in html) == offers
    assert "data-act" not in str(decide_view(decided, may_act=False))


def test_evidence_is_said_in_words() -> None:
    assert "none yet" in evidence_text(state(1, 1).look)
    assert "considerable" in evidence_text(state(13, 2).look) or "decided" in evidence_text(state(13, 2).look)
    assert evidence_text(state(30, 2).look).startswith("Evidence ")
    assert "decided: no difference" in decision_pill("no difference")


def test_names_are_escaped() -> None:
    html = str(decide_view(summary(candidate=EVIL, current=EVIL), may_act=True))
    html += str(decide_view(summary(candidate=EVIL, state=state(20, 3, recorded=True)), may_act=True))
    assert "<img" not in html


def test_power_is_said_beside_the_form_and_a_low_alpha_in_plain_words() -> None:
    power = ComparisonPower(38, 0.2, True, 0.17, 640, 4000)
    html = str(power_view(power, Alpha(0.41, 0.3, 0.5, 30, 90, None), "prompts"))
    for text in (
        "38 held-out pairs",
        "from 17 points on",
        "as in the last comparison",
        "640 such pairs",
        "alpha 0.41",
        "“Decide”",
    ):
        assert text in html.replace("\N{NARROW NO-BREAK SPACE}", "")
    html = str(power_view(ComparisonPower(4, 0.2, False, None, 640, 4000), None, "pairs"))
    assert "too few to show any difference" in html
    assert "which is usual" in html
    assert "Held out are single pairs" in html
    assert "alpha" not in html
