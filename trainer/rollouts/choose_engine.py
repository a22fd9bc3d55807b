"""Which engine samples the rollouts of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from descore.engines.vllm_engine import vllm_is_usable
from trainer.rollouts.sampling import OwnSampler, RolloutEngine
from trainer.rollouts.vllm_sampler import VllmSampler, serves

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel


def choose_engine(
    model: DeScoreModel, engine: Literal["auto", "own", "vllm"], *, max_prompt_tokens: int, max_tokens: int
) -> RolloutEngine:
    """Return the engine of that name; "auto" is vLLM where it is installed, beside CUDA and Qwen3-VL.

    Args:
        max_prompt_tokens, max_tokens: limits of all prompts and thoughts there will be.

    Raises:
        EngineError: vLLM is asked for, and it is not installed or can't serve this backbone.
    """
    if engine == "vllm" or (engine == "auto" and vllm_is_usable(model.device) and serves(model)):
        return VllmSampler(model, max_prompt_tokens=max_prompt_tokens, max_tokens=max_tokens)
    return OwnSampler(model)
