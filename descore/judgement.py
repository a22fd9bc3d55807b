"""What a judgement gives: text as it comes, one judgement a video, and the verdict at the end. No torch in
here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["think", "quick", "k"]
MODES: tuple[Mode, ...] = ("think", "quick", "k")


@dataclass(frozen=True)
class ThoughtDelta:
    """New text of one video's thought. index: the video's place in the call. In mode k the first thought
    streams."""

    index: int
    text: str


@dataclass(frozen=True)
class Judgement:
    """One video, judged.

    thought: the generated text as it is, "" in mode quick, the first of the k thoughts in mode k.
    sub_scores, overall_score: parsed from the thought, None where nothing could be read. In mode k the
        majority (where votes are equal, the earliest thought's value) and the mean of the readable thoughts.
    parse_note: why reading was tolerant or impossible; None after a strict parse.
    strict_format: every thought was strict.
    reward: raw; the mean over thoughts in mode k; None without a scoring module.
    standardised_reward: in standard deviations of the reference videos; None without reward or calibration.
    reward_spread: standard deviation over the k thoughts (mode k only).
    sub_score_votes: dimension -> sub-score -> number of thoughts (mode k only).
    truncated: a thought was cut off at the checkpoint's limit.
    seconds: from the call to this judgement.
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


@dataclass(frozen=True)
class Judged:
    """The judgement of the video at place `index` is there."""

    index: int
    judgement: Judgement


@dataclass(frozen=True)
class Verdict:
    """The end of a call: all judgements, and for a pair which video is preferred.

    p_first_preferred: P(A preferred), 0 .. 1. verdict: "tie" means too close to call, within the checkpoint's
    tie threshold. Both None unless there are two videos with rewards. Without a calibration, P is the plain
    sigmoid(r_A - r_B) and only equal rewards tie.
    """

    checkpoint: str
    mode: Mode
    prompt: str
    videos: tuple[Judgement, ...]
    p_first_preferred: float | None
    verdict: Literal["A", "B", "tie"] | None

    def to_json_dict(self) -> dict[str, Any]:
        """The verdict as the command line prints it; the last two keys only for a pair."""
        keys = ("path", "reward", "standardised_reward", "sub_scores", "overall_score", "thought", "seconds")
        result: dict[str, Any] = {
            "checkpoint": self.checkpoint,
            "mode": self.mode,
            "prompt": self.prompt,
            "videos": [{key: getattr(video, key) for key in keys} for video in self.videos],
        }
        if len(self.videos) == 2:
            result |= {"p_first_preferred": self.p_first_preferred, "verdict": self.verdict}
        return result


Event = ThoughtDelta | Judged | Verdict
