"""What the page says of an answer, without a server."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from app.serving.answer import Answer, VideoAnswer
from app.ui.answer_panel import answer_view, differing, reason
from app.ui.thought_text import readable_thought
from descore.answer import DIMENSIONS, render_answer
from descore.calibration import ModeCalibration
from descore.judgement import Judgement, Verdict

SCALE = ModeCalibration(0.1, 0.5, 0.4, 0.05, reference_videos=100, validation_pairs=50)


def judgement(scores: str, reward: float | None = 0.4) -> Judgement:
    """A judgement whose sub-scores are the letters of `scores` ("-" for N/A)."""
    cells = dict(zip(DIMENSIONS, ("N/A" if letter == "-" else letter for letter in scores), strict=True))
    return Judgement(
        path="x",
        mode="think",
        thought=render_answer("I see a circle.", cells, 4.0),
        sub_scores=cells,
        overall_score=4.0,
        parse_note=None,
        strict_format=True,
        reward=reward,
        standardised_reward=None if reward is None else (reward - 0.1) / 0.5,
        reward_spread=None,
        sub_score_votes=None,
        truncated=False,
        seconds=1.2,
    )


def answer(a: Judgement, b: Judgement, outcome: str | None, p: float | None) -> Answer:
    comparison = Verdict("bundled v1", "think", "a circle", (a, b), p, outcome)  # type: ignore[arg-type]
    return Answer(
        phase="done", sides=(VideoAnswer(a.thought, a), VideoAnswer(b.thought, b)), comparison=comparison, scale=SCALE
    )


def test_streamed_thought_only_grows_and_never_shows_a_tag() -> None:
    text = render_answer("I expect a < b.\nI see it.", dict.fromkeys(DIMENSIONS, "2"), 5.0)
    shown = [readable_thought(text[:size]) for size in range(len(text) + 1)]
    assert all(later.startswith(earlier) for earlier, later in pairwise(shown))
    assert shown[-1] == "I expect a < b.\nI see it."
    assert not any("think>" in one or "answer" in one for one in shown)


@pytest.mark.parametrize(
    ("a", "b", "outcome", "line"),
    [
        ("22222", "22022", "A", "B misses the camera work."),
        ("22-22", "21-02", "A", "B misses the environment and only partly shows the motion."),
        ("12222", "22202", "B", "A only partly shows the subject; B misses the environment."),
        ("22222", "22222", "A", "Equal sub-scores; only the rewards tell them apart."),
        ("22222", "22222", "tie", "Equal sub-scores."),
        ("22222", "22-22", "B", "The two answers differ only in what the prompt is said to ask for."),
    ],
)
def test_reason_names_the_dimensions_that_differ(a: str, b: str, outcome: str, line: str) -> None:
    assert reason(judgement(a), judgement(b), outcome) == line


def test_view_of_a_preference_and_of_a_tie() -> None:
    a, b = judgement("22222", 0.6), judgement("22022", -0.3)
    view = answer_view(answer(a, b, "B", 0.29))
    assert view["headline"] == "B preferred, 71 %"
    assert view["differing"] == ["camera"]
    assert [side["reward"] for side in view["sides"]] == ["+1.00 SD", "\N{MINUS SIGN}0.80 SD"]
    assert view["sides"][0]["thought"] == "I see a circle."
    assert '"camera": "2"' in view["sides"][0]["json"]
    assert answer_view(answer(a, a, "tie", 0.5))["headline"] == "Too close to call"


@pytest.mark.parametrize(
    ("p", "headline", "ends"),
    [
        (1.0, "A preferred, over 99 %", ["over 99 %", "under 1 %"]),
        (0.9951, "A preferred, over 99 %", ["over 99 %", "under 1 %"]),
        (0.99, "A preferred, 99 %", ["99 %", "1 %"]),
        (0.0, "B preferred, over 99 %", ["under 1 %", "over 99 %"]),
    ],
)
def test_no_probability_is_shown_as_a_certainty(p: float, headline: str, ends: list[str]) -> None:
    view = answer_view(answer(judgement("22222", 9.0), judgement("22022", -9.0), "A" if p > 0.5 else "B", p))
    assert (view["headline"], view["odds"]) == (headline, ends)


def test_without_a_calibration_no_probability_is_shown() -> None:
    a, b = judgement("22222", 0.6), judgement("22022", -0.3)
    view = answer_view(replace(answer(a, b, "A", None), scale=None))
    assert (view["headline"], view["p"], view["odds"]) == ("A has the higher reward", None, None)
    assert view["reason"].startswith("No calibration for this mode, so no probability.")
    assert any("no P(A preferred)" in line for line in view["sides"][0]["how"])


def test_a_scale_that_was_carried_over_is_named() -> None:
    own = answer(judgement("22222", 0.6), judgement("22022", -0.3), "A", 0.8)
    carried = replace(own, scale=replace(SCALE, source="bundled v2"))
    how = [" ".join(answer_view(each)["sides"][0]["how"]) for each in (own, carried)]
    assert "Both fitted on 50 validation pairs." in how[0]
    assert "Both carried over from bundled v2, rescaled (fitted there on 50 validation pairs)." in how[1]


def test_an_overall_score_that_contradicts_its_sub_scores_is_marked() -> None:
    odd = replace(judgement("20010"), overall_score=4.17)
    view = answer_view(answer(odd, judgement("22022"), "B", 0.3))
    assert view["sides"][0]["note"] == "the overall score 4.17 contradicts the thought's own sub-scores, which imply 2 to 3"
    assert view["sides"][1]["note"] is None
    marked = odd.to_json_dict()
    assert (marked["implied_overall_score"], marked["overall_contradicts"]) == ([2.0, 3.0], True)
    assert replace(odd, mode="k").to_json_dict()["overall_contradicts"] is None
    assert replace(odd, sub_scores=None).to_json_dict()["implied_overall_score"] is None


def test_a_video_unlike_those_that_the_checkpoint_knows_gets_no_probability() -> None:
    a, b = replace(judgement("22222", 9.0), distance=2.31), replace(judgement("22022", -9.0), distance=0.8)
    view = answer_view(answer(a, b, "A", 0.9999))
    assert view["headline"] == "Unlike the videos this checkpoint knows: A has the higher reward"
    assert view["reason"].startswith("So no probability is shown: A lies at 2.3 times the limit. B misses")
    assert (view["p"], view["odds"]) == (None, None)
    assert [bool(side["familiarity"]) for side in view["sides"]] == [True, False]
    assert any("distance 2.31" in line and "unfamiliar" in line for line in view["sides"][0]["how"])
    kept = answer(a, b, "A", 0.9999).comparison
    assert kept is not None
    exact = kept.to_json_dict()
    assert exact["p_first_preferred"] == 0.9999
    assert [(video["distance"], video["unfamiliar"]) for video in exact["videos"]] == [(2.31, True), (0.8, False)]
    assert answer_view(answer(a, a, "tie", 0.5))["headline"] == "Unlike the videos this checkpoint knows: too close to call"


def test_what_is_not_known_is_not_called_familiar() -> None:
    a, b = judgement("22222", 0.6), judgement("22022", -0.3)
    view = answer_view(answer(a, b, "A", 0.8))
    assert view["headline"] == "A preferred, 80 %"
    assert view["sides"][0]["familiarity"] is None
    assert any(line.endswith("is not known.") for line in view["sides"][0]["how"])
    assert a.to_json_dict()["unfamiliar"] is None


def test_without_a_head_there_is_no_reward_and_the_page_says_so() -> None:
    a, b = judgement("22222", None), judgement("21222", None)
    view = answer_view(answer(a, b, None, None))
    assert view["headline"] == "No reward"
    assert "no trained scoring module" in view["reason"]
    assert view["p"] is None
    assert view["sides"][0]["reward"] == "none"
    assert view["sides"][0]["scores"] == a.sub_scores


def test_what_cannot_be_read_is_shown_raw_and_says_so() -> None:
    broken = replace(judgement("22222"), thought="<think>hm", sub_scores=None, parse_note="not readable: no JSON")
    view = answer_view(answer(broken, judgement("22222"), "A", 0.6))
    side = view["sides"][0]
    assert side["thought"] == "<think>hm"
    assert "not readable" in side["note"]
    assert side["json"] is None
    assert view["reason"] == "No sub-scores could be read for A."
    assert view["differing"] == []


def test_votes_over_sampled_thoughts_are_shown_as_shares() -> None:
    votes = {name: {"2": 6, "1": 2} for name in DIMENSIONS}
    sampled = replace(judgement("22222"), mode="k", sub_score_votes=votes, reward_spread=0.12)
    side = answer_view(answer(sampled, sampled, "tie", 0.5))["sides"][0]
    assert side["votes"] == dict.fromkeys(DIMENSIONS, "6/8")
    assert "0.120" in side["raw_reward"]
    assert differing(sampled, sampled) == []


def test_each_of_several_thoughts_is_shown_with_its_reward() -> None:
    cells = dict.fromkeys(DIMENSIONS, "2") | {"style": "N/A"}
    kept = [
        {"text": render_answer("First.", cells, 4.0), "reward": 0.1, "truncated": False},
        {"text": "<think>cut", "reward": 0.6, "truncated": True},
        {"text": render_answer("Third.", cells, 4.0), "reward": 1.1, "truncated": False},
    ]
    a = replace(judgement("2222-"), mode="k", reward_spread=0.5, thoughts=kept)
    b = replace(a, thoughts=[one | {"reward": one["reward"] - 1.0} for one in kept])
    left, right = (side["samples"] for side in answer_view(answer(a, b, "A", 0.9))["sides"])
    assert left["line"] == "3 thoughts, rewards from +0.00 to +2.00; standard deviation among them 1.00."
    assert [one["text"] for one in left["thoughts"]] == ["First.", "cut", "Third."]
    assert [one["scores"] for one in left["thoughts"]] == ["2 2 2 2 \N{EN DASH}", "", "2 2 2 2 \N{EN DASH}"]
    assert [one["at"] for one in left["thoughts"]] == [0.5, 0.75, 1.0]
    assert [one["at"] for one in right["thoughts"]] == [0.0, 0.25, 0.5]
    assert answer_view(answer(judgement("22222"), a, None, None))["sides"][0]["samples"] is None


def test_a_verdict_says_how_it_was_made_and_all_of_it_can_be_had() -> None:
    a, b = judgement("22222", 0.6), judgement("22022", -0.3)
    view = answer_view(answer(a, b, "B", 0.29))
    assert view["made"] == "with a thought \N{MIDDLE DOT} 1.2 s"
    whole = json.loads(json.dumps(view["whole"]))
    assert (whole["verdict"], whole["prompt"], whole["calibration"]["std"]) == ("B", "a circle", 0.5)
    assert [video["reward"] for video in whole["videos"]] == [0.6, -0.3]
    assert not any("path" in video for video in whole["videos"])
    assert answer_view(Answer(phase="running"))["whole"] is None
