"""Costs of the layers of a backbone, measured on the meta device: its real code runs on tensors without values.

    backbone = meta_backbone("Qwen/Qwen3-VL-8B-Instruct", torch.bfloat16)
    costs = language_costs(backbone)
    costs.forward(tokens=6000, attended=6000**2 / 2), costs.saved_bytes_per_token

Nothing is downloaded but a configuration, and those of Qwen3-VL-2B and 8B come with the program.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel, Qwen3VLConfig

from descore.checkpoints.folder import BACKBONE_DIR, MANIFEST_FILE, locate, read_manifest
from descore.checkpoints.manifest import Manifest
from descore.errors import CheckpointError
from descore.modeling.backbone_files import check_architecture, one_line, read_json
from trainer.config import PRESETS
from trainer.engine.trainable import language_model

_KNOWN = {
    "Qwen/Qwen3-VL-2B-Instruct": PRESETS / "qwen3-vl-2b.json",
    "Qwen/Qwen3-VL-8B-Instruct": PRESETS / "qwen3-vl-8b.json",
}
_LENGTHS = (256, 512)


@dataclass(frozen=True)
class LayerCosts:
    """Costs of all layers of one kind, in floating-point operations.

    Attributes:
        layers: number of layers.
        width: hidden channels.
        forward_linear: of one layer's forward, for each token.
        forward_square: of one layer's forward, for each pair of a token and a token that it attends to.
        backward_linear: likewise of the backward.
        backward_square: likewise of the backward.
        saved_bytes_per_token: kept for the backward, in one layer.
    """

    layers: int
    width: int
    forward_linear: float
    forward_square: float
    backward_linear: float
    backward_square: float
    saved_bytes_per_token: float

    def forward(self, tokens: float, attended: float) -> float:
        """Compute the work of the forward.

        Args:
            tokens: number of all tokens.
            attended: sum over the tokens of the number of tokens that each attends to.
        """
        return self.layers * (self.forward_linear * tokens + self.forward_square * attended)

    def backward(self, tokens: float, attended: float) -> float:
        """Compute the work of the backward."""
        return self.layers * (self.backward_linear * tokens + self.backward_square * attended)

    def activation_bytes(self, tokens: float, checkpointing: bool) -> float:
        """Compute the bytes kept for the backward: everything, or each layer's input and one layer in full."""
        if checkpointing:
            return tokens * (self.layers * self.width * 2 + self.saved_bytes_per_token)
        return tokens * self.layers * self.saved_bytes_per_token


def meta_backbone(checkpoint: str, dtype: torch.dtype) -> PreTrainedModel:
    """Build a backbone of the checkpoint's configuration without any weights.

    Raises:
        CheckpointError: there is no such configuration.
    """
    config = backbone_config(checkpoint)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa").train()


def manifest_of(checkpoint: str) -> Manifest:
    """Read the checkpoint's manifest; that of a bare backbone has nothing but defaults.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    if _is_remote(checkpoint):
        return Manifest(name=checkpoint)
    folder, _ = locate(checkpoint)
    return read_manifest(folder) if (folder / MANIFEST_FILE).exists() else Manifest(name=folder.name)


def language_costs(backbone: PreTrainedModel) -> LayerCosts:
    """Measure the costs of the text layers, an adapter included."""
    decoder: Any = language_model(backbone)[1]
    text = backbone.config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads

    def run(length: int, states: torch.Tensor) -> torch.Tensor:
        angles = _empty(1, length, size)
        return decoder.layers[0](states[None], position_embeddings=(angles, angles), attention_mask=None)[0]

    return _costs(run, len(decoder.layers), text.hidden_size)


def vision_costs(backbone: PreTrainedModel) -> LayerCosts:
    """Measure the costs of the vision tower's layers, in patches instead of tokens."""
    tower: Any = vision_tower(backbone)
    config = backbone.config.vision_config
    size = config.hidden_size // config.num_heads

    def run(length: int, states: torch.Tensor) -> torch.Tensor:
        angles = _empty(length, size)
        return tower.blocks[0](states, cu_seqlens=torch.tensor([0, length]), position_embeddings=(angles, angles))

    return _costs(run, len(tower.blocks), config.hidden_size)


def vision_tower(backbone: PreTrainedModel) -> nn.Module:
    """Find the module that reads pixels; the trained copy where an adapter has one.

    Raises:
        CheckpointError: the backbone is of a family whose tower is built otherwise.
    """
    tower = getattr(backbone.base_model, "visual", None)
    if isinstance(tower, ModulesToSaveWrapper):
        tower = tower.modules_to_save["default"]
    if not isinstance(tower, nn.Module) or not hasattr(tower, "blocks"):
        raise CheckpointError(f"a plan can be made for Qwen-VL backbones, not for {backbone.config.model_type}")
    return tower


def _costs(run: Callable[[int, torch.Tensor], torch.Tensor], layers: int, width: int) -> LayerCosts:
    """Costs from two lengths, split into the parts that grow with the length and with its square."""
    (fw1, bw1, _), (fw2, bw2, saved) = (_measured(run, length, width) for length in _LENGTHS)
    (forward_linear, forward_square), (backward_linear, backward_square) = (_split(fw1, fw2), _split(bw1, bw2))
    per_token = saved / _LENGTHS[1]
    return LayerCosts(layers, width, forward_linear, forward_square, backward_linear, backward_square, per_token)


def _split(short: float, long: float) -> tuple[float, float]:
    a, b = _LENGTHS
    square = max(0.0, (long / b - short / a) / (b - a))
    return short / a - square * a, square


def _measured(run: Callable[[int, torch.Tensor], torch.Tensor], length: int, width: int) -> tuple[float, float, float]:
    """Work of the forward and of the backward, and the bytes kept in between."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        base = tensor if tensor._base is None else tensor._base
        # Weights are there anyway, and attention over CUDA keeps no matrix of weights.
        if not isinstance(base, nn.Parameter) and tensor.shape[-2:] != (length, length):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    states = _empty(length, width).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = run(length, states)
        forward = counter.get_total_flops()
        result.backward(torch.empty_like(result))
    return forward, counter.get_total_flops() - forward, sum(storage.nbytes() for storage in kept.values())


def _empty(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, dtype=torch.bfloat16, device="meta")


def backbone_config(checkpoint: str) -> Any:
    """Read the configuration of a checkpoint's backbone, without any weights.

    Raises:
        CheckpointError: there is none.
    """
    if checkpoint in _KNOWN:
        return Qwen3VLConfig.from_dict(json.loads(_KNOWN[checkpoint].read_text("utf-8")))
    try:
        if _is_remote(checkpoint):
            return AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        folder, _ = locate(checkpoint)
        if not (folder / MANIFEST_FILE).exists():
            return _local_config(folder)
        base = read_manifest(folder).base_model
        return _local_config(folder / BACKBONE_DIR) if base is None else backbone_config(base.source)
    except CheckpointError:
        raise
    except Exception as error:  # whatever transformers' code meets in settings that don't belong together
        raise CheckpointError(f"no configuration of {checkpoint} can be read: {one_line(error)}") from error


def _local_config(folder: Path) -> Any:
    check_architecture(read_json(folder / "config.json"))
    return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def _is_remote(checkpoint: str) -> bool:
    """Whether it is a Hub id, of which `locate` would fetch the weights."""
    return checkpoint.count("/") == 1 and checkpoint[0] not in ".~/" and not Path(checkpoint).exists()
