"""Families of backbones: what every one of them has to do, on tiny random models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from descore.encode import encode
from descore.errors import CheckpointError
from descore.modeling.backbone import load_backbone
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import PATCH, POLICY, tiny_clip
from tests.helpers.tiny_families import FAMILIES, qwen3_5

PROMPTS = ["a circle", "a longer prompt, which pads the other"]


@pytest.fixture(params=FAMILIES, ids=lambda make: make.__name__)
def model(request: pytest.FixtureRequest) -> DeScoreModel:
    torch.manual_seed(0)
    backbone, processor = request.param()
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    return DeScoreModel(backbone, processor, scoring).eval()


def rows(model: DeScoreModel, which: tuple[int, ...] = (0, 1), thoughts: Any = None) -> dict[str, torch.Tensor]:
    clips = [tiny_clip(1, frames=4), tiny_clip(2, frames=6)]
    chosen = [clips[index] for index in which], [PROMPTS[index] for index in which]
    return encode(model.processor, *chosen, thoughts, policy=POLICY, prompt_version="compact-1")


@pytest.mark.parametrize("times", [1, 3])
def test_rewards_from_the_cache_are_those_of_clean_forwards(model: DeScoreModel, times: int) -> None:
    state = model.prefill(rows(model))
    if times > 1:
        state = model.repeat(state, times)
    quick = model.score(state)
    uniforms = torch.rand(2 * times, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    list(model.think(state, 10, uniforms if times > 1 else None))
    think = model.score(state)
    with torch.inference_mode():
        for index, thought in enumerate(state.thoughts):
            which = (index // times,)
            assert model.rewards(rows(model, which)).item() == pytest.approx(quick[index].item(), abs=1e-4)
            assert model.rewards(rows(model, which, [thought])).item() == pytest.approx(think[index].item(), abs=1e-4)
    assert not torch.allclose(quick, think)


@pytest.mark.parametrize("look_every", [1, 4])
def test_a_row_that_has_ended_takes_in_nothing_of_the_others(model: DeScoreModel, look_every: int) -> None:
    """An eighth of the vocabulary ends a thought here, so that rows end at different steps."""
    model.end_ids |= set(range(0, len(model.never_sampled), 8))
    model.end_tokens, model.look_every = torch.tensor(sorted(model.end_ids)), look_every
    state = model.repeat(model.prefill(rows(model)), 3)
    list(model.think(state, 20, torch.rand(6, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)))
    lengths = [len(thought) for thought in state.thoughts]
    assert len(set(lengths)) > 2
    rewards = model.score(state)
    assert torch.equal(model.score(state), rewards)
    with torch.inference_mode():
        for index, thought in enumerate(state.thoughts):
            clean = model.rewards(rows(model, (index // 3,), [thought])).item()
            assert rewards[index].item() == pytest.approx(clean, abs=1e-4), (index, lengths)


def test_a_saved_backbone_loads_and_gives_the_same_rewards(model: DeScoreModel, tmp_path: Path) -> None:
    model.backbone.save_pretrained(tmp_path)
    model.processor.save_pretrained(tmp_path)
    backbone, processor = load_backbone(tmp_path, device="cpu", dtype=torch.float32, trained_here=True)
    again = DeScoreModel(backbone, processor, model.scoring).eval()
    torch.testing.assert_close(again.score(again.prefill(rows(again))), model.score(model.prefill(rows(model))))


@pytest.mark.parametrize("frames", [4, 8])
def test_the_pixel_budget_is_that_of_each_frame(model: DeScoreModel, frames: int) -> None:
    budget = replace(POLICY, max_pixels_per_frame=64 * 64, min_pixels_per_frame=16 * 16)
    batch = encode(model.processor, [tiny_clip(1, frames, 256, 192)], ["a"], policy=budget, prompt_version="compact-1")
    _, height, width = (batch["video_grid_thw"][0] * PATCH).tolist()
    assert 0.6 * 64 * 64 <= height * width <= 64 * 64


def test_layers_of_other_kinds_are_refused_by_name() -> None:
    backbone, processor = qwen3_5()
    backbone.config.get_text_config().layer_types = ["conv", "full_attention", "hybrid"]
    with pytest.raises(CheckpointError, match="Generation has layers of conv, hybrid, on which rewards can't be read"):
        DeScoreModel(backbone, processor)
