"""Which settings of a run that has begun may still change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.tiny_runs import tiny_config
from trainer.config import TrainConfig, config_to_dict, load_preset, save_config
from trainer.runs.errors import RunRefusedError
from trainer.runs.pipeline import MAY_CHANGE, settle


def begun(folder: Path) -> TrainConfig:
    config = tiny_config()
    save_config(config, folder / "config.yaml")
    return config


def test_what_does_not_change_the_mathematics_may_change_and_is_kept(tmp_path: Path) -> None:
    config = begun(tmp_path)
    smaller = replace(config, dual_rl=replace(config.dual_rl, forward_tokens=512, micro_batch_pairs=1), save_every=9)
    assert settle(smaller, tmp_path) == smaller
    assert load_preset(tmp_path / "config.yaml") == smaller


def test_what_changes_it_is_refused_by_its_name_alone(tmp_path: Path) -> None:
    config = begun(tmp_path)
    other = replace(config, dual_rl=replace(config.dual_rl, forward_tokens=512, pairs_per_step=8))
    with pytest.raises(RunRefusedError, match=r"other settings \(dual_rl.pairs_per_step\)"):
        settle(other, tmp_path)
    assert load_preset(tmp_path / "config.yaml") == config


def test_each_name_is_that_of_a_setting() -> None:
    values = config_to_dict(tiny_config())
    for name in MAY_CHANGE:
        inner = values
        for part in name.split("."):
            assert part in inner, name
            inner = inner[part]
