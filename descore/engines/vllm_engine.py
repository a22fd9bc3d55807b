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
import queue
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descore.checkpoints.folder import MANIFEST_FILE, folder_fingerprint, locate
from descore.checkpoints.stock_export import ExportManifest, export_checkpoint, is_export, read_export
from descore.encode import Row, content_digest, encode_prompt
from descore.engines.engine import Cancel, FinishedThought, Thinking, rollout_seeds
from descore.engines.transformers_engine import ProcessorRows
from descore.engines.vllm_prompts import PLACEHOLDERS, check_prompt_tokens, request_of
from descore.engines.vllm_scheduler import Scheduler, Tokens
from descore.errors import EngineError, NotEnoughMemoryError, RewardError
from descore.judgement import Mode, ThoughtDelta
from descore.modeling.text_streamer import TextStream
from descore.video.types import VideoClip

log = logging.getLogger(__name__)

# The releases that this engine was tried with: 0.32.0 on processors, and the interface of 0.33.0 for GPUs was read.
TRIED = ("0.32.0", "0.33.0")
_NEVER = -100.0  # as a bias of a logit: vLLM's own limit
_POLL_SECONDS = 0.05  # how soon a caller who waits for a token sees that it was cancelled


def vllm_is_usable(device: str | torch.device | None = None) -> bool:
    """Return whether "auto" chooses vLLM: it is installed, and there is a GPU that was not ruled out by `device`."""
    wanted = torch.device(device).type if device is not None else "cuda"
    return wanted == "cuda" and torch.cuda.is_available() and importlib.util.find_spec("vllm") is not None


@dataclass
class _Rollout:
    """One thought on its way.

    Attributes:
        row: index of its row.
        request: of the prompt.
        prompt_ids: the tokens that vLLM must make of it.
        stream: its text so far.
        ids: its tokens so far, without an end token.
        log_probs: of the tokens and the end token.
        ended: it ended by itself.
        reward: None until it is there.
    """

    row: int
    request: dict[str, Any]
    prompt_ids: list[int]
    stream: TextStream
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    ended: bool = False
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
        vllm = _import_vllm()
        from transformers import AutoConfig, AutoProcessor

        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        context = getattr(config.get_text_config(), "max_position_embeddings", None)
        super().__init__(processor, self.export.checkpoint, context)
        self.label = f"vllm {vllm.__version__}"
        self._sampling = vllm.SamplingParams
        self._delta = vllm.sampling_params.RequestOutputKind.DELTA
        llm = _start(vllm, folder, {"dtype": self.export.dtype, **self._length(), **settings})
        self._scheduler = Scheduler(llm)
        weakref.finalize(self, self._scheduler.close)  # who drops a judge frees the GPU
        try:
            self._placeholder = self._find_placeholder()
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
        _import_vllm()  # before an export that takes minutes
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
        with self._scheduler.calls() as calls:
            if mode != "quick":
                seeds = _seeds(rows, k, seed) if mode == "k" else [None] * len(rollouts)
                for index, (rollout, number) in enumerate(zip(rollouts, seeds, strict=True)):
                    calls.submit(index, rollout.request, self._thinking(number))
            else:
                for index, rollout in enumerate(rollouts):
                    self._ask_reward(calls, index, rollout)
            waiting = len(rollouts)
            thinking = set(range(len(rollouts))) if mode != "quick" else set()
            while waiting:
                tokens = _next(calls.tokens, cancel)
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
        self._scheduler.close()

    # requests

    def _rollouts(self, rows: Sequence[Row], each: int) -> list[_Rollout]:
        rollouts = []
        for index, row in enumerate(rows):
            with self._processing:
                request, ids = request_of(self.processor, row, self._placeholder)
            rollouts += [_Rollout(index, request, ids, TextStream(self.processor.tokenizer)) for _ in range(each)]
        return rollouts

    def _thinking(self, seed: int | None) -> Any:
        """Return the sampling parameters of a thought: greedy without a seed."""
        banned = self.export.never_sampled
        return self._sampling(
            temperature=0.0 if seed is None else 1.0,
            seed=seed,
            max_tokens=self.manifest.max_thought_tokens,
            stop_token_ids=list(self.export.end_ids),
            logit_bias=dict.fromkeys(banned, _NEVER),
            logprobs=None if seed is None else 0,
            detokenize=False,
            output_kind=self._delta,
        )

    def _ask_reward(self, calls: Any, key: int, rollout: _Rollout) -> None:
        export = self.export
        text = rollout.request["prompt"]
        with self._processing:
            ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        request = {name: value for name, value in rollout.request.items() if name != "prompt"}
        request["prompt_token_ids"] = [*ids, *rollout.ids, export.query_id]
        one = self._sampling(
            temperature=0.0,
            max_tokens=1,
            allowed_token_ids=[export.query_id, export.reward_id],
            logprobs=2,
            detokenize=False,
            output_kind=self._delta,
        )
        calls.submit(key, request, one)

    def _reward(self, tokens: Tokens) -> float:
        export, log_probs = self.export, tokens.log_probs[0]
        reward = log_probs[export.reward_id] - log_probs[export.query_id]
        if not np.isfinite(reward):
            raise RewardError(f"the reward is not a finite number: {reward}")
        return float(reward)

    def _grow(self, rollout: _Rollout, tokens: Tokens) -> Iterator[str]:
        """Take new tokens of a thought; yield its new text."""
        if tokens.prompt_ids is not None:
            check_prompt_tokens(tokens.prompt_ids, rollout.prompt_ids)
        for position, token in enumerate(tokens.ids):
            if tokens.log_probs:
                rollout.log_probs.append(tokens.log_probs[position][token])
            if token in self.export.end_ids:
                rollout.ended = True
                continue
            if token in self._banned:
                raise EngineError(f"vLLM sampled the control token {token}, although it was ruled out")
            rollout.ids.append(token)
            if piece := rollout.stream.push(token):
                yield piece
        if tokens.finished and (piece := rollout.stream.finish()):
            yield piece

    @cached_property
    def _banned(self) -> frozenset[int]:
        return frozenset(self.export.never_sampled)

    def _finished(self, rollouts: list[_Rollout], mode: Mode, rows: int) -> list[list[FinishedThought]]:
        thoughts: list[list[FinishedThought]] = [[] for _ in range(rows)]
        for each in rollouts:
            truncated = mode != "quick" and not each.ended
            thoughts[each.row].append(FinishedThought(each.stream.text, truncated, each.reward, tuple(each.log_probs)))
        return thoughts

    # start

    def _length(self) -> dict[str, int]:
        """Return the longest sequence as vLLM's setting, where the backbone says it."""
        return {} if self.context is None else {"max_model_len": int(self.context)}

    def _find_placeholder(self) -> str:
        """Find the placeholder of a video from which this release makes the processor's prompt.

        Raises:
            EngineError: no placeholder gives that prompt.
        """
        policy, refusal = self.manifest.frame_policy, EngineError("vLLM knows no placeholder of a video")
        frames = np.zeros((policy.min_frames, 64, 64, 3), dtype=np.uint8)
        times = np.arange(policy.min_frames) / policy.fps
        clip = VideoClip(frames=frames, timestamps=times, duration=policy.min_frames / policy.fps, reader="pyav")
        row = encode_prompt(self.processor, clip, "a", policy, self.manifest.prompt_version)
        one = self._sampling(temperature=0.0, max_tokens=1, detokenize=False, output_kind=self._delta)
        for placeholder in PLACEHOLDERS:
            request, ids = request_of(self.processor, row, placeholder)
            with self._scheduler.calls() as calls:
                calls.submit(0, request, one)
                try:
                    tokens = _next(calls.tokens, None)
                    assert tokens is not None
                    check_prompt_tokens(tokens.prompt_ids or [], ids)
                    return placeholder
                except EngineError as error:
                    refusal = error
        raise refusal


