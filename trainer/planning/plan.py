"""`python -m trainer plan`: parameters, memory and time of a run, before any weight is loaded.

    python -m trainer plan --preset qwen3-vl-8b-8gpu --gpus 8

Parameters and modules are exact: they come from the real configuration, built on the meta device and prepared as the stages
do. Memory and time are estimates from the work and the kept bytes of one layer (`trainer.planning.layer_costs`), for the
lengths that are printed with them; fragmentation, the CUDA context and the reading of videos come on top.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from descore.errors import CheckpointError
from descore.modeling.prefix_attention import enable_prefixes
from descore.modeling.scoring_head import ScoringModule
from descore.prompt import PROMPTS
from trainer.config import ConfigError, TrainConfig, load_preset
from trainer.engine.precision import Precision
from trainer.engine.trainable import adapt, experts_left_out, set_trainable, vision_parts, widest_vision
from trainer.paradigm import STAGES
from trainer.planning.estimate import Lengths, Machine, StageEstimate, cold_start_estimate, rl_estimate
from trainer.planning.layer_costs import language_costs, manifest_of, meta_backbone, vision_costs

if TYPE_CHECKING:
    import argparse

    from transformers import PreTrainedModel

_CHARACTERS_PER_TOKEN = 4.5
_STAMP_TOKENS = 9  # "<0.3 seconds>", start and end of vision, for each group of frames
_PROMPT_TOKENS = 60  # of the videos' own prompt, and the turns around it
_USABLE_SHARE = 0.9  # of a GPU's memory; the estimate leaves some out
_MANY_FRAMES = 1 << 20  # a clip has more frames than are sampled


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        parameters: numbers by part of the model, the adapter beside them.
        lora: name of a layer with LoRA -> number of layers of that name.
        lengths: tokens and patches that the estimates are for.
        stages: estimate of each stage.
        notes: sentences about what the run leaves alone.
    """

    checkpoint: str
    gpus: int
    parameters: dict[str, int]
    lora: dict[str, int]
    lengths: dict[str, float]
    stages: tuple[StageEstimate, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types; bytes, seconds and numbers of parameters."""
        return asdict(self)


class _Skeleton(nn.Module):
    """Backbone and scoring module without a processor: all that `set_trainable` needs."""

    def __init__(self, backbone: PreTrainedModel) -> None:
        super().__init__()
        self.backbone = backbone
        enable_prefixes(backbone)
        with torch.device("meta"):
            self.scoring = ScoringModule(backbone.config.get_text_config().hidden_size)

    def require_scoring(self) -> ScoringModule:
        return self.scoring


def make_plan(config: TrainConfig, machine: Machine, video_seconds: float, thought_tokens: float | None = None) -> Plan:
    """Make the plan of a run.

    Args:
        video_seconds: length of a typical clip.
        thought_tokens: of a typical thought; by default halfway between the bounds of R_len.

    Raises:
        CheckpointError: there is no such backbone, or it is of a family that no plan can be made for.
    """
    backbone = prepared_backbone(config)
    parameters = _by_part(backbone)
    model = _Skeleton(backbone)
    reward = config.dual_rl.objective.reward
    thought = (reward.length_low + reward.length_high) / 2 if thought_tokens is None else thought_tokens
    lengths = _lengths(backbone, config, video_seconds, thought)
    estimates = []
    for name in STAGES:
        settings = config.cold_start if name == "cold-start" else config.dual_rl
        if not settings.steps:
            continue
        set_trainable(model, config, name)  # it needs no processor
        costs = language_costs(backbone), vision_costs(backbone)
        if name == "cold-start":
            estimates.append(cold_start_estimate(config, model, *costs, lengths, machine))
        else:
            estimates.append(rl_estimate(config, backbone, model, *costs, lengths, machine))
    notes = tuple(filter(None, [experts_left_out(backbone)]))
    return Plan(config.model.checkpoint, machine.gpus, parameters, _lora(backbone), asdict(lengths), tuple(estimates), notes)


def prepared_backbone(config: TrainConfig) -> PreTrainedModel:
    """Build the backbone of a configuration as a run holds it on a GPU, without weights.

    Raises:
        CheckpointError: there is none.
    """
    frozen = config.model.lora is not None
    dtype = Precision.of(config.model.precision, torch.device("cuda")).stored(frozen=frozen)
    backbone = meta_backbone(config.model.checkpoint, dtype)
    with torch.device("meta"):
        adapt(backbone, config.model.lora, widest_vision(config))
    return backbone


def _by_part(backbone: PreTrainedModel) -> dict[str, int]:
    """Numbers of the model's own parameters, and of the adapter's."""
    vision = tuple(f"{name}." for name in vision_parts(backbone))
    counts: Counter[str] = Counter()
    for name, parameter in backbone.named_parameters():
        if ".lora_" in name:
            counts["LoRA"] += parameter.numel()
        elif ".modules_to_save." in name:
            counts["trained copy of vision"] += parameter.numel()
        elif name.startswith(vision):
            counts["vision"] += parameter.numel()
        elif "embed_tokens" in name or "lm_head" in name:
            counts["embeddings and output"] += parameter.numel()
        else:
            counts["language model"] += parameter.numel()
    own = ("language model", "embeddings and output", "vision")
    hidden = backbone.config.get_text_config().hidden_size
    whole = {name: counts[name] for name in own} | {"backbone": sum(counts[name] for name in own)}
    added = {name: counts[name] for name in ("LoRA", "trained copy of vision") if counts[name]}
    return whole | {"query token and head": 2 * hidden} | added


def _lora(backbone: PreTrainedModel) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, module in backbone.named_modules():
        if isinstance(module, BaseTunerLayer):
            counts[re.sub(r"\.\d+\.", ".*.", name)] += 1
    return dict(counts)


def _lengths(backbone: PreTrainedModel, config: TrainConfig, seconds: float, thought: float) -> Lengths:
    """Tokens and patches of a clip of this length whose frames fill their budget of pixels."""
    manifest, vision = manifest_of(config.model.checkpoint), backbone.config.vision_config
    frames = config.model.frames or manifest.frame_policy
    groups = max(1, frames.sample_count(seconds, _MANY_FRAMES) // getattr(vision, "temporal_patch_size", 1))
    patches = frames.max_pixels_per_frame // vision.patch_size**2
    instruction = len(PROMPTS[manifest.prompt_version]) / _CHARACTERS_PER_TOKEN + _PROMPT_TOKENS
    prompt = instruction + groups * (patches // vision.spatial_merge_size**2 + _STAMP_TOKENS)
    return Lengths(round(prompt), round(thought), groups * patches, patches)


def run(options: argparse.Namespace) -> int:
    """Run the command; 0, or 2 with one line on stderr where the user has to act."""
    try:
        config = load_preset(options.preset, options.set)
        machine = Machine(options.gpus, options.gpu_memory * 1e9, options.tflops * 1e12, options.bandwidth * 1e12)
        plan = make_plan(config, machine, options.video_seconds, options.thought_tokens)
    except (ConfigError, CheckpointError, ValueError) as error:
        print(f"plan: {error}", file=sys.stderr)
        return 2
    print(json.dumps(plan.to_dict()) if options.json else "\n".join(_lines(plan, machine)))
    return 0


def _lines(plan: Plan, machine: Machine) -> list[str]:
    lines = [f"{plan.checkpoint} on {plan.gpus} GPU{'s' if plan.gpus > 1 else ''}", "", "parameters"]
    lines += [f"  {name:<24}{count:>16,}" for name, count in plan.parameters.items()]
    if plan.lora:
        lines += ["", "LoRA on", *(f"  {count:>3} x {name}" for name, count in plan.lora.items())]
    lines += plan.notes
    sizes = ", ".join(f"{name.replace('_', ' ')} {value:,.0f}" for name, value in plan.lengths.items())
    lines += ["", f"estimated for: {sizes}"]
    for stage in plan.stages:
        lines += ["", f"{stage.name}: {stage.trainable:,} trainable parameters, memory of a GPU"]
        lines += [f"  {name:<34}{_size(size):>12}" for name, size in stage.memory.items()]
        lines += [f"  {'peak':<34}{_size(stage.peak_bytes):>12}   {_fits(stage.peak_bytes, machine)}"]
        longest = stage.longest_peak_bytes
        lines += [f"  {'peak at the longest allowed':<34}{_size(longest):>12}   {_fits(longest, machine)}"]
        seconds = ", ".join(f"{name} {value:.3g}" for name, value in stage.seconds_per_step.items())
        total = stage.steps * sum(stage.seconds_per_step.values())
        duration = f"{total / 3600:.1f} h" if total >= 3600 else f"{total:.0f} s"
        lines += [f"  seconds a step: {seconds}; {stage.steps} steps in {duration}"]
    return lines


def _fits(peak: float, machine: Machine) -> str:
    verb = "fits in" if peak < _USABLE_SHARE * machine.memory_bytes else "does NOT fit in"
    return f"{verb} {_size(machine.memory_bytes)}"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
