"""LoRA adapters inside a backbone, saved beside the checkpoint instead of a second copy of the backbone.

peft's layers are injected in place, so the backbone keeps its class and all that is composed around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import (
    LoraConfig,
    PeftConfig,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file, save_file

from descore.errors import CheckpointError
from descore.modeling.backbone_files import one_line, read_json, refuse_pickles

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_NAME = "default"


def add_adapter(backbone: PreTrainedModel, config: PeftConfig) -> None:
    """Inject a new adapter; from now on its weights (and `modules_to_save`) train, and no others."""
    inject_adapter_in_model(config, backbone, adapter_name=_NAME)


def adapter_config(backbone: PreTrainedModel) -> PeftConfig | None:
    """Return the settings of the backbone's adapter, None if it has none."""
    return getattr(backbone, "peft_config", {}).get(_NAME)


def save_adapter(backbone: PreTrainedModel, folder: Path) -> None:
    """Write the adapter's settings and weights into `folder`, in peft's own format."""
    config = adapter_config(backbone)
    if config is None:
        raise CheckpointError("the backbone has no adapter to save")
    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(backbone, adapter_name=_NAME)
    save_file({key: value.detach().cpu().contiguous() for key, value in weights.items()}, folder / ADAPTER_WEIGHTS)
    config.save_pretrained(str(folder))


def load_adapter(backbone: PreTrainedModel, folder: Path) -> None:
    """Inject the adapter that `save_adapter` wrote.

    Its low-rank weights keep the number format that they were saved in, whatever the backbone's: rounded to bfloat16, what
    serves would not be what trained. Copies of whole modules (`modules_to_save`) compute in the backbone's format.

    Raises:
        CheckpointError: it is incomplete or damaged, or belongs to another backbone.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        refuse_pickles(folder)
    read_json(folder / "adapter_config.json")
    try:
        config = LoraConfig.from_pretrained(str(folder))
        weights = load_file(folder / ADAPTER_WEIGHTS)
        config.inference_mode = True
        add_adapter(backbone, config)
        _store_as(backbone, weights)
        result: Any = set_peft_model_state_dict(backbone, weights, adapter_name=_NAME)
    except Exception as error:  # whatever peft's code meets in settings that don't belong together
        raise CheckpointError(f"the adapter in {folder} does not load into this backbone: {one_line(error)}") from error
    expected = set(get_peft_model_state_dict(backbone, adapter_name=_NAME))
    if result.unexpected_keys or expected != set(weights):
        raise CheckpointError(f"the adapter in {folder} belongs to another backbone or is incomplete")


def _store_as(backbone: PreTrainedModel, saved: Mapping[str, torch.Tensor]) -> None:
    """Give the low-rank weights the widest format of the saved ones."""
    formats = {value.dtype for name, value in saved.items() if ".lora_" in name}
    if not formats:
        return
    widest = reduce(torch.promote_types, formats)
    for name, parameter in backbone.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.to(widest)


def without_adapter(backbone: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the backbone's own state dict, as if no adapter had been injected."""
    return {
        key.replace(".base_layer.", ".").replace(".original_module.", "."): value
        for key, value in backbone.state_dict().items()
        if ".lora_" not in key and ".modules_to_save." not in key
    }


def merge_adapter(backbone: PreTrainedModel) -> None:
    """Add the adapter to the weights that it belongs to and take its layers out, in place; do nothing without one.

    Sums are made in float32 and rounded once to the dtype of the weights, so rewards may move by what that dtype resolves.

    Raises:
        CheckpointError: a kind of adapter that can't be merged, or a sum that is not finite.
    """
    for name, module in list(backbone.named_modules()):
        if not isinstance(module, (BaseTunerLayer, ModulesToSaveWrapper)):
            continue
        if isinstance(module, ModulesToSaveWrapper):
            plain = module.modules_to_save[_NAME]
        else:
            try:
                with _in_float32(module.get_base_layer()):
                    module.merge(safe_merge=True, adapter_names=[_NAME])
            except Exception as error:  # whatever peft's code meets in a kind of adapter that has no sum
                raise CheckpointError(f"the adapter of {name} can't be merged: {one_line(error)}") from error
            plain = module.get_base_layer()
        owner, _, last = name.rpartition(".")
        setattr(backbone.get_submodule(owner), last, plain)
    if hasattr(backbone, "peft_config"):
        del backbone.peft_config
    backbone._hf_peft_config_loaded = False


@contextmanager
def _in_float32(layer: nn.Module) -> Iterator[None]:
    """Hold the layer's own weights in float32 for the length of the block."""
    formats = {name: parameter.dtype for name, parameter in layer.named_parameters(recurse=False)}
    halves = {name: dtype for name, dtype in formats.items() if dtype in (torch.bfloat16, torch.float16)}
    for name in halves:
        parameter = layer.get_parameter(name)
        parameter.data = parameter.data.float()
    try:
        yield
    finally:
        for name, dtype in halves.items():
            parameter = layer.get_parameter(name)
            parameter.data = parameter.data.to(dtype)


@contextmanager
def adapter_off(backbone: PreTrainedModel) -> Iterator[None]:
    """Switch the adapter off for the length of the block: the backbone is then the reference of a KL penalty.

    Raises:
        CheckpointError: it has no adapter.
    """
    layers = [module for module in backbone.modules() if isinstance(module, (BaseTunerLayer, ModulesToSaveWrapper))]
    if not layers:
        raise CheckpointError("the backbone has no adapter that could be switched off")
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
