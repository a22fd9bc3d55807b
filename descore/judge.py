"""The judge: one video, a pair, or many.

    judge = DeScore.from_pretrained("bundled")
    for event in judge.stream(["a.mp4", "b.mp4"], "a red circle bounces"):
        ...                                       # ThoughtDelta, ..., Judged, Judged, Verdict
    verdict = judge.judge(["a.mp4", "b.mp4"], "a red circle bounces", mode="quick")

The videos of a call are thought about in one batch, and none of them depends on which others are beside it.
"""

from __future__ import annotations

import gc
import hashlib
import statistics
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from descore.answer import read_thoughts
from descore.calibration import ModeCalibration
from descore.checkpoints.folder import load_checkpoint, save_checkpoint
from descore.encode import Row, collate, content_digest, encode_prompt, largest_row, pad_token_id
from descore.errors import PromptError, RewardError
from descore.judgement import MODES, Event, Judged, Judgement, Mode, ThoughtDelta, Verdict
from descore.modeling.text_streamer import TextStream
from descore.prompt import check_prompt, check_special_tokens
from descore.video import JUDGING, Lane, VideoClip, read_clips

if TYPE_CHECKING:
    from descore.checkpoints.manifest import Manifest
    from descore.modeling.model import DeScoreModel

# Rows that think at the same time in `score`: enough to fill a machine, few enough for an 8B's memory.
_ROWS_AT_ONCE = 8
# Without a calibration: P = sigmoid(r_A - r_B), and only equal rewards tie.
_PLAIN = ModeCalibration(mean=0.0, std=1.0, temperature=1.0, tie_threshold=0.0, reference_videos=1, validation_pairs=1)


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
    """

    text: str
    truncated: bool
    reward: float | None


class DeScore:
    """A checkpoint, ready to judge. Threads may share it: single model calls take turns."""

    def __init__(self, model: DeScoreModel, manifest: Manifest) -> None:
        self.model = model
        self.manifest = manifest
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
    ) -> DeScore:
        """Load a checkpoint folder, one on the Hub, "bundled", or a bare backbone (which has no reward).

        Args:
            device, dtype: by default CUDA in bfloat16 where there is a GPU, else the CPU in float32. A dtype may be given
                by its name, "bfloat16".

        Raises:
            descore.errors.CheckpointError: there is none, or it is incomplete; the message says what to do.
        """
        return cls(*load_checkpoint(path_or_hub_id, device=device, dtype=dtype))

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the checkpoint folder, atomically; see `descore.checkpoints.folder.save_checkpoint`."""
        return save_checkpoint(folder, self.model, self.manifest)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def to(self, device: str | torch.device) -> DeScore:
        """Move the model to a device, in place; do nothing where it is there."""
        if self.device != torch.device(device):
            with self._lock:
                self.model.to(device)
        return self

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.manifest.name

    @property
    def has_reward(self) -> bool:
        """False for a backbone without a trained scoring module: thoughts and sub-scores, but no reward."""
        return self.model.scoring is not None

    @cached_property
    def prompt_tokens(self) -> int | None:
        """How many tokens a prompt may have; None for a backbone that does not say how long its context is.

        It is what the context leaves beside the largest video of the frame policy, the instruction, the longest thought and
        the query token.
        """
        context = getattr(self.model.backbone.config.get_text_config(), "max_position_embeddings", None)
        if context is None:
            return None
        manifest = self.manifest
        others = largest_row(self.model.processor, manifest.frame_policy, manifest.prompt_version)
        return max(0, int(context) - others - manifest.max_thought_tokens)

    def check_prompt(self, prompt: str) -> None:
        """Refuse what this checkpoint can't read as a prompt; no video is needed for that.

        Raises:
            PromptError: as `descore.prompt.check_prompt`; also for a special token of the tokenizer, and for more than
                `prompt_tokens` tokens.
        """
        check_prompt(prompt)
        tokenizer = self.model.processor.tokenizer
        check_special_tokens(tokenizer, prompt)
        tokens, limit = len(tokenizer(prompt.strip(), add_special_tokens=False)["input_ids"]), self.prompt_tokens
        if limit is not None and tokens > limit:
            raise PromptError(
                f"the prompt has {tokens:,} tokens; {self.name} has room for {limit:,} beside a video: shorten it"
            )

    def stream(
        self,
        videos: Sequence[str | Path],
        prompt: str,
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        cancel: Cancel | None = None,
        lane: Lane = JUDGING,
    ) -> Iterator[Event]:
        """Judge the videos of one prompt: yield text as it comes and the `Verdict` last.

        Args:
            mode: "think" (greedy, deterministic), "quick" (no thought) or "k" (k sampled thoughts from one
                prefill).
            k, seed: number and seed of the sampled thoughts; a video's thoughts depend on nothing but the
                seed, the video and the prompt.
            cancel: once set, the stream ends without a verdict, within one token or one piece of the prompt (the
                vision tower is one piece too). Closing the iterator does the same. A `threading.Event`, or what else is
                asked before each call of the model.
            lane: whose decoding processes read the videos.

        Raises:
            descore.video.VideoError: a video can't be read; before any event.
            PromptError: a prompt that can't be used, see `check_prompt`; before any video is read.
            ValueError: no videos, an unknown mode or k below 2.
            RewardError: mode quick without a scoring module, or a reward that is not finite.
        """
        start = time.monotonic()
        self._check(mode, k)
        if not videos:
            raise ValueError("there is no video to judge")
        self.check_prompt(prompt)
        rows = self._encode(self._read(videos, lane), [prompt] * len(videos))
        thoughts = yield from self.think_rows(rows, mode, k, seed, cancel)
        if thoughts is None:
            return
        seconds = time.monotonic() - start
        judged = tuple(self._judgement(str(p), mode, t, seconds) for p, t in zip(videos, thoughts, strict=True))
        for index, judgement in enumerate(judged):
            yield Judged(index, judgement)
        yield self.verdict(mode, prompt, judged)

    def judge(self, videos: Sequence[str | Path], prompt: str, mode: Mode = "think", k: int = 8, seed: int = 0) -> Verdict:
        """Return the verdict of `stream`, without the events before it."""
        *_, verdict = self.stream(videos, prompt, mode, k, seed)
        assert isinstance(verdict, Verdict)
        return verdict

    def score(
        self,
        videos: Sequence[str | Path],
        prompts: Sequence[str] | str,
        mode: Mode = "think",
        k: int = 8,
        seed: int = 0,
        batch_size: int = _ROWS_AT_ONCE,
    ) -> list[Judgement]:
        """Judge many videos, each with its own prompt (or all with one), in batches.

        Args:
            batch_size: thoughts at the same time; more fill a machine better and take more memory.

        Raises:
            As `stream`; ValueError also for lists of unequal length.
        """
        self._check(mode, k)
        prompts = [prompts] * len(videos) if isinstance(prompts, str) else list(prompts)
        if len(prompts) != len(videos):
            raise ValueError(f"{len(videos)} videos need {len(videos)} prompts (or one for all), not {len(prompts)}")
        for prompt in dict.fromkeys(prompts):
            self.check_prompt(prompt)
        size = max(1, batch_size // k) if mode == "k" else batch_size
        judgements: list[Judgement] = []
        for first in range(0, len(videos), size):
            start, part = time.monotonic(), videos[first : first + size]
            rows = self._encode(self._read(part), prompts[first : first + size])
            thoughts = self._drain(self.think_rows(rows, mode, k, seed, None))
            seconds = time.monotonic() - start
            judgements += [self._judgement(str(p), mode, t, seconds) for p, t in zip(part, thoughts, strict=True)]
        return judgements

    def verdict(self, mode: Mode, prompt: str, judged: tuple[Judgement, ...]) -> Verdict:
        """Compare judgements of one prompt; see `verdict_of`."""
        return verdict_of(self.manifest, mode, prompt, judged)

    # the stages of a call

    def _check(self, mode: Mode, k: int) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; choose one of {', '.join(MODES)}")
        if mode == "k" and k < 2:
            raise ValueError(f"mode k needs at least 2 thoughts, not {k}")
        if mode == "quick" and not self.has_reward:
            raise RewardError(
                f"{self.name} has no trained scoring module, so mode quick has no reward to give; choose mode think"
            )

    def _read(self, videos: Sequence[str | Path], lane: Lane = JUDGING) -> list[VideoClip]:
        return read_clips(videos, self.manifest.frame_policy, lane=lane)

    def _encode(self, clips: Sequence[VideoClip], prompts: Sequence[str]) -> list[Row]:
        manifest, processor = self.manifest, self.model.processor
        return [
            encode_prompt(processor, clip, prompt, manifest.frame_policy, manifest.prompt_version)
            for clip, prompt in zip(clips, prompts, strict=True)
        ]

    def think_rows(
        self, rows: list[Row], mode: Mode, k: int, seed: int, cancel: Cancel | None
    ) -> Generator[ThoughtDelta, None, list[list[FinishedThought]] | None]:
        """Take one batch from prefill to rewards: yield text, return each video's thoughts, None once cancelled.

        It holds every call of the model, so a judge whose model is elsewhere overrides this method alone. The lock is held
        for single model calls, never over a yield: a slow reader holds up no other stream.
        """
        each = k if mode == "k" else 1
        limit = 0 if mode == "quick" else self.manifest.max_thought_tokens
        uniforms = _uniforms(rows, k, limit, seed) if mode == "k" else None
        reading = self.model.prefill_in_pieces(collate(rows, pad_token_id(self.model.processor)))
        state = None
        while state is None:
            if cancel is not None and cancel.is_set():
                return None
            with self._lock:
                state = next(reading)
        if each > 1:
            with self._lock:
                state = self.model.repeat(state, each)
        streams = [TextStream(self.model.processor.tokenizer) for _ in state.thoughts]
        steps = self.model.think(state, limit, uniforms)
        while True:
            if cancel is not None and cancel.is_set():
                return None
            with self._lock:
                tokens = next(steps, None)
            if tokens is None:
                break
            for row, (stream, token) in enumerate(zip(streams, tokens, strict=True)):
                piece = stream.finish() if token is None else stream.push(token)
                if piece and row % each == 0:
                    yield ThoughtDelta(row // each, piece)
        for row, stream in enumerate(streams):
            if (piece := stream.finish()) and row % each == 0:
                yield ThoughtDelta(row // each, piece)
        rewards: list[float | None] = [None] * len(streams)
        if self.has_reward:
            with self._lock:
                rewards = list(self.model.score(state).tolist())
        thoughts = [
            FinishedThought(stream.text, running and mode != "quick", reward)
            for stream, running, reward in zip(streams, state.running, rewards, strict=True)
        ]
        return [thoughts[first : first + each] for first in range(0, len(thoughts), each)]

    @staticmethod
    def _drain(thinking: Generator[ThoughtDelta, None, list[list[FinishedThought]] | None]) -> list[list[FinishedThought]]:
        while True:
            try:
                next(thinking)
            except StopIteration as end:
                thoughts: list[list[FinishedThought]] = end.value
                return thoughts

    def _judgement(self, path: str, mode: Mode, thoughts: list[FinishedThought], seconds: float) -> Judgement:
        rewards = [thought.reward for thought in thoughts if thought.reward is not None]
        reward = statistics.fmean(rewards) if rewards else None
        scale = self.manifest.calibration.for_mode(mode)
        reading = None if mode == "quick" else read_thoughts([thought.text for thought in thoughts])
        return Judgement(
            path=path,
            mode=mode,
            thought=thoughts[0].text,
            sub_scores=reading.sub_scores if reading else None,
            overall_score=reading.overall_score if reading else None,
            parse_note=reading.note if reading else None,
            strict_format=reading is not None and reading.strict,
            reward=reward,
            standardised_reward=None if reward is None or scale is None else scale.standardise(reward),
            reward_spread=statistics.stdev(rewards) if mode == "k" and rewards else None,
            sub_score_votes=reading.votes if reading and mode == "k" else None,
            truncated=any(thought.truncated for thought in thoughts),
            seconds=seconds,
        )


def verdict_of(manifest: Manifest, mode: Mode, prompt: str, judged: tuple[Judgement, ...]) -> Verdict:
    """Compare judgements of one prompt, stored ones too; a pair gets P(A preferred) and an outcome."""
    rewards = [judgement.reward for judgement in judged if judgement.reward is not None]
    if len(judged) != 2 or len(rewards) != 2:
        return Verdict(manifest.name, mode, prompt, judged, None, None)
    scale = manifest.calibration.for_mode(mode) or _PLAIN
    return Verdict(manifest.name, mode, prompt, judged, scale.p_first(*rewards), scale.outcome(*rewards))


def release_memory() -> None:
    """Free the memory of models that nothing refers to any more, on a GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _uniforms(rows: Sequence[Row], k: int, limit: int, seed: int) -> torch.Tensor:
    """Draw the random numbers of each row's k thoughts, (rows * k, limit), from seed, content and rollout alone."""
    draws = []
    for row in rows:
        content = content_digest(row)
        for rollout in range(k):
            digest = hashlib.sha256(f"{seed}/{content}/{rollout}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
            draws.append(torch.rand(limit, generator=generator, dtype=torch.float64))
    return torch.stack(draws)
