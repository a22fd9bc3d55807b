"""The reference engine: transformers, in this process, token by token.

    engine = TransformersEngine(model, manifest)

The rows of a call think in one batch, and none of them depends on which others are beside it. Calls of several threads take
turns, one model call each.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import transformers

from descore.encode import Row, collate, content_digest, encode_prompt, largest_row, pad_token_id
from descore.engines.engine import ROWS_AT_ONCE, Cancel, Engine, FinishedThought, Thinking, rollout_seeds
from descore.errors import PromptError
from descore.judgement import Mode, ThoughtDelta
from descore.modeling.kv_cache import token_bytes
from descore.modeling.text_streamer import TextStream
from descore.prompt import check_prompt, check_special_tokens
from descore.video import JUDGING, Frames, Lane, VideoClip, read_clip
from descore.video.memory_frames import clip_of

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from descore.checkpoints.manifest import Manifest
    from descore.modeling.model import DeScoreModel
    from descore.modeling.model import Thinking as State

_MOST_ROWS = 64  # beyond that a GPU is no faster for it


class ProcessorRows(Engine):
    """Reading and encoding by the backbone's own processor, for engines that run where the videos are.

    Attributes:
        processor: of the backbone. Its tokenizer serves one thread at a time, so that it is asked under a lock.
        context: tokens that the backbone takes; None where it does not say.
    """

    def __init__(self, processor: Any, manifest: Manifest, context: int | None) -> None:
        self.processor, self.manifest, self.context = processor, manifest, context
        self._processing = threading.RLock()

    @cached_property
    def prompt_tokens(self) -> int | None:
        """How many tokens a prompt may have; None for a backbone that does not say how long its context is.

        It is what the context leaves beside the largest video of the frame policy, the instruction, the longest thought and
        the query token.
        """
        if self.context is None:
            return None
        manifest = self.manifest
        return max(0, int(self.context) - self.largest_row - manifest.max_thought_tokens)

    @cached_property
    def largest_row(self) -> int:
        """How many tokens the largest video of the frame policy takes, with the instruction around it."""
        return largest_row(self.processor, self.manifest.frame_policy, self.manifest.prompt_version)

    def check_prompt(self, prompt: str) -> None:
        """Refuse what this checkpoint can't read as a prompt.

        Raises:
            PromptError: as `descore.prompt.check_prompt`; also for a special token of the tokenizer, and for more than
                `prompt_tokens` tokens.
        """
        check_prompt(prompt)
        with self._processing:
            check_special_tokens(self.processor.tokenizer, prompt)
            limit = self.prompt_tokens
        tokens = self.count_tokens(prompt.strip())
        if limit is not None and tokens > limit:
            name = self.manifest.name
            raise PromptError(f"the prompt has {tokens:,} tokens; {name} has room for {limit:,} beside a video: shorten it")

    def read(self, video: str | Path, lane: Lane = JUDGING) -> VideoClip:
        """Read the frames that the checkpoint's policy chooses."""
        return read_clip(video, self.manifest.frame_policy, lane=lane)

    def read_frames(self, frames: Frames, folder: Path) -> VideoClip:  # noqa: ARG002 - no file is needed
        """Choose from frames in memory as from a file that shows them."""
        return clip_of(frames, self.manifest.frame_policy)

    def encode(self, clip: VideoClip, prompt: str) -> Row:
        """Encode up to the opened assistant turn; see `descore.encode.encode_prompt`."""
        manifest = self.manifest
        with self._processing:
            return encode_prompt(self.processor, clip, prompt, manifest.frame_policy, manifest.prompt_version)

    def count_tokens(self, text: str) -> int:
        """Count by the backbone's tokenizer."""
        with self._processing:
            return len(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])


class TransformersEngine(ProcessorRows):
    """The model in this process.

    Attributes:
        model: backbone and scoring module.
        lock: held for single calls of the model, never over a yield: a slow reader holds up no other stream.
    """

    def __init__(self, model: DeScoreModel, manifest: Manifest) -> None:
        context = getattr(model.backbone.config.get_text_config(), "max_position_embeddings", None)
        super().__init__(model.processor, manifest, context)
        self.model = model
        self.label = f"transformers {transformers.__version__}"
        self.lock = threading.Lock()

    @property
    def has_reward(self) -> bool:  # type: ignore[override]  # training puts the scoring module in later
        """False for a backbone without a trained scoring module: thoughts and sub-scores, but no reward."""
        return self.model.scoring is not None

    @property
    def batches_at_once(self) -> int:
        """Two on a GPU, which computes one as the next is prepared; on a CPU they would share its cores."""
        return 1 if self.model.device.type == "cpu" else 2

    def rows_at_once(self) -> int:
        """How many rows think well at the same time: on a GPU as many as its free memory holds, twice over."""
        device = self.model.device
        if device.type != "cuda":
            return ROWS_AT_ONCE
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return max(1, min(_MOST_ROWS, int(free) // (2 * self._row_bytes())))

    def _row_bytes(self) -> int:
        """Bytes of the keys and values of one row of the largest size."""
        backbone, slots = self.model.backbone, self.largest_row + self.manifest.max_thought_tokens
        return slots * token_bytes(backbone.config.get_text_config(), backbone.dtype.itemsize)

    def think(self, rows: Sequence[Row], mode: Mode, k: int = 8, seed: int = 0, cancel: Cancel | None = None) -> Thinking:
        """Take one batch from prefill to rewards."""
        each = k if mode == "k" else 1
        limit = 0 if mode == "quick" else self.manifest.max_thought_tokens
        uniforms = _uniforms(rows, k, limit, seed) if mode == "k" else None
        reading = self.model.prefill_in_pieces(collate(rows, pad_token_id(self.processor)))
        state = None
        while state is None:
            if cancel is not None and cancel.is_set():
                return None
            with self.lock:
                state = next(reading)
        distances = self._distances(state)
        if each > 1:
            with self.lock:
                state = self.model.repeat(state, each)
        streams = [TextStream(self.processor.tokenizer) for _ in state.thoughts]
        steps = self.model.think(state, limit, uniforms)
        while True:
            if cancel is not None and cancel.is_set():
                return None
            with self.lock:
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
            with self.lock:
                rewards = list(self.model.score(state).tolist())
        finished = zip(streams, state.running, rewards, state.log_probs, strict=True)
        thoughts = [
            FinishedThought(stream.text, running and mode != "quick", reward, tuple(log_probs), distances[row // each])
            for row, (stream, running, reward, log_probs) in enumerate(finished)
        ]
        return [thoughts[first : first + each] for first in range(0, len(thoughts), each)]

    def _distances(self, state: State) -> list[float | None]:
        """Return how far each row's video lies from those that the checkpoint knows; None where that is not known."""
        known = self.model.familiarity
        if known is None or state.vision is None:
            return [None] * len(state.mask)
        return [known.distance(feature) for feature in state.vision.numpy()]


def _uniforms(rows: Sequence[Row], k: int, limit: int, seed: int) -> torch.Tensor:
    """Draw the random numbers of each row's k thoughts, (rows * k, limit), from seed, content and rollout alone."""
    draws = []
    for row in rows:
        for each in rollout_seeds(content_digest(row), k, seed):
            generator = torch.Generator().manual_seed(each)
            draws.append(torch.rand(limit, generator=generator, dtype=torch.float64))
    return torch.stack(draws)
