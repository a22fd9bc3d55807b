"""The panel of a model's answer about a pair: odds, sub-score table, thoughts, and how it was computed.

    panel = answer_panel()                                      # the component
    answer_view(Answer(phase="running", sides=(VideoAnswer("<think>I see"), VideoAnswer(""))))     # its value

Everything here is text in, plain values out; static/judge/verdict.js draws them without moving what is already there.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import gradio as gr

from app.serving.answer import Answer, VideoAnswer
from app.serving.judging_queue import Place
from app.ui.assets import mount_script, read_static
from app.ui.thought_samples import reward_range, samples_view
from app.ui.thought_text import readable_thought
from app.ui.wording import duration, ordinal, probability
from descore.answer import DIMENSIONS, NOT_ASKED
from descore.calibration import probability_source
from descore.judgement import Judgement, Verdict, contradiction

LABELS = ("A", "B")
UNFAMILIAR = "Unlike the videos this checkpoint knows: what it says of this one is worth little."
SHOWN_AS = {
    "subject": "the subject",
    "dynamics": "the motion",
    "camera": "the camera work",
    "environment": "the environment",
    "style": "the style",
}


def answer_panel(elem_id: str = "verdict") -> gr.HTML:
    """Build the component inside the current `gr.Blocks`; set its value to `answer_view(...)`."""
    return gr.HTML(
        answer_view(Answer()),
        html_template=read_static("shared/verdict.html"),
        js_on_load=mount_script("shared/verdict.js"),
        apply_default_css=False,
        elem_id=elem_id,
    )


def answer_view(answer: Answer) -> dict[str, Any]:
    """Return the component's value."""
    headline, explanation = _headline(answer)
    p = answer.comparison.p_first_preferred if answer.comparison and not answer.comparison.unfamiliar else None
    between = reward_range(side.judgement for side in answer.sides)
    return {
        "phase": answer.phase,
        "source": "store" if answer.from_store else "model",
        "headline": headline,
        "reason": explanation,
        "status": _waiting(answer.place) or answer.status,
        "p": p,
        "odds": None if p is None else [probability(p), probability(1 - p)],
        "verdict": answer.comparison.verdict if answer.comparison else None,
        "dimensions": list(DIMENSIONS),
        "differing": differing(answer.sides[0].judgement, answer.sides[1].judgement),
        "sides": [_side_view(label, side, answer, between) for label, side in zip(LABELS, answer.sides, strict=True)],
        "made": made(answer),
        "whole": whole_answer(answer),
    }


def made(answer: Answer) -> str:
    """Say how a verdict was made and how long that took; "" before there is one."""
    if answer.comparison is None:
        return ""
    thoughts = f"{answer.k} thoughts of each" if answer.k else "several thoughts of each"
    mode = {"think": "with a thought", "quick": "without a thought", "k": thoughts}[answer.comparison.mode]
    seconds = max(video.seconds for video in answer.comparison.videos)
    return f"{mode} \N{MIDDLE DOT} {seconds:.1f} s"


def whole_answer(answer: Answer) -> dict[str, Any] | None:
    """Return all that is known of a verdict, for a file; None before there is one.

    What is in it says nothing of files on the server: the videos are A and B.
    """
    if answer.comparison is None:
        return None
    result = answer.comparison.to_json_dict() | {"from_store": answer.from_store}
    videos = []
    for label, judgement in zip(LABELS, answer.comparison.videos, strict=True):
        fields = asdict(judgement)
        del fields["path"], fields["mode"], fields["engine"]  # the last two stand over both
        videos.append({"video": label} | fields)
    return result | {"videos": videos, "calibration": None if answer.scale is None else asdict(answer.scale)}


def differing(a: Judgement | None, b: Judgement | None) -> list[str]:
    """Return the dimensions in which two judgements give different sub-scores."""
    if a is None or b is None or a.sub_scores is None or b.sub_scores is None:
        return []
    return [name for name in DIMENSIONS if a.sub_scores[name] != b.sub_scores[name]]


