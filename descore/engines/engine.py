"""The interface of an engine, which thinks about videos and gives their rewards.

    clips = [engine.read("a.mp4"), engine.read("b.mp4")]                # threads may do this at the same time
    rows = [engine.encode(clip, "a red circle bounces") for clip in clips]
    for delta in engine.think(rows, "think"):                           # ThoughtDelta, ...
        ...

`descore.judge.DeScore` makes judgements and verdicts of what an engine returns, so that they are the same whoever answered.
"""

from __future__ import annotations

import hashlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from descore.video import JUDGING
from descore.video.memory_frames import write_lossless

if TYPE_CHECKING:
    from pathlib import Path

    from descore.checkpoints.manifest import Manifest
    from descore.judgement import Mode, ThoughtDelta
    from descore.video import Frames, Lane

# Enough rows to fill a machine, few enough for an 8B's memory.
ROWS_AT_ONCE = 8

EngineName = Literal["auto", "transformers", "vllm"]


class Cancel(Protocol):
    """Whether a judgement is to end, such as a `threading.Event`; it may wait before it answers, and so pause the model."""

    def is_set(self) -> bool:
        """Return whether to end now."""
        ...


@dataclass(frozen=True)
class FinishedThought:
    """One finished thought of one video.

    Attributes:
        text: the generated text; "" in mode quick.
        truncated: it was cut off at the checkpoint's limit.
        reward: None without a scoring module.
        log_probs: in mode k, of each sampled token and of the end token where the thought ended by itself, under the
            distribution that it was sampled from; empty in the other modes.
        distance: of the video from those that the checkpoint knows (`descore.familiarity`), 1.0 at the limit; None where
            the checkpoint has no reference videos, or the engine does not give vision features.
    """

    text: str
    truncated: bool
    reward: float | None
    log_probs: tuple[float, ...] = ()
    distance: float | None = None


# What `think` returns at its end: the thoughts of each row, or None once cancelled.
Thinking = Generator["ThoughtDelta", None, list[list[FinishedThought]] | None]


def rollout_seeds(content: str, k: int, seed: int) -> list[int]:
    """Return a seed of 64 bits for each of a row's k thoughts, from seed, content and rollout alone.

    Args:
        content: `descore.encode.content_digest` of the row.
    """
    digests = (hashlib.sha256(f"{seed}/{content}/{rollout}".encode()).digest() for rollout in range(k))
    return [int.from_bytes(digest[:8], "little", signed=True) for digest in digests]


class Engine(ABC):
    """One checkpoint, ready to think. Threads may share it.

    Attributes:
        manifest: the checkpoint's.
        label: which engine answers, with its version, as results and pages show it: "vllm 0.32.0".
        has_reward: False for a backbone without a trained scoring module.
        at_once: how many calls of `think` at a time it gains from. Where calls take turns more would not be quicker, only
            later for each of them; two keep the model busy while a video is decoded.
    """

    at_once = 2
    manifest: Manifest
    label: str
    has_reward: bool

    @property
    def batches_at_once(self) -> int:
        """How many batches of a table, whose videos are decoded ahead, it gains from having under way."""
        return self.at_once

    @property
    @abstractmethod
    def prompt_tokens(self) -> int | None:
        """How many tokens a prompt may have beside the largest video; None where the backbone does not say."""

    @abstractmethod
    def check_prompt(self, prompt: str) -> None:
        """Refuse what this checkpoint can't read as a prompt; no video is needed for that.

        Raises:
            PromptError: as `descore.prompt.check_prompt`, and for what the tokenizer or the context can't take.
        """

    @abstractmethod
    def read(self, video: str | Path, lane: Lane = JUDGING) -> Any:
        """Read one video by the checkpoint's frame policy; threads may call this at the same time.

        Args:
            lane: whose decoding processes read it.

        Raises:
            descore.video.VideoError: it can't be used.
        """

    def read_frames(self, frames: Frames, folder: Path) -> Any:
        """Read frames in memory: here by way of a lossless file.

        Args:
            folder: a temporary one, which stays until the call of the judge ends.

        Raises:
            descore.video.VideoError: they can't be used.
        """
        return self.read(write_lossless(frames, folder / f"{uuid.uuid4().hex}.mp4"))

    def rows_at_once(self) -> int:
        """How many rows `think` takes well at the same time."""
        return ROWS_AT_ONCE

    @abstractmethod
    def encode(self, clip: Any, prompt: str) -> Any:
        """Make a row of what `read` returned and a prompt; threads may call this at the same time."""

    def count_tokens(self, text: str) -> int:  # noqa: ARG002 - an engine with a tokenizer reads it
        """Count the tokens of a text; 0 where the tokenizer is elsewhere."""
        return 0

    @abstractmethod
    def think(self, rows: Sequence[Any], mode: Mode, k: int = 8, seed: int = 0, cancel: Cancel | None = None) -> Thinking:
        """Think about rows of `encode`: yield text as it comes; return each row's thoughts, None once cancelled.

        Args:
            mode, k, seed, cancel: as in `descore.judge.DeScore.stream`.

        Raises:
            RewardError: a reward is not finite.
        """

    def close(self) -> None:  # noqa: B027 - most engines hold nothing that the interpreter would not free
        """Free what the engine holds; it thinks no more."""
