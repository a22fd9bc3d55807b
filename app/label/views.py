"""An assignment as the page sees it, and an answer of the page as the store sees it.

The page knows only "left" and "right". The server decides and keeps which of the pair's videos A and B stands left. Whether
a video is A or B, its generator, its file and the kind of the assignment never pass this file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from app.clip_store import ClipStore
from app.serving.answer import Answer as ModelAnswer
from app.ui.answer_panel import answer_view
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
    """Return the pair's video that stands at a side of the page.

    Raises:
        AnswerError: the page has no such side.
    """
    if side not in PAGE_SIDES:
        raise AnswerError(f"a side is left or right; found {side!r}")
    return left_video if side == "left" else _OTHER[left_video]


def assignment_view(
    assignment: Assignment, campaign: Campaign, clip_store: ClipStore, practice: Mapping[str, int] | None
) -> dict[str, Any]:
    """Return an assignment for the page.

    Args:
        practice: {"number", "of"} while the person qualifies, else None.
    """
    left, right = _by_side(assignment.pair.video_a, assignment.pair.video_b, assignment.left_video)
    return {
        "turn": assignment.token,
        "state": assignment.state,
        "prompt": assignment.pair.prompt,
        "left": clip_store.view(left),
        "right": clip_store.view(right),
        "dimensions": list(campaign.config.dimensions),
        "practice": practice,
        "draft": _whole_characters(assignment.draft),
        "label": None if assignment.label is None else label_view(assignment.label),
        "expires_at": assignment.expires_at.isoformat(),
        "open": list(campaign.config.visible),
    }


def _whole_characters(draft: Mapping[str, Any] | None) -> Any:
    """Return a draft with "?" for half characters: earlier versions stored them, and no answer can hold them."""
    return None if draft is None else json.loads(json.dumps(draft, ensure_ascii=False).encode("utf-8", "replace"))


def label_view(label: Label) -> dict[str, Any]:
    """Return a saved label by the sides of the page; `id` names the revision, for an edit."""
    return as_shown(label, label.left_video) | {"id": label.id}


def history_view(assignment: Assignment) -> dict[str, Any]:
    """Return one line of the last ten."""
    assert assignment.label is not None
    return {
        "turn": assignment.token,
        "prompt": assignment.pair.prompt,
        "label": label_view(assignment.label),
        "at": assignment.label.created_at.isoformat(),
    }


def guidelines_view(version: int, guidelines: Guidelines, dimensions: Sequence[str]) -> dict[str, Any]:
    """Return the guidelines of a campaign's dimensions."""
    guides = [(name, guidelines.dimensions[name]) for name in dimensions if name in guidelines.dimensions]
    return {
        "version": version,
        "intro": guidelines.intro,
        "dimensions": [{"name": name, "definition": guide.definition, "example": guide.example} for name, guide in guides],
    }


# ---- answers -----------------------------------------------------------------------------------------------------


def answer_of(shown: Any, left_video: Side) -> Answer:
    """Return the page's answer in terms of the pair's videos. Only its form is checked here; the store checks the values.

    Raises:
        AnswerError: it does not have the form that the page sends.
    """
    if not isinstance(shown, Mapping) or not set(shown) <= _FIELDS:
        raise AnswerError(f"an answer is an object with {', '.join(sorted(_FIELDS))}")
    values = dict(shown)
    if values.get("choice") in PAGE_SIDES:
        values["choice"] = video_at(values["choice"], left_video)
    elif values.get("choice") not in (None, "tie", "both_bad"):
        raise AnswerError(f"a choice is left, right, tie or both_bad; found {values['choice']!r}")
    scores = _by_video(values.get("sub_scores"), left_video)
    values["sub_scores"] = scores if any(scores.values()) else {}
    values["playback"] = _by_video(values.get("playback"), left_video)
    values["marks"] = tuple(_mark(mark, left_video) for mark in _listed(values.get("marks")))
    return Answer(**values)


def checked_draft(draft: Any) -> dict[str, Any]:
    """Return a draft as it is kept: as the page sent it, by the sides of the page.

    Raises:
        AnswerError: it is not an object.
    """
    if not isinstance(draft, dict):
        raise AnswerError("a draft is an object")
    return {name: draft[name] for name in (*sorted(_FIELDS), "submission") if name in draft}


def feedback_view(label: Label, gold: Gold, practice: Mapping[str, int]) -> dict[str, Any]:
    """Return the agreed answer of a practice pair beside the person's own."""
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
    if not isinstance(shown, Mapping) or not all(isinstance(entry, Mapping) for entry in shown.values()):
        raise AnswerError("sub-scores and playback are given for left and right")
    return {video_at(side, left_video): dict(entry) for side, entry in shown.items()}


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
    """Return the generators of the videos."""
    return dict(zip(PAGE_SIDES, _by_side(pair.generator_a, pair.generator_b, left_video), strict=True))


def model_view(answer: ModelAnswer, left_video: Side, parts: Sequence[str]) -> dict[str, Any]:
    """Return the opened parts of the model's answer, with the left video as A, as the person sees it.

    Args:
        answer: a finished answer about the pair's videos A and B.
        parts: of `PARTS`; thoughts come with their sub-scores, rewards with the probability.
    """
    view = answer_view(answer if left_video == "A" else _flipped(answer))
    sides = dict(zip(PAGE_SIDES, view["sides"], strict=True))
    assert answer.comparison is not None
    content: dict[str, Any] = {"checkpoint": answer.comparison.checkpoint}
    if "thoughts" in parts:
        scored = all(side_view["scores"] for side_view in sides.values())
        content["thoughts"] = {side: side_view["thought"] for side, side_view in sides.items()}
        content["sub_scores"] = {side: side_view["scores"] for side, side_view in sides.items()} if scored else None
    if "rewards" in parts:
        content |= {"headline": view["headline"], "p_left": view["p"]}
        content["rewards"] = {side: side_view["reward"] for side, side_view in sides.items()}
        content["raw_rewards"] = {side: side_view["raw_reward"] for side, side_view in sides.items()}
    if {"thoughts", "rewards"} <= set(parts):
        content["reason"] = view["reason"]
    return content


def _flipped(answer: ModelAnswer) -> ModelAnswer:
    """Return the same answer with the videos in the other order."""
    comparison = answer.comparison
    assert comparison is not None
    p = None if comparison.p_first_preferred is None else 1 - comparison.p_first_preferred
    flipped: dict[str | None, Literal["A", "B", "tie"] | None] = {"A": "B", "B": "A", "tie": "tie"}
    outcome = flipped.get(comparison.verdict)
    turned = replace(comparison, videos=(comparison.videos[1], comparison.videos[0]), p_first_preferred=p, verdict=outcome)
    return replace(answer, sides=(answer.sides[1], answer.sides[0]), comparison=turned)
