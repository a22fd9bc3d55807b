"""vLLM in this process: thoughts and rewards of a stock export, rows of all callers in one batch.

    judge = DeScore.from_pretrained("bundled", engine="vllm")           # pip install "descore-studio[vllm]"

A row is two requests. The first thinks, with control tokens ruled out. The second is the same prompt with the thought and
`<|descore_query|>` behind it, and answers one token: the reward is the logit of `<|descore_reward|>` there, read as the
difference to the logit of `<|descore_query|>`, whose output row is zero (`descore.checkpoints.stock_export`). vLLM's prefix
and encoder caches make it cost about one decode step.

One thread drives vLLM; callers hand it requests and wait for tokens, so callers that come at the same time share a batch.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from descore.checkpoints.folder import MANIFEST_FILE, folder_fingerprint, locate
from descore.checkpoints.stock_export import ExportManifest, export_checkpoint, is_export, read_export
from descore.encode import Row, content_digest, encode_prompt
from descore.engines.engine import Cancel, FinishedThought, Thinking, rollout_seeds
from descore.engines.transformers_engine import ProcessorRows
from descore.engines.vllm_served import ServedThought, ServedVllm, import_vllm, next_tokens
from descore.errors import RewardError
from descore.judgement import Mode, ThoughtDelta
from descore.modeling.text_streamer import TextStream
from descore.video.types import VideoClip

if TYPE_CHECKING:
    from descore.engines.vllm_scheduler import Tokens

log = logging.getLogger(__name__)


def vllm_is_usable(device: str | torch.device | None = None) -> bool:
    """Return whether "auto" chooses vLLM: it is installed, and there is a GPU that was not ruled out by `device`."""
    wanted = torch.device(device).type if device is not None else "cuda"
    return wanted == "cuda" and torch.cuda.is_available() and importlib.util.find_spec("vllm") is not None


@dataclass
class _Rollout:
    """One thought and its reward on their way.

    Attributes:
        row: index of its row.
        request: of the prompt.
        thought: its tokens so far.
        stream: its text so far.
        reward: None until it is there.
    """

    row: int
    request: dict[str, Any]
    thought: ServedThought
    stream: TextStream
    reward: float | None = None


class VllmEngine(ProcessorRows):
    """One vLLM instance that serves a stock export.

    Attributes:
        export: the manifest of the export.
    """

    has_reward = True
    at_once = 32  # they share its batch

    def __init__(self, folder: Path, **settings: Any) -> None:
        """Start vLLM with a folder that `export_checkpoint` wrote.

        Args:
            settings: of `vllm.LLM`, such as tensor_parallel_size or gpu_memory_utilization; they come before ours.

        Raises:
            EngineError: vLLM is not installed, or makes other prompts than the processor.
            descore.errors.CheckpointError: the export is damaged.
        """
        self.export: ExportManifest = read_export(folder)
        import_vllm()
        from transformers import AutoConfig, AutoProcessor

        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        context = getattr(config.get_text_config(), "max_position_embeddings", None)
        super().__init__(processor, self.export.checkpoint, context)
        self._served = ServedVllm(
            folder,
            processor,
            end_ids=self.export.end_ids,
            never_sampled=self.export.never_sampled,
            **{"dtype": self.export.dtype, **self._length(), **settings},
        )
        self.label = self._served.label
        weakref.finalize(self, self._served.close)  # who drops a judge frees the GPU
        try:
            self._served.request(self._smallest_row())
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_pretrained(
        cls, path_or_hub_id: str | Path, dtype: torch.dtype | str | None = None, **settings: Any
    ) -> VllmEngine:
        """Serve a checkpoint, exported first to the cache folder if it is no export, or an export as it is.

        Args:
            dtype: of the exported weights; see `descore.checkpoints.stock_export.export_checkpoint`.
            settings: of `vllm.LLM`.

        Raises:
            EngineError, descore.errors.CheckpointError: as `__init__` and `export_checkpoint`.
        """
        import_vllm()  # before an export that takes minutes
        folder, _ = locate(path_or_hub_id)
        if not is_export(folder):
            folder = _cached_export(path_or_hub_id, folder, dtype)
        return cls(folder, **settings)

    def rows_at_once(self) -> int:
        """How many rows keep vLLM busy; it makes batches of its own."""
        return 64

    def think(self, rows: Sequence[Row], mode: Mode, k: int = 8, seed: int = 0, cancel: Cancel | None = None) -> Thinking:
        """Hand the rows to vLLM and take their tokens as they come."""
        rollouts = self._rollouts(rows, k if mode == "k" else 1)
        with self._served.calls() as calls:
            if mode != "quick":
                seeds = _seeds(rows, k, seed) if mode == "k" else [None] * len(rollouts)
                for index, (rollout, number) in enumerate(zip(rollouts, seeds, strict=True)):
                    calls.submit(index, rollout.request, self._served.thinking(self.manifest.max_thought_tokens, number))
            else:
                for index, rollout in enumerate(rollouts):
                    self._ask_reward(calls, index, rollout)
            waiting = len(rollouts)
            thinking = set(range(len(rollouts))) if mode != "quick" else set()
            while waiting:
                tokens = next_tokens(calls.tokens, cancel)
                if tokens is None:
                    return None
                rollout = rollouts[tokens.key]
                if tokens.key not in thinking:
                    rollout.reward = self._reward(tokens)
                    waiting -= 1
                    continue
                for piece in self._grow(rollout, tokens):
                    if tokens.key % (k if mode == "k" else 1) == 0:
                        yield ThoughtDelta(rollout.row, piece)
                if tokens.finished:
                    thinking.discard(tokens.key)
                    self._ask_reward(calls, tokens.key, rollout)
        return self._finished(rollouts, mode, len(rows))

    def close(self) -> None:
        """Stop vLLM and free its memory."""
        self._served.close()

    # requests

    def _rollouts(self, rows: Sequence[Row], each: int) -> list[_Rollout]:
        rollouts = []
        for index, row in enumerate(rows):
            with self._processing:
                request, ids = self._served.request(row)
            rollouts += [
                _Rollout(index, request, ServedThought(ids), TextStream(self.processor.tokenizer)) for _ in range(each)
            ]
        return rollouts

    def _ask_reward(self, calls: Any, key: int, rollout: _Rollout) -> None:
        export = self.export
        text = rollout.request["prompt"]
        with self._processing:
            ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        request = {name: value for name, value in rollout.request.items() if name != "prompt"}
        request["prompt_token_ids"] = [*ids, *rollout.thought.ids, export.query_id]
        allowed = [export.query_id, export.reward_id]
        one = self._served.parameters(temperature=0.0, max_tokens=1, allowed_token_ids=allowed, logprobs=2)
        calls.submit(key, request, one)

    def _reward(self, tokens: Tokens) -> float:
        export, log_probs = self.export, tokens.log_probs[0]
        reward = log_probs[export.reward_id] - log_probs[export.query_id]
        if not np.isfinite(reward):
            raise RewardError(f"the reward is not a finite number: {reward}")
        return float(reward)

    def _grow(self, rollout: _Rollout, tokens: Tokens) -> Iterator[str]:
        """Take new tokens of a thought; yield its new text."""
        for token in self._served.take(rollout.thought, tokens):
            if piece := rollout.stream.push(token):
                yield piece
        if tokens.finished and (piece := rollout.stream.finish()):
            yield piece

    def _finished(self, rollouts: list[_Rollout], mode: Mode, rows: int) -> list[list[FinishedThought]]:
        thoughts: list[list[FinishedThought]] = [[] for _ in range(rows)]
        for each in rollouts:
            truncated = mode != "quick" and each.thought.end is None
            log_probs = tuple(each.thought.log_probs)
            thoughts[each.row].append(FinishedThought(each.stream.text, truncated, each.reward, log_probs))
        return thoughts

    # start

    def _length(self) -> dict[str, int]:
        """Return the longest sequence as vLLM's setting, where the backbone says it."""
        return {} if self.context is None else {"max_model_len": int(self.context)}

    def _smallest_row(self) -> Row:
        """Return a row of a small black video, for vLLM's first prompt."""
        policy = self.manifest.frame_policy
        frames = np.zeros((policy.min_frames, 64, 64, 3), dtype=np.uint8)
        times = np.arange(policy.min_frames) / policy.fps
        clip = VideoClip(frames=frames, timestamps=times, duration=policy.min_frames / policy.fps, reader="pyav")
        return encode_prompt(self.processor, clip, "a", policy, self.manifest.prompt_version)


def _seeds(rows: Sequence[Row], k: int, seed: int) -> list[int | None]:
    """Return the seed of each rollout."""
    return [each for row in rows for each in rollout_seeds(content_digest(row), k, seed)]


def _cached_export(path_or_hub_id: str | Path, folder: Path, dtype: torch.dtype | str | None) -> Path:
    """Export a checkpoint into the cache folder, unless it lies there already."""
    home = Path(os.environ.get("DESCORE_CACHE", "~/.cache/descore")).expanduser()
    name = str(dtype or ("bfloat16" if torch.cuda.is_available() else "float32")).removeprefix("torch.")
    out = home / "exports" / f"{folder_fingerprint(folder)[:24]}-{name}"
    if (out / MANIFEST_FILE).is_file():
        return out
    log.info("exporting %s to %s for vLLM", path_or_hub_id, out)
    return export_checkpoint(path_or_hub_id, out, dtype=name)
