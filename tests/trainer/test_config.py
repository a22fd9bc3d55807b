"""Settings of a run: presets, overrides, round trip, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from trainer.config import (
    ConfigError,
    config_from_dict,
    config_to_dict,
    load_preset,
    preset_names,
    save_config,
)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_comes_back_from_its_file_as_it_was(name: str, tmp_path: Path) -> None:
    config = load_preset(name)
    assert config.preset == name
    save_config(config, tmp_path / "config.yaml")
    assert load_preset(tmp_path / "config.yaml") == config
    assert config_from_dict(config_to_dict(config)) == config


def test_the_three_presets_are_there() -> None:
    assert preset_names() == ("qwen3-vl-2b-1gpu", "qwen3-vl-8b-1gpu", "qwen3-vl-8b-8gpu", "tiny-cpu")


@pytest.mark.parametrize("name", ["qwen3-vl-8b-1gpu", "qwen3-vl-8b-8gpu"])
def test_the_large_presets_carry_the_methods_settings(name: str) -> None:
    config = load_preset(name)
    lora, frames, cold, rl = config.model.lora, config.model.frames, config.cold_start, config.dual_rl
    assert lora is not None
    assert (lora.r, lora.alpha, lora.dropout) == (64, 128, 0.05)
    assert frames is not None
    assert (frames.fps, frames.max_pixels_per_frame) == (2.0, 448 * 448)
    assert (cold.vision, cold.optim.lr, cold.optim.warmup_share, cold.optim.schedule) == ("tuned", 2e-6, 0.05, "constant")
    assert (cold.mask_probability, cold.max_length, cold.anchor_weight, cold.loss) == (0.5, 6144, 0, "bradley-terry")
    assert (cold.micro_batch_pairs, cold.pairs_per_step) == (1, 1 * 4 * 8)
    assert (rl.vision, rl.optim.lr, rl.optim.weight_decay, rl.optim.optimizer) == ("frozen", 1e-5, 1e-2, "adamw")
    assert (rl.max_prompt_tokens, rl.objective.max_tokens, rl.objective.num_generations) == (6200, 4096, 8)
    objective, reward = rl.objective, rl.objective.reward
    assert (objective.temperature, objective.epsilon, objective.epsilon_high, objective.dual_clip) == (1.0, 0.2, 0.3, 3.0)
    assert (objective.beta, objective.bt_weight) == (1e-5, 5e-3)
    assert (reward.quality_weight, reward.format_weight, reward.length_weight) == (0.7, 0.1, 0.2)
    assert (reward.length_low, reward.length_high) == (500, 2000)


def test_overrides_change_single_settings_and_make_missing_parts() -> None:
    config = load_preset("tiny-cpu", ["cold_start.steps=7", "model.lora.r=4", "data.campaigns=[a, b]", "data.csv=x.csv"])
    assert config.cold_start.steps == 7
    assert config.model.lora is not None
    assert (config.model.lora.r, config.model.lora.alpha) == (4, 128)
    assert config.data.campaigns == ("a", "b")
    assert config.data.csv == "x.csv"
    assert load_preset("qwen3-vl-8b-1gpu", ["model.lora=null"]).model.lora is None


def test_a_number_without_a_point_before_its_exponent_is_a_number() -> None:
    assert yaml.safe_load("1e-6") == "1e-6"  # YAML 1.1 says so
    assert load_preset("tiny-cpu", ["dual_rl.optim.lr=1e-6"]).dual_rl.optim.lr == 1e-6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cold_start.step=3", r"unknown setting cold_start\.step; did you mean steps\?"),
        ("cold_strat.steps=3", r"did you mean cold_start\?"),
        ("cold_start.steps=-1", "steps must be at least 0, not -1"),
        ("cold_start.steps=1.5", r"cold_start\.steps must be a whole number, not 1\.5"),
        ("cold_start.steps=true", "whole number"),
        ("cold_start.optim.lr=fast", r"cold_start\.optim\.lr must be a finite number"),
        ("cold_start.optim.lr=.nan", "finite number"),
        ("cold_start.micro_batch_pairs=3", "multiple of micro_batch_pairs"),
        ("cold_start.mask_probability=1.5", "mask_probability must lie between 0 and 1"),
        ("dual_rl.objective.num_generations=1", "num_generations must be at least 2"),
        ("dual_rl.objective.max_tokens=50", "length_high must be at most objective.max_tokens"),
        ("dual_rl.engine=fast", "must be one of auto, own, vllm"),
        ("data.held_out_share=1", "held_out_share must be at least 0 and below 1"),
        ("data.videos=clips", "without csv it means nothing"),
        ("data.frame_cache=maybe", "true or false"),
        ("seed.x=3", "single value"),
        ("seed", "no override"),
        ("seed=[", "can't be read"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_preset("tiny-cpu", [override])


def test_a_file_that_lacks_what_is_needed_says_what(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: mine\ncold_start: {steps: 1}\n")
    with pytest.raises(ConfigError, match="cold_start must say: pairs_per_step, micro_batch_pairs, optim"):
        load_preset(path)
    path.write_text("- a\n")
    with pytest.raises(ConfigError, match="holds no settings"):
        load_preset(path)
    with pytest.raises(ConfigError, match="presets are qwen3-vl-2b-1gpu"):
        load_preset("tiny-gpu")


def test_a_renamed_setting_is_read_under_its_old_name(tmp_path: Path) -> None:
    override = ["cold_start.pairs_per_pass=4"]
    config = load_preset("tiny-cpu", override)
    assert config.cold_start.micro_batch_pairs == 4
    path = tmp_path / "config.yaml"
    save_config(config, path)
    assert "pairs_per_pass" not in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace("micro_batch_pairs", "pairs_per_pass"))
    assert load_preset(path) == config
    assert load_preset(path, ["cold_start.micro_batch_pairs=2"]).cold_start.micro_batch_pairs == 2
    path.write_text(path.read_text("utf-8").replace("pairs_per_pass: 4", "pairs_per_pass: 4\n  micro_batch_pairs: 4", 1))
    with pytest.raises(ConfigError, match=r"cold_start\.micro_batch_pairs is given twice"):
        load_preset(path)


def test_bounds_hold_for_settings_made_in_code_too() -> None:
    config = load_preset("tiny-cpu")
    with pytest.raises(ValueError, match="keep must be at least 1"):
        replace(config, keep=0)
