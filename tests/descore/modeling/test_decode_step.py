"""A decode step called layer by layer, and the cache that grows in place, against transformers' own."""

from __future__ import annotations

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from peft import LoraConfig
from transformers import DynamicCache

from descore.encode import encode
from descore.modeling import model as model_module
from descore.modeling.decode_step import text_model
from descore.modeling.kv_cache import GrowingLayer, growing_cache
from descore.modeling.lora import add_adapter
from descore.modeling.model import DeScoreModel, Thinking
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_processor

STEPS = 9


def judge(dtype: torch.dtype = torch.float32) -> DeScoreModel:
    torch.manual_seed(1)
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    return DeScoreModel(tiny_backbone().to(dtype), tiny_processor(), scoring).eval()


def walk(model: DeScoreModel, times: int) -> tuple[Thinking, torch.Tensor, torch.Tensor]:
    """The same tokens fed step by step, one row ending early: the state, all logits and the rewards."""
    clips = [tiny_clip(1, frames=4), tiny_clip(2, frames=6)]  # one row is padded
    prompts = ["A red circle", "A much longer prompt, so that the other row is padded on its left"]
    state = model.prefill(encode(tiny_processor(), clips, prompts, policy=POLICY, prompt_version="compact-1"))
    if times > 1:
        state = model.repeat(state, times)
    tokens = torch.randint(10, 200, (STEPS, len(state.mask)), generator=torch.Generator().manual_seed(2)).tolist()
    logits = []
    for step, row_tokens in enumerate(tokens):
        model._append_tokens(state, [None if row == 1 and step > 3 else token for row, token in enumerate(row_tokens)])
        logits.append(state.logits)
        model.score(state)  # leaves the cache as it was
    alive = [0, *range(2, len(state.mask))]  # logits of an ended row are never looked at
    return state, torch.stack(logits)[:, alive], model.score(state)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("lora", [False, True])
def test_it_is_the_models_own_forward(monkeypatch: pytest.MonkeyPatch, lora: bool, times: int, dtype: torch.dtype) -> None:
    model = judge(dtype)
    if lora:
        targets = r".*language_model.*_proj"
        add_adapter(model.backbone, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
        model.eval()
    assert text_model(model.backbone) is not None
    _, logits, rewards = walk(model, times)
    monkeypatch.setattr(model_module, "text_model", lambda _backbone: None)
    monkeypatch.setattr(model_module, "growing_cache", lambda config: DynamicCache(config=config))
    _, expected_logits, expected = walk(model, times)
    allowed = 1e-4 if dtype == torch.float32 else 0.25
    torch.testing.assert_close(logits, expected_logits, atol=allowed, rtol=0)
    torch.testing.assert_close(rewards, expected, atol=allowed, rtol=0)


def test_hooked_training_and_other_attention_take_their_own_forward() -> None:
    backbone = judge().backbone
    seen = []
    hook = backbone.model.language_model.layers[1].register_forward_hook(lambda *_: seen.append(1))
    assert text_model(backbone) is None
    hook.remove()
    assert text_model(backbone) is not None
    assert text_model(backbone.train()) is None
    assert text_model(backbone.eval()) is not None
    add_hook_to_module(backbone.model.language_model.layers[2], ModelHook())  # what accelerate offloads with
    assert text_model(backbone) is None
    eager = tiny_backbone()
    eager.set_attn_implementation("eager")
    assert text_model(DeScoreModel(eager, tiny_processor()).backbone) is None


def test_a_token_is_written_in_place_and_the_numbers_are_those_of_joining() -> None:
    generator = torch.Generator().manual_seed(0)
    config = tiny_backbone().config.get_text_config()
    growing, joining = growing_cache(config), DynamicCache(config=config)
    assert all(isinstance(layer, GrowingLayer) for layer in growing.layers)
    places = []
    for length in [5, *[1] * 300, 7]:
        key, value = torch.randn(2, 2, 2, length, 16, generator=generator)
        for cache in (growing, joining):
            found = cache.update(key, value, 0)
            if length == 1:  # a query token that is taken away again
                cache.update(-key, -value, 0)
                cache.layers[0].crop(-1)
        places.append(growing.layers[0].keys.data_ptr())
        torch.testing.assert_close(growing.update(key, value, 0)[0], torch.cat([found[0], key], dim=2), rtol=0, atol=0)
        growing.layers[0].crop(-length)
    assert growing.get_seq_length() == joining.get_seq_length() == 312
    assert len(set(places)) <= 4
    for cache in (growing, joining):
        cache.batch_repeat_interleave(2)
        cache.update(*torch.ones(2, 4, 2, 1, 16), 0)
    torch.testing.assert_close(growing.layers[0].keys, joining.layers[0].keys, rtol=0, atol=0)
    torch.testing.assert_close(growing.layers[0].values, joining.layers[0].values, rtol=0, atol=0)
