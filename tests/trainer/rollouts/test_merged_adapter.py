"""An adapter merged for the length of a block: its numbers inside, every bit of the weights as before afterwards."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig

from descore.encode import encode
from descore.modeling.lora import adapter_off, add_adapter
from descore.modeling.model import DeScoreModel
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_processor
from trainer.rollouts.merged_adapter import AdapterMerge


def adapted(dtype: torch.dtype = torch.float32) -> DeScoreModel:
    backbone = tiny_backbone(1).to(dtype)
    targets, copies = r".*language_model.*_proj", ["model.visual.merger"]
    add_adapter(backbone, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.3, target_modules=targets, modules_to_save=copies))
    torch.manual_seed(0)
    for name, parameter in backbone.named_parameters():
        if ".lora_" in name or ".modules_to_save." in name:
            parameter.data.normal_(0, 0.1)
    return DeScoreModel(backbone, tiny_processor()).eval()


def logits(model: DeScoreModel) -> torch.Tensor:
    return model.prefill(encode(tiny_processor(), [tiny_clip(1)], ["a circle"], policy=POLICY)).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_back_bit_for_bit(dtype: torch.dtype) -> None:
    model = adapted(dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    merge = AdapterMerge(model.backbone)
    assert merge.exact == (dtype == torch.float32)
    expected, names = logits(model), [name for name, _ in model.named_modules()]
    for _ in range(2):
        with merge.merged():
            assert not any(".lora_" in name for name, _ in model.named_modules())
            if merge.exact:
                torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    assert [name for name, _ in model.named_modules()] == names
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == trained
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(logits(model), expected)


def test_an_adapter_that_trained_on_is_merged_as_it_is_now() -> None:
    model = adapted()
    merge = AdapterMerge(model.backbone)
    with merge.merged():
        first = logits(model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(2)
    expected = logits(model)
    with merge.merged():
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(first, expected)


def test_weights_come_back_after_an_error_too() -> None:
    model = adapted()
    expected = logits(model)
    with pytest.raises(RuntimeError, match="memory"), AdapterMerge(model.backbone).merged():
        raise RuntimeError("out of memory")
    assert torch.equal(logits(model), expected)


def test_a_switched_off_adapter_stays_off() -> None:
    model = adapted()
    with adapter_off(model.backbone):
        expected = logits(model)
        with AdapterMerge(model.backbone).merged():
            assert torch.equal(logits(model), expected)


def test_a_backbone_without_an_adapter_is_left_alone() -> None:
    model = DeScoreModel(tiny_backbone(1), tiny_processor()).eval()
    expected = logits(model)
    with AdapterMerge(model.backbone).merged():
        assert torch.equal(logits(model), expected)
