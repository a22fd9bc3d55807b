"""Rollouts by vLLM, in the training process on its GPU: what judges (`descore.engines.vllm_served`), given new weights.

vLLM starts with the backbone's configuration alone and gets every weight from the model that trains, LoRA merged in one
weight at a time: there is no folder of weights and no second merged copy. Between two calls it sleeps and holds no memory of
the GPU. Each process has one of its own; several need no agreement, since each samples its own pairs.
"""

from __future__ import annotations

import copy
import gc
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from descore.engines.vllm_served import ServedThought, ServedVllm, import_vllm, next_tokens
from descore.errors import EngineError, NotEnoughMemoryError
from descore.modeling.kv_cache import token_bytes
from trainer.rollouts.default_tokens import default_tokens
from trainer.rollouts.refill import SampledThought
from trainer.rollouts.sampling import SampledThoughts, group_thoughts

if TYPE_CHECKING:
    from torch import nn

    from descore.encode import Row
    from descore.modeling.model import DeScoreModel, VisionOutputs

_READ_TOKENS = 8192  # of prompts and thoughts in one step of vLLM, its own number, unless one video has more
_WORK_BYTES = 4 * 2**30  # of a step's activations, and of what CUDA and vLLM hold besides


class VllmSampler:
    """One vLLM for one process.

    Attributes:
        is_trained_model: False: it is the same weights in other kernels and maybe another dtype.
        gpu_bytes: of its weights, of a step's activations, and of what CUDA and vLLM hold besides.
    """

    is_trained_model = False

    def __init__(self, model: DeScoreModel, *, max_prompt_tokens: int, max_tokens: int) -> None:
        """Check that vLLM can be used; it starts at the first call.

        Args:
            max_prompt_tokens, max_tokens: limits of all prompts and thoughts there will be.

        Raises:
            EngineError: vLLM is not installed, or the engine can't rebuild the video prompts of this backbone.
        """
        if not serves(model):
            raise EngineError("the vLLM engine knows how Qwen3-VL writes videos into a prompt; set dual_rl.engine=own")
        try:
            import_vllm()
        except EngineError as error:
            raise EngineError(f"dual_rl.engine is vllm: {error}") from error
        self.gpu_bytes = served_bytes(model.backbone)
        self._max_prompt, self._length = max_prompt_tokens, max_prompt_tokens + max_tokens
        self._served: ServedVllm | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._version: int | None = None
        self._budget: int | None = None

    def __call__(
        self,
        model: DeScoreModel,
        rows: Sequence[Row],
        seeds: Sequence[str],
        *,
        num_generations: int,
        max_tokens: int,
        temperature: float = 1.0,
        vision: VisionOutputs | None = None,  # noqa: ARG002 - vLLM runs its own vision tower
        budget: int | None = None,
    ) -> SampledThoughts:
        """Sample as `trainer.rollouts.sampling.sample`, with random numbers of vLLM's own.

        Args:
            budget: tokens that vLLM caches; with a smaller one than before it starts anew.

        Raises:
            EngineError: vLLM's prompt is not the processor's, it sampled what is never sampled, or it failed.
            torch.OutOfMemoryError: the memory is too small for the budget.
        """
        numbers = [_seed(f"{seed}/{g}") for seed in seeds for g in range(num_generations)]
        each = [row for row in rows for _ in range(num_generations)]
        with self._serving(model, budget) as served:
            thoughts = self._thoughts(
                served, each, lambda index: served.thinking(max_tokens, numbers[index], temperature=temperature)
            )
        return group_thoughts(model, [self._sampled(thought) for thought in thoughts], num_generations)

    def greedy(self, model: DeScoreModel, rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
        """Return the thought of each row that takes the most likely token at each step."""
        with self._serving(model, None) as served:
            return [thought.ids for thought in self._thoughts(served, rows, lambda _: served.thinking(max_tokens))]

    def close(self) -> None:
        """Stop vLLM and free its memory."""
        if self._served is not None:
            self._served.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._served = self._folder = self._version = self._budget = None
        gc.collect()

    def _thoughts(self, served: ServedVllm, rows: Sequence[Row], parameters: Callable[[int], Any]) -> list[ServedThought]:
        """Let vLLM think about all rows at the same time."""
        requests = {id(row): served.request(row) for row in rows}
        thoughts = [ServedThought(requests[id(row)][1]) for row in rows]
        with served.calls() as calls:
            for index, row in enumerate(rows):
                calls.submit(index, requests[id(row)][0], parameters(index))
            waiting = len(rows)
            while waiting:
                tokens = next_tokens(calls.tokens)
                assert tokens is not None
                served.take(thoughts[tokens.key], tokens)
                waiting -= tokens.finished
        return thoughts

    @staticmethod
    def _sampled(thought: ServedThought) -> SampledThought:
        # vLLM does not say what it would have drawn after the last token, so a thought at the limit counts as cut off.
        ended = thought.end is not None
        return SampledThought(tuple(thought.ids), thought.end, ended, tuple(thought.log_probs))

    @contextmanager
    def _serving(self, model: DeScoreModel, budget: int | None) -> Iterator[ServedVllm]:
        """Have vLLM awake with the model's weights; it sleeps afterwards. An error ends it, and it starts anew."""
        try:
            served = self._awake(model, budget)
            yield served
            served.sleep()
        except BaseException as error:
            self.close()
            if isinstance(error, NotEnoughMemoryError) or isinstance(error.__cause__, torch.OutOfMemoryError):
                raise torch.OutOfMemoryError(str(error)) from error
            raise

    def _awake(self, model: DeScoreModel, budget: int | None) -> ServedVllm:
        """Start vLLM or wake it, with the weights that the model has now."""
        budget = budget or self._budget or default_tokens(model, self.gpu_bytes)
        if budget < (self._budget or 0):
            self.close()
        version, cuda = _version(model), model.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()  # vLLM takes its memory from the device, not from PyTorch's pool
        if self._served is None:
            self._served, self._budget = self._start(model, budget), budget
        elif cuda:
            self._served.wake_up(plain_weights(model))
        elif version != self._version:
            self._served.hand_over(plain_weights(model))
        self._version = version
        return self._served

    def _start(self, model: DeScoreModel, budget: int) -> ServedVllm:
        """Start vLLM with the weights that the model has now."""
        cuda, config = model.device.type == "cuda", copy.deepcopy(model.backbone.config)
        config.architectures = [type(model.backbone).__name__]
        # On processors vLLM packs the output matrix apart, and new weights of a tied embedding would not reach it.
        config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
        self._folder = tempfile.TemporaryDirectory(prefix="descore-vllm-")
        config.save_pretrained(self._folder.name)
        model.processor.save_pretrained(self._folder.name)
        itemsize = 2 if cuda else 4
        cached = max(budget, self._length) * token_bytes(config.get_text_config(), itemsize)
        settings: dict[str, Any] = {
            "dtype": "bfloat16" if cuda else "float32",
            "max_model_len": self._length,
            "max_num_batched_tokens": max(_READ_TOKENS, self._max_prompt),
            "kv_cache_memory_bytes": cached,
        }
        if cuda:
            whole = torch.cuda.mem_get_info(model.device)[1]
            settings["enable_sleep_mode"] = True
            settings["gpu_memory_utilization"] = min(0.95, (self.gpu_bytes + cached) / whole)
        ends, never = sorted(model.end_ids), model.never_sampled.nonzero().flatten().tolist()
        return ServedVllm(
            Path(self._folder.name),
            model.processor,
            end_ids=ends,
            never_sampled=never,
            weights=plain_weights(model),
            **settings,
        )


def served_bytes(backbone: nn.Module) -> float:
    """Return the bytes of a GPU that vLLM takes beside its cache: weights in bfloat16, and room for a step's work."""
    return float(sum(parameter.numel() for parameter in backbone.parameters()) * 2 + _WORK_BYTES)


def serves(model: DeScoreModel) -> bool:
    """Tell whether vLLM's prompts of this backbone can be made from rows."""
    return hasattr(model.processor, "video_processor") and model.backbone.config.model_type == "qwen3_vl"


def plain_weights(model: DeScoreModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the backbone's weights by their names in a checkpoint, as if it had no adapter: LoRA merged in, copies in place.

    A weight that is tied comes by each of its names.
    """
    backbone = model.backbone
    modules = dict(backbone.named_modules())
    for name, parameter in backbone.named_parameters(remove_duplicate=False):
        if ".lora_" in name or ".original_module." in name:
            continue
        owner, value = modules.get(name.rpartition(".base_layer.")[0]), parameter.detach()
        if isinstance(owner, BaseTunerLayer) and name.endswith(".weight"):
            deltas = [owner.get_delta_weight(adapter).detach().float() for adapter in owner.active_adapters]
            value = (value.float() + sum(deltas)).to(value.dtype)
        yield re.sub(r"\.modules_to_save\.[^.]+\.", ".", name.replace(".base_layer.", ".")), value


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _version(model: DeScoreModel) -> int:
    """Return a number that changes whenever an optimizer has changed a weight."""
    return sum(parameter._version for parameter in model.backbone.parameters() if parameter.requires_grad)
