"""An adapter added to its weights for the length of a block, and taken out again bit for bit.

`AdapterMerge.merged` is such a block: within it layers are plain ones, with a third of the calls at each decoded token.

peft's own unmerging subtracts what it added, which in bfloat16 does not give the old weights back. Here they are kept in the
host's memory, copied there once, since weights under an adapter don't train.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.utils import ModulesToSaveWrapper

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class AdapterMerge:
    """Merges the adapter of one backbone, as often as asked for.

    Attributes:
        exact: the sums are as good as the adapter itself. False where they are rounded to half precision.
    """

    def __init__(self, backbone: PreTrainedModel) -> None:
        self._backbone = backbone
        self._kept: dict[str, torch.Tensor] = {}
        self.exact = all(layer.get_base_layer().weight.dtype == torch.float32 for _, layer in self._lora_layers())

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Put plain layers with the merged weights in the places of the adapter's layers; nothing without an adapter."""
        replaced: list[tuple[nn.Module, str, nn.Module]] = []
        changed: list[tuple[torch.Tensor, torch.Tensor]] = []
        try:
            for name, layer in self._lora_layers():
                plain = layer.get_base_layer()
                if name not in self._kept:
                    self._kept[name] = plain.weight.detach().to("cpu", copy=True)
                changed.append((plain.weight, self._kept[name]))
                _add(layer, plain.weight)
                replaced.append(self._replace(name, plain))
            for name, wrapper in self._copies():
                replaced.append(self._replace(name, wrapper.modules_to_save[wrapper.active_adapters[0]]))
            yield
        finally:
            for owner, name, module in replaced:
                setattr(owner, name, module)
            with torch.no_grad():
                for weight, kept in changed:
                    weight.copy_(kept)

    def _lora_layers(self) -> list[tuple[str, LoraLinear]]:
        """Find the layers that are a weight and a sum of low rank, neither quantised nor merged already."""
        return [
            (name, module)
            for name, module in self._backbone.named_modules()
            if type(module) is LoraLinear
            and not module.merged
            and not module.disable_adapters
            and module.get_base_layer().weight.is_floating_point()
        ]

    def _copies(self) -> list[tuple[str, ModulesToSaveWrapper]]:
        return [
            (name, module)
            for name, module in self._backbone.named_modules()
            if isinstance(module, ModulesToSaveWrapper) and not module.disable_adapters
        ]

    def _replace(self, name: str, plain: nn.Module) -> tuple[nn.Module, str, nn.Module]:
        """Put `plain` in the place of a layer; return where that was, and the layer."""
        owner_name, _, last = name.rpartition(".")
        owner = self._backbone.get_submodule(owner_name)
        layer = getattr(owner, last)
        setattr(owner, last, plain)
        return owner, last, layer


@torch.no_grad()
def _add(layer: LoraLinear, weight: torch.Tensor) -> None:
    with torch.autocast(weight.device.type, enabled=False):
        whole = weight.float()
        for adapter in layer.active_adapters:
            whole = whole + layer.get_delta_weight(adapter).float()
        weight.copy_(whole)
