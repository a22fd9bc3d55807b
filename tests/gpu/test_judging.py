"""Judging on a GPU: a CPU's rewards, tokens that stay on the device, and bfloat16 beside float32."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from benchmarks import bf16_drift
from descore.encode import Row, collate, encode_prompt, pad_token_id, with_thought
from descore.judge import DeScore
from descore.modeling.model import LOOK_EVERY, DeScoreModel
from descore.video import read_clip
from tests.helpers.gpu import DEVICES, ONLY_GPU
from tests.helpers.paths import ROOT

GALLERY = ROOT / "app" / "gallery"
PAIR = json.loads((GALLERY / "pairs.json").read_text("utf-8"))[0]
VIDEOS = [GALLERY / PAIR[side] for side in "ab"]
# Convolutions of float32 on a GPU round to TF32 by PyTorch's default.
CLOSE = 5e-3


@pytest.fixture(scope="module")
def cpu() -> DeScore:
    return DeScore.from_pretrained("bundled", "cpu", "float32")


@pytest.fixture(scope="module")
def rows(cpu: DeScore) -> list[Row]:
    policy, version = cpu.manifest.frame_policy, cpu.manifest.prompt_version
    return [encode_prompt(cpu.model.processor, read_clip(v, policy), PAIR["prompt"], policy, version) for v in VIDEOS]


def batch(model: DeScoreModel, rows: list[Row]) -> dict[str, torch.Tensor]:
    return collate(rows, pad_token_id(model.processor))


def think(model: DeScoreModel, rows: list[Row], limit: int) -> list[list[int]]:
    state = model.prefill(batch(model, rows))
    for _ in model.think(state, limit):
        pass
    return state.thoughts


@pytest.mark.parametrize("device", DEVICES)
def test_rewards_of_the_same_thoughts_are_a_cpus(device: str, cpu: DeScore, rows: list[Row]) -> None:
    there = DeScore.from_pretrained("bundled", device, "float32").model
    thoughts = think(cpu.model, rows, 30)
    with_thoughts = [with_thought(cpu.model.processor, row, ids) for row, ids in zip(rows, thoughts, strict=True)]
    with torch.inference_mode():
        expected, found = (model.rewards(batch(model, with_thoughts)).cpu() for model in (cpu.model, there))
    assert (expected[0] - expected[1]).abs() > 10 * CLOSE, "two videos that the checkpoint tells apart"
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("device", DEVICES)
def test_the_reward_from_the_cache_is_that_of_a_forward(device: str, rows: list[Row]) -> None:
    model = DeScore.from_pretrained("bundled", device, "float32").model
    state = model.prefill(batch(model, rows))
    for _ in model.think(state, 2 * LOOK_EVERY + 3):
        pass
    whole = [with_thought(model.processor, row, ids) for row, ids in zip(rows, state.thoughts, strict=True)]
    with torch.inference_mode():
        expected = model.rewards(batch(model, whole)).cpu()
    torch.testing.assert_close(model.score(state), expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("device", ONLY_GPU)
def test_no_token_of_a_thought_waits_for_the_device(device: str, rows: list[Row]) -> None:
    model = DeScore.from_pretrained("bundled", device).model
    think(model, rows, LOOK_EVERY)
    short, long = (waits(model, rows, blocks * LOOK_EVERY) for blocks in (1, 3))
    assert short > 0, "what is counted is there"
    assert (long - short) / (2 * LOOK_EVERY) < 0.5, "a few times in a block, and not at each token"


def waits(model: DeScoreModel, rows: list[Row], limit: int) -> int:
    """How often PyTorch waited for the device while the rows thought."""
    state = model.prefill(batch(model, rows))
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in model.think(state, limit):
                pass
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len(state.thoughts[0]) == limit
    return sum("called a synchronizing" in str(each.message) for each in caught)


@pytest.mark.parametrize("device", ONLY_GPU)
def test_bfloat16_moves_a_reward_by_little_of_their_spread(device: str) -> None:
    assert torch.device(device) == DeScore.from_pretrained("bundled").device, "the drift is that of this device"
    pairs = json.loads((GALLERY / "pairs.json").read_text("utf-8"))[:3]
    figures = bf16_drift.measure("bundled", [str(Path(GALLERY / each[s])) for each in pairs for s in "ab"], PAIR["prompt"])
    exact, rounded = figures["float32"], figures["bfloat16"]
    assert exact["cache_against_forward"] < CLOSE
    assert 0 < rounded["against_float32_forward"] < 0.1 * figures["spread"]
    assert 0 < rounded["log_probs_against_float32"]["mean"] < 0.05
