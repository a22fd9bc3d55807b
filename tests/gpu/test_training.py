"""Training on a GPU, by the parts of the GPU report: too little memory, resume, and the own engine's probabilities."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import bundled_training
from benchmarks.gpu.setting import Setting
from tests.helpers.gpu import NEEDS_GPU

pytestmark = NEEDS_GPU


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "home"))
    return Setting(torch.device("cuda", 0), smallest=True, repeats=1, folder=tmp_path)


def test_budgets_halve_under_a_limit_and_the_weights_come_out_as_without(setting: Setting) -> None:
    figures = bundled_training.out_of_memory(setting)
    assert figures["out_of_memory"] > 0
    before, after = figures["budgets"]["forward_tokens"]
    assert before // after == 2 ** figures["out_of_memory"] or after == 64
    assert figures["largest_difference_of_weights"] < 0.1 * figures["largest_update"]
    roomy, tight = figures["loss"]
    assert tight == pytest.approx(roomy, rel=1e-2, abs=1e-5)


def test_a_resumed_run_is_no_further_from_a_straight_one_than_another_straight_one(setting: Setting) -> None:
    figures = bundled_training.resume(setting)
    for stage in ("cold-start", "dual-rl"):
        found = figures[stage]
        assert found["exit_code"] == 143
        assert found["stopped_after"] < found["steps"] == 3
        assert found["largest_difference"] <= 10 * found["largest_difference_of_straight_runs"] + 1e-6, stage


def test_the_own_engine_gives_tokens_the_trained_models_probabilities(setting: Setting) -> None:
    figures = bundled_training.sampler_ratio(setting)
    for name in ("fp32 whole", "fp32 lora"):
        assert figures[name]["sampler_ratio"] == pytest.approx(1, abs=1e-2)
        assert figures[name]["sampler_ratio_outside"] == 0
    for name in ("bf16 whole", "bf16 lora"):
        assert figures[name]["sampler_ratio"] == pytest.approx(1, abs=0.05)
