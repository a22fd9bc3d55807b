"""The judging benchmark at tiny sizes: both ways come to the same thoughts and rewards."""

from __future__ import annotations

import pytest

from benchmarks.judging_speed import against_forward, as_transformers_has_it, compare, never_end, one_pass, plain_recipe
from descore.encode import Row, encode_prompt
from descore.modeling.vision_attention import Qwen3VLVisionAttention
from tests.helpers.tiny import POLICY, tiny_clip, tiny_judge

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def pair() -> list[Row]:
    processor = tiny_judge().model.processor
    clips = [tiny_clip(1, frames=4), tiny_clip(2, frames=6)]
    return [encode_prompt(processor, clip, "A red circle", POLICY, "compact-1") for clip in clips]


@pytest.mark.parametrize("endless", [False, True])
def test_both_ways_come_to_the_same(pair: list[Row], endless: bool) -> None:
    ours = tiny_judge().model
    plain = as_transformers_has_it(ours)
    if endless:
        for model in (ours, plain):
            never_end(model)
    one, two = one_pass(ours, pair, 30), plain_recipe(plain, pair, 30)
    assert one.thoughts == two.thoughts
    assert one.rewards == pytest.approx(two.rewards, abs=1e-4)
    if endless:
        assert [len(thought) for thought in one.thoughts] == [30, 30]
    for judged in (one, two):
        difference, gap = against_forward(plain, pair, judged)
        assert difference < 1e-4
        assert gap < 1e-3
    other = one_pass(ours, pair[::-1], 30)
    assert against_forward(plain, pair, other)[1] > 0.01, "the check tells a thought that is not greedy"


def test_the_plain_backbone_runs_transformers_own_code() -> None:
    plain = as_transformers_has_it(tiny_judge().model)
    towers = [module for module in plain.backbone.modules() if isinstance(module, Qwen3VLVisionAttention)]
    assert towers
    assert all(module.forward.__func__ is Qwen3VLVisionAttention.forward for module in towers)
    assert plain.backbone.config.get_text_config()._attn_implementation == "sdpa"


def test_figures(pair: list[Row]) -> None:
    ours = tiny_judge().model
    plain = as_transformers_has_it(ours)
    for model in (ours, plain):
        never_end(model)
    figures = compare(ours, plain, [pair], 60, 1)
    assert figures["thought_tokens"] == 60
    assert figures["same_thoughts"] == 1.0
    assert figures["reward_difference"] < 1e-4
    assert figures["ratio"] > 0.2
    assert figures["score_step_in_decode_steps"] > 0.1
