"""A person's turn as the page sees it, and an answer of the page as the store sees it.

The page knows only "left" and "right". Which of the pair's videos A and B stood left is decided and kept on the server;
everything that says A or B, names a generator or a file, or tells what kind of turn it is, ends here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from app.clip_store import ClipStore
from app.serving.answer import Answer as ModelAnswer
from app.ui.verdict import verdict_view
from storage.campaigns.campaign import Campaign, Gold
from storage.campaigns.guidelines import Guidelines
from storage.campaigns.label_schema import Answer, as_shown
from storage.errors import AnswerError
from storage.labelling.assignments import Assignment
from storage.labelling.labels import Label
from storage.pairs import Pair
from storage.schema import Side

PAGE_SIDES = ("left", "right")
# What a campaign can open before a label is saved; a saved label opens all of it.
PARTS = ("generators", "thoughts", "rewards")
_FIELDS = {"action", "choice", "strength", "sub_scores", "marks", "note", "reason", "seconds", "playback"}
_OTHER: dict[Side, Side] = {"A": "B", "B": "A"}


def video_at(side: str, left_video: Side) -> Side:
    """The pair's video that stands at a side of the page.

    Raises:
        AnswerError: the page has no such side.
    """
    if side not in PAGE_SIDES:
        raise AnswerError(f"a side is left or right; found {side!r}")
    return left_video if side == "left" else _OTHER[left_video]


def assignment_view(
    turn: Assignment, campaign: Campaign, clip_store: ClipStore, practice: Mapping[str, int] | None
) -> dict[str, Any]:
    """What the page gets of a turn.

    Args:
        practice: {"number", "of"} while the person qualifies, else None.
    """
    left, right = _by_side(turn.pair.video_a, turn.pair.video_b, turn.left_video)
    return {
        "turn": turn.token,
        "state": turn.state,
        "prompt": turn.pair.prompt,
        "left": clip_store.view(left),
        "right": clip_store.view(right),
        "dimensions": list(campaign.config.dimensions),
        "practice": practice,
        "draft": turn.draft,
        "label": None if turn.label is None else label_view(turn.label),
        "expires_at": turn.expires_at.isoformat(),
        "open": list(campaign.config.visible),
    }


def label_view(label: Label) -> dict[str, Any]:
    """A saved label by the sides of the page; `id` names the revision, for an edit."""
    return as_shown(label, label.left_video) | {"id": label.id}


def history_view(turn: Assignment) -> dict[str, Any]:
    """One line of the last ten."""
    assert turn.label is not None
    return {
        "turn": turn.token,
        "prompt": turn.pair.prompt,
        "label": label_view(turn.label),
        "at": turn.label.created_at.isoformat(),
    }


def guidelines_view(version: int, guidelines: Guidelines, dimensions: Sequence[str]) -> dict[str, Any]:
    """The guidelines of the dimensions that a campaign asks."""
    guides = [(name, guidelines.dimensions[name]) for name in dimensions if name in guidelines.dimensions]
    return {
        "version": version,
        "intro": guidelines.intro,
        "dimensions": [{"name": name, "definition": one.definition, "example": one.example} for name, one in guides],
    }


# ---- answers -----------------------------------------------------------------------------------------------------


def answer_of(shown: Any, left_video: Side) -> Answer:
    """The page's answer in terms of the pair's videos. Only its form is checked here; the store checks the values.

    Raises:
        AnswerError: it does not have the form that the page sends.
    """
    if not isinstance(shown, Mapping) or not set(shown) <= _FIELDS:
        raise AnswerError(f"an answer is an object with {', '.join(sorted(_FIELDS))}")
    found = dict(shown)
    if found.get("choice") in PAGE_SIDES:
        found["choice"] = video_at(found["choice"], left_video)
    elif found.get("choice") not in (None, "tie", "both_bad"):
        raise AnswerError(f"a choice is left, right, tie or both_bad; found {found['choice']!r}")
    scores = _by_video(found.get("sub_scores"), left_video)
    found["sub_scores"] = scores if any(scores.values()) else {}
    found["playback"] = _by_video(found.get("playback"), left_video)
    found["marks"] = tuple(_mark(mark, left_video) for mark in _listed(found.get("marks")))
    return Answer(**found)


def checked_draft(draft: Any) -> dict[str, Any]:
    """A draft, which is kept as the page sends it, by the sides of the page.

    Raises:
        AnswerError: it is not an object.
    """
    if not isinstance(draft, dict):
        raise AnswerError("a draft is an object")
    return {name: draft[name] for name in (*sorted(_FIELDS), "submission") if name in draft}


def feedback_view(label: Label, gold: Gold, practice: Mapping[str, int]) -> dict[str, Any]:
    """The agreed answer of a practice pair beside one's own."""
    agreed = Answer(choice=gold.choice, sub_scores=gold.sub_scores or {})
    return {
        "own": label_view(label),
        "gold": {
            "choice": as_shown(agreed, label.left_video)["choice"],
            "sub_scores": as_shown(agreed, label.left_video)["sub_scores"] or None,
            "explanation": gold.explanation,
        },
        "right": label.choice == gold.choice,
        **practice,
    }