def reason(a: Judgement, b: Judgement, outcome: str | None) -> str:
    """Say in one line which dimensions tell the two videos apart."""
    if a.mode == "quick":
        return "Asked without a thought, so there are only the rewards."
    if a.sub_scores is None or b.sub_scores is None:
        unread = [label for label, judgement in zip(LABELS, (a, b), strict=True) if judgement.sub_scores is None]
        return f"No sub-scores could be read for {_and(unread)}."
    worse, better = ("A", "B") if outcome == "B" else ("B", "A")
    scores = {"A": a.sub_scores, "B": b.sub_scores}
    flaws = [_flaws(worse, scores[worse], scores[better]), _flaws(better, scores[better], scores[worse])]
    if any(flaws):
        return "; ".join(filter(None, flaws)) + "."
    if a.sub_scores == b.sub_scores:
        return "Equal sub-scores; only the rewards tell them apart." if outcome in LABELS else "Equal sub-scores."
    return "The two answers differ only in what the prompt is said to ask for."


def _flaws(label: str, own: dict[str, str], other: dict[str, str]) -> str:
    """Describe the flaws of this video beside the other one, as a clause; "" without any."""
    clauses = []
    for score, verb in (("0", "misses"), ("1", "only partly shows")):
        lower = [SHOWN_AS[name] for name in DIMENSIONS if own[name] == score and score < other[name] != NOT_ASKED]
        if lower:
            clauses.append(f"{verb} {_and(lower)}")
    return f"{label} {' and '.join(clauses)}" if clauses else ""


def _and(words: list[str]) -> str:
    """Write words as a list in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _waiting(place: Place) -> str:
    """Say where a judgement stands in the queue; "" for one whose turn it is."""
    if not place.number:
        return ""
    about = "" if place.seconds is None else f", about {duration(max(1.0, place.seconds))}"
    return f"{ordinal(place.number)} in the queue{about}"


def _headline(answer: Answer) -> tuple[str, str]:
    """Return the line over the bar, and the one-line reason beside it."""
    if answer.comparison is None:
        plain = {
            "idle": "Not judged yet",
            "running": "Judging",
            "done": "Vote to see the answer",
            "cancelled": "Cancelled",
            "error": "Could not judge this pair",
        }
        return plain.get(answer.phase, ""), ""
    a, b = answer.comparison.videos
    outcome, p = answer.comparison.verdict, answer.comparison.p_first_preferred
    why = reason(a, b, outcome)
    if a.reward is None or b.reward is None:
        return "No reward", f"This checkpoint has no trained scoring module. {why}"
    if p is None or outcome is None:
        higher = f"{outcome} has the higher reward" if outcome in LABELS else "Equal rewards"
        return higher, f"No calibration for this mode, so no probability. {why}"
    if answer.comparison.unfamiliar:
        return _unfamiliar(answer.comparison), f"So no probability is shown: {_distances(a, b)}. {why}"
    if outcome == "tie":
        return "Too close to call", why
    return f"{outcome} preferred, {probability(p if outcome == 'A' else 1 - p)}", why


def _unfamiliar(comparison: Verdict) -> str:
    """Return the headline over videos that the checkpoint does not know: which reward is higher, and what that is worth."""
    outcome = "too close to call" if comparison.verdict == "tie" else f"{comparison.verdict} has the higher reward"
    return f"Unlike the videos this checkpoint knows: {outcome}"


def _distances(a: Judgement, b: Judgement) -> str:
    """Say how far unfamiliar videos lie from what the checkpoint knows."""
    sides = zip(LABELS, (a, b), strict=True)
    return _and([f"{label} lies at {video.distance:.1f} times the limit" for label, video in sides if video.unfamiliar])


def _side_view(label: str, side: VideoAnswer, answer: Answer, between: tuple[float, float] | None) -> dict[str, Any]:
    judgement = side.judgement
    unread = judgement is not None and judgement.mode != "quick" and judgement.sub_scores is None
    return {
        "label": label,
        "thought": side.raw if unread else readable_thought(side.raw),
        "raw": side.raw,
        "json": _json_of(judgement),
        "scores": judgement.sub_scores if judgement else None,
        "votes": _vote_shares(judgement),
        "samples": samples_view(judgement, answer.scale, between),
        "reward": _reward_text(judgement),
        "raw_reward": _raw_reward_text(judgement),
        "note": _note(judgement, unread),
        "familiarity": None if judgement is None or not judgement.unfamiliar else UNFAMILIAR,
        "how": _how(judgement, answer) if judgement else [],
        "finished": judgement is not None,
        "placeholder": _placeholder(answer),
    }


def _placeholder(answer: Answer) -> str:
    if answer.phase == "done" and answer.comparison is None:
        return "Shown once you have voted."
    if answer.mode == "quick":
        return "Quick: the reward is read without a thought."
    if answer.phase == "running":
        return "Looking at the frames ..."
    return "The thought appears here while it is written."


def _json_of(judgement: Judgement | None) -> str | None:
    """Return the answer's JSON, indented, as it was read."""
    if judgement is None or judgement.sub_scores is None:
        return None
    fields: dict[str, Any] = dict(judgement.sub_scores)
    if judgement.overall_score is not None:
        fields["overall_score"] = judgement.overall_score
    return json.dumps(fields, indent=2)