def _seeds(rows: Sequence[Row], k: int, seed: int) -> list[int | None]:
    """Return the seed of each rollout, of the 31 bits that vLLM takes everywhere."""
    return [each & 0x7FFFFFFF for row in rows for each in rollout_seeds(content_digest(row), k, seed)]


def _next(tokens: queue.Queue[Tokens | BaseException], cancel: Cancel | None) -> Tokens | None:
    """Wait for the next tokens; None once cancelled.

    Raises:
        EngineError: vLLM failed.
    """
    while True:
        if cancel is not None and cancel.is_set():
            return None
        try:
            got = tokens.get(timeout=_POLL_SECONDS if cancel is not None else None)
        except queue.Empty:
            continue
        if isinstance(got, BaseException):
            raise EngineError(f"vLLM failed: {got}") from got
        return got


def _start(vllm: Any, folder: Path, settings: dict[str, Any]) -> Any:
    defaults = {
        "limit_mm_per_prompt": {"video": 1, "image": 0},
        "generation_config": "vllm",
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": 2,
    }
    if not torch.cuda.is_available():
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        defaults["enforce_eager"] = True
    try:
        return vllm.LLM(model=str(folder), **{**defaults, **settings})
    except Exception as error:  # whatever vLLM meets in the checkpoint, on the device, or in its own libraries
        if "less than desired GPU memory utilization" in str(error):
            raise NotEnoughMemoryError(f"the GPU has too little free memory for {folder.name} in vLLM: {error}") from error
        raise EngineError(f"vLLM can't serve {folder.name}: {error}") from error


def _cached_export(path_or_hub_id: str | Path, folder: Path, dtype: torch.dtype | str | None) -> Path:
    """Export a checkpoint into the cache folder, unless it lies there already."""
    home = Path(os.environ.get("DESCORE_CACHE", "~/.cache/descore")).expanduser()
    name = str(dtype or ("bfloat16" if torch.cuda.is_available() else "float32")).removeprefix("torch.")
    out = home / "exports" / f"{folder_fingerprint(folder)[:24]}-{name}"
    if (out / MANIFEST_FILE).is_file():
        return out
    log.info("exporting %s to %s for vLLM", path_or_hub_id, out)
    return export_checkpoint(path_or_hub_id, out, dtype=name)


def _import_vllm() -> Any:
    """Import vLLM as this engine needs it: its core in this process, so that one thread can drive it.

    Raises:
        EngineError: it is not installed, or can't be imported.
    """
    if "vllm" not in sys.modules:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    try:
        import vllm
        import vllm.sampling_params
    except Exception as error:  # ImportError, and what its compiled parts raise on an old processor
        raise EngineError(
            f'vLLM can\'t be imported ({error}): pip install "descore-studio[vllm]" on a machine with a GPU, or choose '
            "the transformers engine"
        ) from error
    if vllm.__version__ not in TRIED:
        log.warning(
            "vLLM %s was not tried with this engine (%s were); check a few rewards", vllm.__version__, ", ".join(TRIED)
        )
    return vllm
