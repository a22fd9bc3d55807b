"""Estimates of the memory and time of a stage, from the costs of its layers. Bytes, seconds, floating-point operations.

Memory of one GPU under data parallelism: weights, gradients and optimizer state of the trained weights (float32), the
trained weights of the KL term's reference, and the larger of a training pass (`trainer.planning.rollout_memory`) and of what
sampling holds. Sampling is bound by memory: each step of decoding reads the language model and the cache once. All rollouts
of a step decode in one batch, as far as the budget of cached tokens goes; vLLM, where it samples, holds weights of its own
meanwhile. Gradients are summed over GPUs where they lie, in buckets of a bounded size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from descore.modeling.kv_cache import token_bytes
from trainer.engine.gradients import BUCKET
from trainer.planning.rollout_memory import RolloutPass, RolloutShape, rollout_pass
from trainer.rollouts.shared_prefix import ROWS_OF_LOGITS
from trainer.rollouts.vllm_sampler import served_bytes

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from trainer.config import OptimConfig, TrainConfig
    from trainer.planning.layer_costs import LayerCosts

_FLOAT = 4
_HALF = 2
_LOGIT_COPIES = 3  # in float32: as they come, masked, gradient
_DECODE_SECONDS = 0.03  # of a step of any size: launching the kernels of all layers
_LONGEST_SHARE = 1.5  # the longest of G thoughts against a typical one: a batch decodes until it ends


@dataclass(frozen=True)
class Lengths:
    """Lengths of one video.

    Attributes:
        prompt_tokens: of its prompt, video included.
        thought_tokens: of a thought about it.
        patches: of all frames.
        patches_of_a_frame: patches that attend to each other.
    """

    prompt_tokens: int
    thought_tokens: int
    patches: int
    patches_of_a_frame: int


@dataclass(frozen=True)
class Machine:
    """A number of equal GPUs.

    Attributes:
        memory_bytes: of each.
        flops: FLOP/s that each sustains.
        bandwidth: bytes/s that each sustains from its memory.
    """

    gpus: int
    memory_bytes: float
    flops: float
    bandwidth: float

    def __post_init__(self) -> None:
        if self.gpus < 1 or min(self.memory_bytes, self.flops, self.bandwidth) <= 0:
            raise ValueError("a plan needs at least one GPU, with memory, FLOP/s and bandwidth above 0")


@dataclass(frozen=True)
class StageEstimate:
    """Memory and time of one stage.

    Attributes:
        trainable: number of trained parameters.
        memory: bytes of each part; some are there in turns.
        peak_bytes: the most at a time, for typical lengths.
        longest_peak_bytes: likewise, for the longest pairs that the settings allow.
        seconds_per_step: of each part of a step.
    """

    name: str
    steps: int
    trainable: int
    memory: dict[str, float]
    peak_bytes: float
    longest_peak_bytes: float
    seconds_per_step: dict[str, float]


def cold_start_estimate(
    config: TrainConfig,
    model: nn.Module,
    language: LayerCosts,
    vision: LayerCosts,
    lengths: Lengths,
    machine: Machine,
) -> StageEstimate:
    """Estimate stage 1: both videos of a pair forward and backward, the vision tower too where it trains."""
    settings, checkpointing = config.cold_start, config.model.gradient_checkpointing
    videos = 2 * settings.micro_batch_pairs
    length = min(lengths.prompt_tokens + (1 - settings.mask_probability) * lengths.thought_tokens, settings.max_length)
    longest = min(lengths.prompt_tokens + lengths.thought_tokens, settings.max_length)
    trains_vision = settings.vision != "frozen"
    patches = videos * lengths.patches * (1 if trains_vision else 0)

    def kept(tokens: float, seen_patches: float) -> float:
        return language.activation_bytes(tokens, checkpointing) + vision.activation_bytes(seen_patches, checkpointing)

    memory = _constant_memory(model, settings.optim, machine) | {"activations of a pass": kept(videos * longest, patches)}
    standing = sum(memory.values()) - memory["activations of a pass"]
    most = patches * settings.max_length / max(lengths.prompt_tokens, 1)
    work = _learning(language, length, length**2 / 2, checkpointing)
    work += _vision_work(vision, lengths, trains_vision, checkpointing)
    pairs = settings.pairs_per_step / machine.gpus
    return StageEstimate(
        name="cold start",
        steps=settings.steps,
        trainable=_trainable(model),
        memory=memory,
        peak_bytes=sum(memory.values()),
        longest_peak_bytes=standing + kept(videos * settings.max_length, most),
        seconds_per_step={"learning": 2 * pairs * work / machine.flops},
    )


def rl_estimate(
    config: TrainConfig,
    backbone: PreTrainedModel,
    model: nn.Module,
    language: LayerCosts,
    vision: LayerCosts,
    lengths: Lengths,
    machine: Machine,
) -> StageEstimate:
    """Estimate stage 2: sampling, the reference where there is a KL term, forward and backward over shared prefixes."""
    settings, checkpointing = config.dual_rl, config.model.gradient_checkpointing
    objective, prompt = settings.objective, min(lengths.prompt_tokens, settings.max_prompt_tokens)
    group, thought = objective.num_generations, min(lengths.thought_tokens, objective.max_tokens)
    videos, trains_vision = 2 * settings.micro_batch_pairs, settings.vision != "frozen"
    head, cache_bytes = _head(backbone), _cache_bytes(backbone)

    def held(prefix: float, tokens: float) -> RolloutPass:
        shape = RolloutShape(videos, prefix, group, tokens, settings.forward_tokens)
        logits = logit_bytes(backbone, shape.slots)
        return rollout_pass(language, shape, cache_bytes=cache_bytes, logit_bytes=logits, checkpointing=checkpointing)

    def passing(prefix: float, tokens: float) -> float:
        patches = videos * lengths.patches * prefix / prompt if trains_vision else 0.0
        return held(prefix, tokens).peak + vision.activation_bytes(patches, checkpointing)

    pairs = settings.pairs_per_step / machine.gpus
    standing = _constant_memory(model, settings.optim, machine)
    if objective.beta > 0:
        standing["policy at the start, for the KL term"] = _trained_bytes(backbone)
    served = served_bytes(backbone) if settings.engine != "own" else 0.0
    free = (machine.memory_bytes - sum(standing.values()) - served) / 2
    budget = free if settings.sampling_tokens is None else settings.sampling_tokens * cache_bytes

    def cached(prefix: float, tokens: float) -> float:
        wanted = 2 * pairs * (prefix + group * tokens) * cache_bytes
        return max(min(wanted, budget), (prefix + tokens) * cache_bytes)

    typical = held(prompt, thought)
    memory = standing | {"prefixes of a micro-batch": typical.prefixes, "chunk of its rollouts": typical.chunk}
    if served:
        memory["or vLLM, if it samples"] = served
    memory["or cache of the rollouts"] = cached(prompt, _LONGEST_SHARE * thought)
    longest = settings.max_prompt_tokens, objective.max_tokens
    attended = prompt**2 / 2 + group * (thought * prompt + thought**2 / 2)
    tokens = prompt + group * (thought + 1)
    predicted = 2 * backbone.config.get_text_config().hidden_size * head * group * thought
    forward = language.forward(tokens, attended) + predicted
    learning = _learning(language, tokens, attended, checkpointing) + 3 * predicted
    batches = max(1.0, 2 * pairs * (prompt + group * thought) * cache_bytes / cached(prompt, thought))
    read = language_bytes(backbone) + cached(prompt, thought / 2)
    prefill = 2 * pairs * language.forward(prompt, prompt**2 / 2) / machine.flops
    steps = min(_LONGEST_SHARE * thought, objective.max_tokens)
    seconds = {
        "vision": 2 * pairs * _vision_work(vision, lengths, trains_vision, checkpointing) / machine.flops,
        "sampling": prefill + batches * steps * max(read / machine.bandwidth, _DECODE_SECONDS),
        "reference": 2 * pairs * forward / machine.flops if objective.beta > 0 else 0.0,
        "learning": settings.updates_per_step * 2 * pairs * learning / machine.flops,
    }
    return StageEstimate(
        name="dual-objective RL",
        steps=settings.steps,
        trainable=_trainable(model),
        memory=memory,
        peak_bytes=sum(standing.values()) + max(passing(prompt, thought), served + cached(prompt, _LONGEST_SHARE * thought)),
        longest_peak_bytes=sum(standing.values()) + max(passing(*longest), served + cached(*longest)),
        seconds_per_step=seconds,
    )


def _constant_memory(model: nn.Module, optim: OptimConfig, machine: Machine) -> dict[str, float]:
    """Bytes of the parts that are there all the time."""
    trained = [p for p in model.parameters() if p.requires_grad]
    count = _trainable(model)
    small = sum(p.numel() for p in trained if p.ndim == 2) if optim.optimizer == "muon" else 0
    parts = {
        "weights": float(sum(p.numel() * p.element_size() for p in model.parameters())),
        "gradients": float(count * _FLOAT),
        "optimizer": float((2 * count - small) * _FLOAT),
    }
    parts["trained weights in bfloat16"] = float(count * _HALF)  # autocast's, from a pass's forward to its backward
    if machine.gpus > 1:  # a message, and what comes back
        parts["gradients on their way"] = float(2 * min(count, BUCKET) * _FLOAT)
    return parts


def _trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _learning(language: LayerCosts, tokens: float, attended: float, checkpointing: bool) -> float:
    """Work of forward and backward of one video; checkpointing computes the forward twice."""
    return (2 if checkpointing else 1) * language.forward(tokens, attended) + language.backward(tokens, attended)


def _vision_work(vision: LayerCosts, lengths: Lengths, trains: bool, checkpointing: bool) -> float:
    """Work of the vision tower over one video; patches of a frame attend to each other."""
    attended = lengths.patches * lengths.patches_of_a_frame
    forward = vision.forward(lengths.patches, attended)
    if not trains:
        return forward
    return (2 if checkpointing else 1) * forward + vision.backward(lengths.patches, attended)


def _cache_bytes(backbone: PreTrainedModel) -> int:
    """Bytes of keys and values of one token over all layers, in bfloat16."""
    return token_bytes(backbone.config.get_text_config(), _HALF)


def _head(backbone: PreTrainedModel) -> int:
    return int(backbone.get_output_embeddings().weight.shape[0])


def logit_bytes(backbone: PreTrainedModel, slots: float, itemsize: int = _HALF) -> float:
    """Bytes of the logits over the vocabulary that exist at a time for so many slots, computed in `itemsize` bytes each."""
    return min(ROWS_OF_LOGITS, slots) * _head(backbone) * (itemsize + _LOGIT_COPIES * _FLOAT)


def _trained_bytes(backbone: PreTrainedModel) -> float:
    return float(sum(p.numel() * p.element_size() for p in backbone.parameters() if p.requires_grad))


def language_bytes(backbone: PreTrainedModel) -> float:
    """Bytes that a step of decoding reads: the text layers and the output layer."""
    output = backbone.get_output_embeddings()
    decoder: Any = backbone.get_decoder()
    layers = sum(p.numel() * p.element_size() for p in decoder.layers.parameters())
    return float(layers + sum(p.numel() * p.element_size() for p in output.parameters()))