def _by_side(a: Any, b: Any, left_video: Side) -> tuple[Any, Any]:
    return (a, b) if left_video == "A" else (b, a)


def _by_video(shown: Any, left_video: Side) -> dict[str, dict[str, Any]]:
    if shown is None:
        return {}
    if not isinstance(shown, Mapping) or not all(isinstance(one, Mapping) for one in shown.values()):
        raise AnswerError("sub-scores and playback are given for left and right")
    return {video_at(side, left_video): dict(one) for side, one in shown.items()}


def _listed(marks: Any) -> list[Any]:
    if marks is None:
        return []
    if not isinstance(marks, list):
        raise AnswerError("marks are a list")
    return marks


def _mark(mark: Any, left_video: Side) -> dict[str, Any]:
    if not isinstance(mark, Mapping) or set(mark) != {"side", "time"}:
        raise AnswerError("a mark names a side and a time")
    return {"video": video_at(mark["side"], left_video), "time": mark["time"]}


# ---- the model's view --------------------------------------------------------------------------------------------


def generators_view(pair: Pair, left_video: Side) -> dict[str, str | None]:
    """Who made the videos."""
    return dict(zip(PAGE_SIDES, _by_side(pair.generator_a, pair.generator_b, left_video), strict=True))


def model_view(answer: ModelAnswer, left_video: Side, parts: Sequence[str]) -> dict[str, Any]:
    """The opened parts of the model's verdict, with the left video as A, as the person sees it.

    Args:
        answer: a finished answer about the pair's videos A and B.
        parts: of `PARTS`; thoughts come with their sub-scores, rewards with the probability.
    """
    view = verdict_view(answer if left_video == "A" else _flipped(answer))
    sides = dict(zip(PAGE_SIDES, view["sides"], strict=True))
    assert answer.verdict is not None
    found: dict[str, Any] = {"checkpoint": answer.verdict.checkpoint}
    if "thoughts" in parts:
        scored = all(one["scores"] for one in sides.values())
        found["thoughts"] = {side: one["thought"] for side, one in sides.items()}
        found["sub_scores"] = {side: one["scores"] for side, one in sides.items()} if scored else None
    if "rewards" in parts:
        found |= {"headline": view["headline"], "p_left": view["p"]}
        found["rewards"] = {side: one["reward"] for side, one in sides.items()}
        found["raw_rewards"] = {side: one["raw_reward"] for side, one in sides.items()}
    if {"thoughts", "rewards"} <= set(parts):
        found["reason"] = view["reason"]
    return found


def _flipped(answer: ModelAnswer) -> ModelAnswer:
    """The same answer with the videos in the other order."""
    verdict = answer.verdict
    assert verdict is not None
    p = None if verdict.p_first_preferred is None else 1 - verdict.p_first_preferred
    flipped: dict[str | None, Literal["A", "B", "tie"] | None] = {"A": "B", "B": "A", "tie": "tie"}
    outcome = flipped.get(verdict.verdict)
    turned = replace(verdict, videos=(verdict.videos[1], verdict.videos[0]), p_first_preferred=p, verdict=outcome)
    return replace(answer, sides=(answer.sides[1], answer.sides[0]), verdict=turned)
