"""The events of judging: text as it comes, one judgement a video, and the verdict at the end. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from descore.answer import NOT_ASKED
from descore.overall_score import OverallCheck, check_overall

Mode = Literal["think", "quick", "k"]
MODES: tuple[Mode, ...] = ("think", "quick", "k")


@dataclass(frozen=True)
class ThoughtDelta:
    """New text of one video's thought; in mode k of the first of its thoughts.

    Attributes:
        index: which video of the call, from 0.
        text: the new text.
    """

    index: int
    text: str


@dataclass(frozen=True)
class Judgement:
    """The judgement of one video.

    Attributes:
        path: the video as the caller named it.
        mode: how it was judged.
        thought: the generated text as it is; "" in mode quick, the first of the k thoughts in mode k.
        sub_scores: parsed from the thought, None where nothing could be read; in mode k the majority (where votes are
            equal, the earliest thought's value).
        overall_score: parsed from the thought, None where nothing could be read; in mode k the mean of the readable ones.
        parse_note: why reading was tolerant or impossible; None after a strict parse.
        strict_format: every thought was strict.
        reward: raw; the mean over thoughts in mode k; None without a scoring module.
        standardised_reward: in standard deviations of the reference videos; None without reward or calibration.
        reward_spread: standard deviation over the k thoughts (mode k only).
        sub_score_votes: dimension -> sub-score -> number of thoughts (mode k only).
        truncated: a thought was cut off at the checkpoint's limit.
        seconds: from the call to this judgement.
        engine: which engine answered, with its version; "" for a judgement kept by a version that did not say.
        thoughts: mode k only: each sampled thought in its order, {"text", "reward", "truncated"}, the reward raw; None for a
            judgement kept by a version that kept the first one alone.
        distance: of the video from those that the checkpoint knows (`descore.familiarity`), 1.0 at the limit; None where it
            is not known: a checkpoint without reference videos, an engine that gives no vision features, a judgement that an
            earlier version kept.
    """

    path: str
    mode: Mode
    thought: str
    sub_scores: dict[str, str] | None
    overall_score: float | None
    parse_note: str | None
    strict_format: bool
    reward: float | None
    standardised_reward: float | None
    reward_spread: float | None
    sub_score_votes: dict[str, dict[str, int]] | None
    truncated: bool
    seconds: float
    engine: str = ""
    thoughts: list[dict[str, Any]] | None = None
    distance: float | None = None

    @property
    def unfamiliar(self) -> bool | None:
        """Whether the video is unlike those that the checkpoint knows; None where that is not known."""
        return None if self.distance is None else self.distance > 1

    @property
    def sub_score_values(self) -> dict[str, int | None] | None:
        """The sub-scores as numbers, 0 to 2; None for a dimension that the prompt does not ask for."""
        if self.sub_scores is None:
            return None
        return {name: None if value == NOT_ASKED else int(value) for name, value in self.sub_scores.items()}

    @property
    def overall_check(self) -> OverallCheck | None:
        """What the thought's sub-scores imply for its overall score, and whether it contradicts them.

        None without sub-scores, and in mode k, where both are taken together over several thoughts.
        """
        if self.sub_scores is None or self.mode != "think":
            return None
        return check_overall(self.sub_scores, self.overall_score)

    def to_json_dict(self) -> dict[str, Any]:
        """Return what the command line prints of a video.

        `implied_overall_score` is the band [low, high] that the sub-scores imply, `overall_contradicts` whether
        `overall_score` lies outside it; both are None where `overall_check` is.
        """
        keys = ("path", "reward", "standardised_reward", "sub_scores", "overall_score")
        check = self.overall_check
        return {
            **{key: getattr(self, key) for key in keys},
            "implied_overall_score": None if check is None else [check.low, check.high],
            "overall_contradicts": None if check is None else check.contradicts,
            "thought": self.thought,
            "seconds": self.seconds,
            "distance": self.distance,
            "unfamiliar": self.unfamiliar,
        }


def contradiction(judgement: Judgement) -> str | None:
    """Say that a thought's overall score contradicts its own sub-scores; None where it does not."""
    check = judgement.overall_check
    if check is None or not check.contradicts:
        return None
    implied = f"{check.low:g}" if check.low == check.high else f"{check.low:g} to {check.high:g}"
    return f"the overall score {judgement.overall_score:.2f} contradicts the thought's own sub-scores, which imply {implied}"


@dataclass(frozen=True)
class Judged:
    """One video of the call is judged.

    Attributes:
        index: which video of the call, from 0.
        judgement: its judgement.
    """

    index: int
    judgement: Judgement


@dataclass(frozen=True)
class Verdict:
    """The end of a call: all judgements, and for a pair which video is preferred.

    Attributes:
        checkpoint: name of the checkpoint that judged.
        mode: how it judged.
        prompt: the prompt of the videos.
        videos: one judgement a video, in the order of the call.
        p_first_preferred: P(A preferred), 0 .. 1; None unless there are two videos with rewards and a calibration.
        verdict: the outcome; "tie" means too close to call, within the checkpoint's tie threshold. Without a calibration the
            video with the higher reward, "tie" only where they are equal. None unless there are two videos with rewards.
        p_source: where P and the tie threshold come from, see `descore.calibration.probability_source`; "" without rewards.
    """

    checkpoint: str
    mode: Mode
    prompt: str
    videos: tuple[Judgement, ...]
    p_first_preferred: float | None
    verdict: Literal["A", "B", "tie"] | None
    p_source: str = ""

    @property
    def unfamiliar(self) -> tuple[Judgement, ...]:
        """The videos that are unlike those that the checkpoint knows; what it says of them is worth little."""
        return tuple(video for video in self.videos if video.unfamiliar)

    @property
    def engine(self) -> str:
        """Which engine answered, with its version; "" where that was not kept."""
        return self.videos[0].engine if self.videos else ""

    def to_json_dict(self) -> dict[str, Any]:
        """Return the verdict as the command line prints it; the last three keys only for a pair."""
        result: dict[str, Any] = {
            "checkpoint": self.checkpoint,
            "mode": self.mode,
            "engine": self.engine,
            "prompt": self.prompt,
            "videos": [video.to_json_dict() for video in self.videos],
        }
        if len(self.videos) == 2:
            p = self.p_first_preferred
            result |= {"p_first_preferred": p, "verdict": self.verdict, "p_source": self.p_source or None}
        return result


Event = ThoughtDelta | Judged | Verdict
