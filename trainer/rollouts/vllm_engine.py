"""Rollouts by vLLM, behind the signature of `trainer.rollouts.sampling.sample`: an option for large backbones on GPUs.

    engine = VllmEngine(model, max_prompt_tokens=6200, max_tokens=4096)      # pip install vllm
    thoughts = engine(model, rows, seeds, num_generations=8, max_tokens=4096)

vLLM runs in the training process on the same GPU. It starts from a copy of the backbone's configuration and weights and
gets newly trained weights before each call that needs them, LoRA merged in. `descore.engines.vllm_prompts` makes its
requests.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from peft.tuners.tuners_utils import BaseTunerLayer

from descore.engines.vllm_prompts import PLACEHOLDERS, check_prompt_tokens, request_of
from descore.errors import EngineError
from trainer.rollouts.sampling import SampledThoughts, grouped

if TYPE_CHECKING:
    import torch

    from descore.encode import Row
    from descore.modeling.model import DeScoreModel, VisionOutputs

_NEVER = -100.0  # as a bias of a logit: vLLM's own limit


class VllmEngine:
    """One vLLM instance for one process."""

    def __init__(self, model: DeScoreModel, *, max_prompt_tokens: int, max_tokens: int, memory_share: float = 0.35) -> None:
        """Start vLLM with the backbone.

        Args:
            memory_share: of the GPU's memory, for vLLM's weights and cache; training needs the rest.

        Raises:
            EngineError: vLLM is not installed, or the engine can't rebuild the video prompts of this backbone.
        """
        if not hasattr(model.processor, "video_processor") or model.backbone.config.model_type != "qwen3_vl":
            raise EngineError("the vLLM engine knows how Qwen3-VL writes videos into a prompt; set dual_rl.engine=own")
        self._vllm = _import_vllm()
        self._folder = tempfile.TemporaryDirectory(prefix="descore-vllm-")
        weights = dict(plain_weights(model))
        model.backbone.save_pretrained(self._folder.name, state_dict=weights)
        model.processor.save_pretrained(self._folder.name)
        self._llm = self._vllm.LLM(
            model=self._folder.name,
            dtype="bfloat16",
            max_model_len=max_prompt_tokens + max_tokens,
            gpu_memory_utilization=memory_share,
            distributed_executor_backend="external_launcher",
            enable_prefix_caching=False,
            limit_mm_per_prompt={"video": 1, "image": 0},
            generation_config="vllm",
            logprobs_mode="processed_logprobs",
        )
        self._synced = _version(model)
        self._placeholder: str | None = None

    def __call__(
        self,
        model: DeScoreModel,
        rows: Sequence[Row],
        seeds: Sequence[str],
        *,
        num_generations: int,
        max_tokens: int,
        temperature: float = 1.0,
        vision: VisionOutputs | None = None,  # noqa: ARG002 - the signature of `sample`
    ) -> SampledThoughts:
        """Sample as `trainer.rollouts.sampling.sample`; vLLM runs its own vision tower.

        Raises:
            EngineError: vLLM's prompt is not the processor's, or it sampled what is never sampled.
        """
        self._sync(model)
        if self._placeholder is None:
            self._placeholder = self._find_placeholder(model, rows[0])
        requests = [request_of(model.processor, row, self._placeholder) for row in rows]
        outputs = self._llm.generate(
            [request for request, _ in requests],
            [self._params(model, seed, num_generations, max_tokens, temperature) for seed in seeds],
            use_tqdm=False,
        )
        for output, (_, expected) in zip(outputs, requests, strict=True):
            check_prompt_tokens(list(output.prompt_token_ids or []), expected)
        completions = [each for output in outputs for each in sorted(output.outputs, key=lambda each: each.index)]
        ended = [each.finish_reason == "stop" for each in completions]
        split = [_thought_and_end(model, list(each.token_ids)) for each in completions]
        ids, ends = [thought for thought, _ in split], [end for _, end in split]
        texts = model.processor.tokenizer.batch_decode(ids, skip_special_tokens=False)
        return SampledThoughts(
            ids=grouped([tuple(thought) for thought in ids], num_generations),
            texts=grouped(texts, num_generations),
            ended=grouped(ended, num_generations),
            ends=grouped(ends, num_generations),
            log_probs=grouped([_log_probs(each) for each in completions], num_generations),
        )

    def _find_placeholder(self, model: DeScoreModel, row: Row) -> str:
        """Find the placeholder of a video from which this release makes the processor's prompt.

        Raises:
            EngineError: no placeholder gives that prompt.
        """
        refusal: EngineError | None = None
        for placeholder in PLACEHOLDERS:
            request, ids = request_of(model.processor, row, placeholder)
            (output,) = self._llm.generate([request], [self._params(model, "", 1, 1, 1.0)], use_tqdm=False)
            try:
                check_prompt_tokens(list(output.prompt_token_ids or []), ids)
                return placeholder
            except EngineError as error:
                refusal = error
        assert refusal is not None
        raise refusal

    def _params(self, model: DeScoreModel, seed: str, num_generations: int, max_tokens: int, temperature: float) -> Any:
        return self._vllm.SamplingParams(
            n=num_generations,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "little") >> 1,
            stop_token_ids=sorted(model.end_ids),
            logit_bias=dict.fromkeys(model.never_sampled.nonzero().flatten().tolist(), _NEVER),
            logprobs=0,
            detokenize=False,
        )

    def _sync(self, model: DeScoreModel) -> None:
        """Hand over the weights that were trained since the last call."""
        version = _version(model)
        if version == self._synced:
            return
        served = self._llm.llm_engine.model_executor.driver_worker.model_runner.model
        served.load_weights(plain_weights(model, only_trained=True))
        self._synced = version


def plain_weights(model: DeScoreModel, only_trained: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the backbone's weights by their names in a checkpoint, as if it had no adapter: LoRA merged in, copies in place.

    Args:
        only_trained: skip the weights that no step changes.
    """
    backbone = model.backbone
    modules = dict(backbone.named_modules())
    for name, parameter in backbone.named_parameters(remove_duplicate=True):
        if ".lora_" in name or ".original_module." in name:
            continue
        owner = modules.get(name.rpartition(".base_layer.")[0])
        trains, value = parameter.requires_grad, parameter.detach()
        if isinstance(owner, BaseTunerLayer) and name.endswith(".weight"):
            trains = True
            deltas = [owner.get_delta_weight(adapter) for adapter in owner.active_adapters]
            value = (value.float() + sum(delta.detach().float() for delta in deltas)).to(value.dtype)
        if trains or not only_trained:
            yield re.sub(r"\.modules_to_save\.[^.]+\.", ".", name.replace(".base_layer.", ".")), value


def _thought_and_end(model: DeScoreModel, ids: list[int]) -> tuple[list[int], int | None]:
    """Split a thought from its end token."""
    end = ids.pop() if ids and ids[-1] in model.end_ids else None
    forbidden = [token for token in ids if bool(model.never_sampled[token]) or token in model.end_ids]
    if forbidden:
        raise EngineError(f"vLLM sampled the control tokens {forbidden}, although they were ruled out")
    return ids, end


def _log_probs(completion: Any) -> tuple[float, ...]:
    """Return the log-probability of each token of a completion, its end token included."""
    return tuple(each[token].logprob for token, each in zip(completion.token_ids, completion.logprobs, strict=True))


def _version(model: DeScoreModel) -> int:
    """Return a number that changes whenever an optimizer has changed a weight."""
    return sum(parameter._version for parameter in model.backbone.parameters() if parameter.requires_grad)


def _import_vllm() -> Any:
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise EngineError(f"dual_rl.engine is vllm, and vLLM can't be imported ({error}): pip install vllm") from error
