"""The model of a run: loaded, adapted, and with the right weights trainable.

    trained = load_for_training(config, device)
    set_trainable(trained.model, config, "cold-start")          # then `trainer.engine.optim.build_optimizers`

With LoRA the adapter lies on the linear layers of the language model; what is trained of the vision part is a copy inside
the adapter (peft's `modules_to_save`), so the backbone stays what it was and a checkpoint names it instead of holding it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from descore.checkpoints.folder import load_checkpoint
from descore.checkpoints.manifest import Manifest
from descore.modeling.backbone import fingerprint
from descore.modeling.lora import adapter_config, add_adapter
from descore.modeling.model import DeScoreModel
from descore.modeling.prefix_attention import takes_prefixes
from descore.modeling.scoring_head import ScoringModule
from descore.modeling.transformers_versions import checkpoint_activations
from descore.video.types import FramePolicy
from trainer.engine.precision import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trainer.config import AdapterConfig, TrainConfig, Vision
    from trainer.paradigm import StageName

_JOINS = ("merger", "projector", "connector")


@dataclass(frozen=True)
class Parent:
    """The checkpoint that a run started from; `fingerprint`: of all its weights; `frame_policy`: which frames it saw."""

    name: str
    fingerprint: str
    lineage: dict[str, Any]
    frame_policy: FramePolicy


@dataclass
class TrainableModel:
    """A model to train; `manifest`: the parent's, with the run's own frame policy."""

    model: DeScoreModel
    manifest: Manifest
    parent: Parent


def load_for_training(config: TrainConfig, device: torch.device, checkpoint: str | None = None) -> TrainableModel:
    """Load the run's checkpoint (or `checkpoint` instead) and add an adapter and a scoring module where they are missing.

    Raises:
        descore.errors.CheckpointError: there is none, or it can't be used.
        ValueError: its adapter is not the one that the settings ask for.
    """
    lora = config.model.lora
    dtype = Precision.of(config.model.precision, device).stored(frozen=lora is not None)
    model, manifest = load_checkpoint(checkpoint or config.model.checkpoint, device=device, dtype=dtype)
    parent = Parent(manifest.name, fingerprint(model.state_dict()), dict(manifest.lineage), manifest.frame_policy)
    torch.manual_seed(config.seed)  # of fresh weights: the same on every process
    if model.scoring is None:
        model = DeScoreModel(
            model.backbone, model.processor, ScoringModule(model.backbone.config.get_text_config().hidden_size)
        )
    adapt(model.backbone, lora, widest_vision(config))
    if config.model.gradient_checkpointing:
        checkpoint_activations(model.backbone)
    if config.model.frames is not None:
        manifest = replace(manifest, frame_policy=config.model.frames)
    return TrainableModel(model, manifest, parent)


def set_trainable(model: DeScoreModel, config: TrainConfig, stage: StageName) -> None:
    """Make the weights of a stage require gradients, and no others; trained weights become float32.

    Raises:
        ValueError: the stage is to train vision weights that the checkpoint's adapter does not hold, or keeps a cache that
            gradient checkpointing drops.
    """
    backbone = model.backbone
    if stage == "dual-rl" and config.model.gradient_checkpointing and not takes_prefixes(backbone):
        raise ValueError(
            f"rollouts of {type(backbone).__name__} go on from a cache, which gradient checkpointing drops; "
            "set model.gradient_checkpointing to false for dual-rl"
        )
    vision = config.cold_start.vision if stage == "cold-start" else config.dual_rl.vision
    adapted = adapter_config(backbone) is not None
    all_vision = vision_parts(backbone)
    trained_vision = () if vision == "frozen" else all_vision if vision == "tuned" else merger_parts(backbone)
    trains_vision = False
    for name, parameter in backbone.named_parameters():
        if name.startswith(_inside(all_vision)):
            trains = name.startswith(_inside(trained_vision)) and (not adapted or ".modules_to_save." in name)
            trains_vision |= trains
        else:
            trains = ".lora_" in name if adapted else True
        parameter.requires_grad_(trains)
    if trained_vision and not trains_vision:
        raise ValueError(f"this checkpoint's adapter holds no vision weights; set the vision of {stage} to frozen")
    _freeze_unused(model, config, stage)
    model.require_scoring().requires_grad_(config.paradigm != "generative")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def vision_parts(backbone: PreTrainedModel) -> tuple[str, ...]:
    """Names of the modules beside the language model: the vision tower, and the modules that join the two."""
    base, decoder = backbone.base_model, language_model(backbone)[1]
    prefix = _name_of(backbone, base)
    return tuple(
        f"{prefix}{name}"
        for name, child in base.named_children()
        if not any(module is decoder for module in child.modules()) and any(True for _ in child.parameters())
    )


def merger_parts(backbone: PreTrainedModel) -> tuple[str, ...]:
    """Names of the modules that join the vision tower to the language model."""
    vision = _inside(vision_parts(backbone))
    names = [
        name
        for name, module in backbone.named_modules()
        if (name + ".").startswith(vision)
        and not isinstance(module, nn.ModuleList)
        and ".original_module" not in name
        and any(any(join in piece for join in _JOINS) for piece in name.split("."))
    ]
    return tuple(name for name in names if not any(name.startswith(f"{other}.") for other in names))


def language_model(backbone: PreTrainedModel) -> tuple[str, nn.Module]:
    """Find the text decoder and its name."""
    decoder = backbone.get_decoder()
    return _name_of(backbone, decoder).rstrip("."), decoder


def lora_targets(backbone: PreTrainedModel) -> str:
    """Build a regular expression of the names of all linear layers in the language model, without the output layer."""
    name, decoder = language_model(backbone)
    kinds = {inner.rsplit(".", 1)[-1] for inner, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    return rf"{re.escape(name)}\..*\.({'|'.join(sorted(kinds))})"


def adapt(backbone: PreTrainedModel, lora: AdapterConfig | None, vision: Vision) -> None:
    """Add the adapter that the settings ask for; one that is there must be the same.

    Raises:
        ValueError: the checkpoint has another adapter, or one although the settings ask for none.
    """
    present = adapter_config(backbone)
    if present is None and lora is not None:
        copied = {"frozen": (), "merger": merger_parts(backbone), "tuned": vision_parts(backbone)}[vision]
        settings = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora_targets(backbone),
            modules_to_save=list(copied) or None,
        )
        add_adapter(backbone, settings)
    elif present is not None and lora is None:
        raise ValueError("the checkpoint has an adapter; set model.lora to its r and alpha to train it further")
    elif isinstance(present, LoraConfig) and lora is not None and (present.r, present.lora_alpha) != (lora.r, lora.alpha):
        raise ValueError(
            f"the checkpoint's adapter has r {present.r} and alpha {present.lora_alpha}, "
            f"model.lora says {lora.r} and {lora.alpha}"
        )


def experts_left_out(backbone: PreTrainedModel) -> str | None:
    """Say that an adapter leaves the experts of a mixture alone; None where it does not, or there is no adapter.

    transformers holds all experts of a layer in one weight. peft adapts such weights only without dropout, and makes the sum
    with every expert anew in each forward, which a decode step can't afford.
    """
    if adapter_config(backbone) is None:
        return None
    decoder = language_model(backbone)[1]
    experts, layers, everything = 0, 0, sum(p.numel() for name, p in decoder.named_parameters() if ".lora_" not in name)
    for module in decoder.modules():
        if isinstance(module, (BaseTunerLayer, nn.modules.conv._ConvNd)):
            continue
        if fused := [parameter.numel() for parameter in module.parameters(recurse=False) if parameter.ndim == 3]:
            layers, experts = layers + 1, experts + sum(fused)
    if not experts:
        return None
    return (
        f"LoRA lies on attention alone: the experts of {layers} layers, {experts / everything:.0%} of the language model, "
        "and their routers stay as they are"
    )


def widest_vision(config: TrainConfig) -> Vision:
    """Return the widest vision setting of the stages, since the adapter is made once for all."""
    stages = (config.cold_start, config.dual_rl)
    order: tuple[Vision, ...] = ("frozen", "merger", "tuned")
    return max((stage.vision for stage in stages if stage.steps), key=order.index, default="frozen")


def _freeze_unused(model: DeScoreModel, config: TrainConfig, stage: StageName) -> None:
    """Freeze an output layer that no loss of the stage uses: several processes would wait for its gradient for ever."""
    output, embeddings = model.backbone.get_output_embeddings(), model.backbone.get_input_embeddings()
    tied = output is None or output.weight is embeddings.weight
    if not tied and stage == "cold-start" and config.cold_start.anchor_weight == 0:
        output.requires_grad_(False)


def _inside(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}." for name in names)


def _name_of(backbone: nn.Module, target: nn.Module) -> str:
    """Dotted name of a module inside the backbone, with a dot behind it; "" for the backbone itself."""
    name = next(name for name, module in backbone.named_modules() if module is target)
    return f"{name}." if name else ""