def _vote_shares(judgement: Judgement | None) -> dict[str, str] | None:
    """Count how many sampled thoughts agree with each shown sub-score, such as "6/8"."""
    if judgement is None or not judgement.sub_score_votes or judgement.sub_scores is None:
        return None
    shares = {}
    for name, votes in judgement.sub_score_votes.items():
        shares[name] = f"{votes.get(judgement.sub_scores[name], 0)}/{sum(votes.values())}"
    return shares


def _reward_text(judgement: Judgement | None) -> str:
    if judgement is None:
        return ""
    if judgement.standardised_reward is not None:
        return f"{judgement.standardised_reward:+.2f} SD".replace("-", "\N{MINUS SIGN}")
    return "none" if judgement.reward is None else "raw only"


def _raw_reward_text(judgement: Judgement | None) -> str:
    if judgement is None or judgement.reward is None:
        return ""
    spread = f" \N{PLUS-MINUS SIGN} {judgement.reward_spread:.3f}" if judgement.reward_spread is not None else ""
    return f"raw {judgement.reward:.3f}{spread}".replace("-", "\N{MINUS SIGN}")


def _note(judgement: Judgement | None, unread: bool) -> str | None:
    if judgement is None:
        return None
    if unread:
        return f"Raw text, {judgement.parse_note or 'no sub-scores found'}."
    cut = "cut off at the checkpoint's limit" if judgement.truncated else None
    return "; ".join(filter(None, (cut, judgement.parse_note, contradiction(judgement)))) or None


def _how(judgement: Judgement, answer: Answer) -> list[str]:
    """Explain in plain sentences where the numbers come from."""
    asked = {
        "think": "One greedy thought; the same video, prompt and checkpoint give the same answer again.",
        "quick": "No thought: the reward is read right after video and prompt.",
        "k": "Several sampled thoughts from one shared look at the video; the reward is their mean, "
        "each sub-score the one most of them gave.",
    }
    lines = [asked[judgement.mode]]
    if judgement.reward is not None:
        lines.append(f"Raw reward {judgement.reward:.4f}, from the query token after the thought.")
    if judgement.reward_spread is not None:
        lines.append(f"Spread of the rewards over the thoughts: {judgement.reward_spread:.4f}.")
    if answer.scale is not None and judgement.reward is not None:
        scale = answer.scale
        lines.append(
            f"SD: standard deviations above the average video. The raw reward minus {scale.mean:.4f}, the mean of "
            f"{scale.reference_videos} reference videos, divided by {scale.std:.4f}, their standard deviation."
        )
        lines.append(
            f"P(A preferred) = sigmoid((reward A \N{MINUS SIGN} reward B) / {scale.temperature:.4f}); "
            f"too close to call when the rewards differ by {scale.tie_threshold:.4f} or less. "
            f"Both {probability_source(scale)}."
        )
    elif judgement.reward is not None:
        lines.append(
            "This checkpoint has no calibration for this mode: no standardised reward, no P(A preferred) and no tie "
            "threshold. The raw rewards of one prompt can be compared."
        )
    lines.append(_how_familiar(judgement))
    lines.append(f"Took {judgement.seconds:.1f} s" + (", read from the store now." if answer.from_store else "."))
    return lines


def _how_familiar(judgement: Judgement) -> str:
    """Say how like the video is to those that the checkpoint knows."""
    if judgement.distance is None:
        return "Whether the video is like those that the checkpoint knows is not known."
    return (
        f"Familiarity: distance {judgement.distance:.2f} of the vision features from the nearest reference videos; of those "
        "that the checkpoint knows 5 % lie beyond 1.00" + (": unfamiliar." if judgement.unfamiliar else ".")
    )
