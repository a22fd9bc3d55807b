"""Costs of the layers of a backbone, measured on the meta device: its real code runs on tensors without values.

    backbone = meta_backbone("Qwen/Qwen3-VL-8B-Instruct", torch.bfloat16)
    costs = language_costs(backbone)
    costs.forward(tokens=6000, attended=6000**2 / 2), costs.saved_bytes_per_token

Nothing is downloaded but a configuration, and those of Qwen3-VL-2B and 8B come with the program.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
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
_LENGTHS = (251, 509)  # primes, which no width of a layer is: matrices of weights of attention are known by their shape


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
        widest_bytes_per_token: of its widest state, whose gradient comes and goes in the backward.
        itemsize: bytes of a number.
    """

    layers: int
    width: int
    forward_linear: float
    forward_square: float
    backward_linear: float
    backward_square: float
    saved_bytes_per_token: float
    widest_bytes_per_token: float
    itemsize: int

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
        """Compute the most bytes that a pass of all layers holds."""
        return self.standing_bytes(tokens, checkpointing) + self.layer_bytes(tokens, checkpointing)

    def standing_bytes(self, tokens: float, checkpointing: bool) -> float:
        """Compute the bytes that wait for the backward: everything, or with checkpointing each layer's input."""
        return tokens * self.layers * (self.width * self.itemsize if checkpointing else self.saved_bytes_per_token)

    def layer_bytes(self, tokens: float, checkpointing: bool) -> float:
        """Compute the bytes on top of these while one layer goes backward; with checkpointing it is computed again first."""
        return tokens * (self.widest_bytes_per_token + (self.saved_bytes_per_token if checkpointing else 0.0))


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


def language_costs(backbone: PreTrainedModel, dtype: torch.dtype = torch.bfloat16) -> LayerCosts:
    """Measure the costs of the text layers, an adapter included; dtype: of their states."""
    decoder: Any = language_model(backbone)[1]
    text = backbone.config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    layer, times = decoder.layers[0], 1
    if _has_experts(layer) and next(layer.parameters()).dtype == torch.float32:
        # Without values PyTorch multiplies by experts in bfloat16 alone; in float32 each state has twice the bytes.
        layer, times = copy.deepcopy(layer).to(torch.bfloat16), 2

    def run(length: int, states: torch.Tensor) -> torch.Tensor:
        angles = _empty(dtype, 1, length, size)
        return layer(states[None], position_embeddings=(angles, angles), attention_mask=None)[0]

    costs = _costs(run, len(decoder.layers), text.hidden_size, dtype)
    kept, widest = times * costs.saved_bytes_per_token, times * costs.widest_bytes_per_token
    return replace(costs, saved_bytes_per_token=kept, widest_bytes_per_token=widest)


def _has_experts(layer: nn.Module) -> bool:
    return any(name.rpartition(".")[2] == "experts" for name, _ in layer.named_modules())


def vision_costs(backbone: PreTrainedModel, dtype: torch.dtype = torch.bfloat16) -> LayerCosts:
    """Measure the costs of the vision tower's layers, in patches instead of tokens; dtype: of their states."""
    tower: Any = vision_tower(backbone)
    config = backbone.config.vision_config
    size = config.hidden_size // config.num_heads

    def run(length: int, states: torch.Tensor) -> torch.Tensor:
        angles = _empty(dtype, length, size)
        return tower.blocks[0](states, cu_seqlens=torch.tensor([0, length]), position_embeddings=(angles, angles))

    return _costs(run, len(tower.blocks), config.hidden_size, dtype)


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


def _costs(run: Callable[[int, torch.Tensor], torch.Tensor], layers: int, width: int, dtype: torch.dtype) -> LayerCosts:
    """Costs from two lengths, split into the parts that grow with the length and with its square."""
    one, other = (_measured(run, _empty(dtype, length, width)) for length in _LENGTHS)
    (forward_linear, forward_square), (backward_linear, backward_square) = (
        _split(one.forward, other.forward),
        _split(one.backward, other.backward),
    )
    return LayerCosts(
        layers=layers,
        width=width,
        forward_linear=forward_linear,
        forward_square=forward_square,
        backward_linear=backward_linear,
        backward_square=backward_square,
        saved_bytes_per_token=sum(other.kept) / _LENGTHS[1],
        widest_bytes_per_token=max(other.kept) / _LENGTHS[1],
        itemsize=dtype.itemsize,
    )


def _split(short: float, long: float) -> tuple[float, float]:
    a, b = _LENGTHS
    square = max(0.0, (long / b - short / a) / (b - a))
    return short / a - square * a, square


@dataclass(frozen=True)
class _Measured:
    """Work of the forward and of the backward, and the bytes of each state that is kept in between."""

    forward: float
    backward: float
    kept: tuple[int, ...]


def _measured(run: Callable[[int, torch.Tensor], torch.Tensor], states: torch.Tensor) -> _Measured:
    kept: dict[int, torch.UntypedStorage] = {}
    length = len(states)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        base = tensor if tensor._base is None else tensor._base
        # Weights are there anyway, and attention over CUDA keeps no matrix of weights.
        if not isinstance(base, nn.Parameter) and tensor.shape[-2:] != (length, length):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = run(length, states.requires_grad_())
        forward = counter.get_total_flops()
        result.backward(torch.empty_like(result))
    return _Measured(forward, counter.get_total_flops() - forward, tuple(storage.nbytes() for storage in kept.values()))


def _empty(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


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
