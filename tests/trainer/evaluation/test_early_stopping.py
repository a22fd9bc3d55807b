"""Early stopping: which pairs validate, which weights are kept, and that an interrupted stage goes on with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from storage.training.run_folder import REPORT, read_metrics
from tests.helpers.tiny import tiny_judge
from tests.helpers.tiny_runs import tiny_config, tiny_pairs, tiny_reader
from tests.trainer.evaluation.test_monitors import judged
from trainer.data.pairs import LoadedPairs
from trainer.engine.stop_signals import StopSignals
from trainer.evaluation.early_stopping import EarlyStopping, split_validation
from trainer.runs.stage import StageRun


def stopping(
    folder: Path, model: torch.nn.Module, margins: list[float], steps: int = 10, patience: int = 2
) -> EarlyStopping:
    """Margins of the evaluations to come, the same for both of two pairs."""
    ahead = iter(margins)

    def judge():
        margin = next(ahead)
        return judged(margin, margin)

    return EarlyStopping(judge, model, folder, Accelerator(cpu=True), steps=steps, patience=patience)


def test_the_best_weights_come_back_and_the_stage_ends_when_it_gets_worse(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    early = stopping(tmp_path, model, [0.5, 2.0, 1.0, 0.2])
    for step in range(4):
        torch.nn.init.constant_(model.weight, float(step))
        assert not early.is_over()
        figures = early(step)
        assert figures["validation_accuracy"] == 1
        assert 0 < figures["validation_loss"] < 1
    assert early.is_over()
    assert early.restore_best() == 1
    assert model.weight.item() == 1.0


def test_an_interrupted_stage_counts_an_evaluation_once(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    first = stopping(tmp_path, model, [2.0, 1.0])
    first(0), first(1)
    # Killed before the checkpoint of step 1: that step is done and evaluated again.
    again = stopping(tmp_path, model, [1.0, 0.5])
    assert (again.best_step, again.is_over()) == (0, False)
    again(1)
    assert not again.is_over()
    again(2)
    assert again.is_over()


def test_evaluations_are_ten_in_a_stage_and_one_at_its_end(tmp_path: Path) -> None:
    early = stopping(tmp_path, torch.nn.Linear(1, 1), [1.0] * 20, steps=45)
    assert [step for step in range(45) if early(step)] == [*range(3, 45, 4), 44]


def test_nothing_is_kept_where_no_validation_pair_can_be_read(tmp_path: Path) -> None:
    early = EarlyStopping(lambda: judged(), torch.nn.Linear(1, 1), tmp_path, Accelerator(cpu=True), steps=1, patience=1)
    assert early(0) == {}
    assert early.restore_best() is None
    assert not early.is_over()


def test_whole_prompts_validate_and_no_video_of_theirs_is_trained_on() -> None:
    pairs = [replace(pair, prompt=f"prompt {index // 2}") for index, pair in enumerate(tiny_pairs(80))]
    shared = replace(pairs[0], identity="shared", prompt="a prompt of its own")
    train, validation = split_validation([*pairs, shared], 0.3)
    assert 10 < len(validation) < 40
    assert {pair.prompt for pair in train}.isdisjoint(pair.prompt for pair in validation)
    contents = {content for pair in validation for content in pair.contents}
    assert all(contents.isdisjoint(pair.contents) for pair in train)
    assert split_validation([*pairs, shared], 0.3) == (train, validation)
    few = [replace(pair, prompt="the only one") for pair in tiny_pairs(60)]
    train, validation = split_validation(few, 0.2)
    assert validation
    assert len(train) + len(validation) == 60


@pytest.mark.parametrize("label", [0])
def test_ties_are_not_validated_on(label: int) -> None:
    pairs = [replace(pair, label=label) for pair in tiny_pairs(40)]
    assert split_validation(pairs, 0.5)[1] == ()


@pytest.mark.training
def test_a_stage_that_may_stop_early_validates_on_pairs_that_it_does_not_train_on(tmp_path: Path) -> None:
    pairs = tiny_pairs(12)
    config = tiny_config(early_stopping=1, validation_share=0.5)
    accelerator = Accelerator(cpu=True)
    reader = tiny_reader(pairs, tmp_path / "home" / "training-cache" / "frames")
    reader.close()
    checkpoint = tiny_judge(thought_tokens=6).save_pretrained(tmp_path / "base")
    loaded = LoadedPairs(tuple(pairs), (), ())
    run = StageRun(
        "cold-start", config, tmp_path / "run" / "cold-start", tmp_path / "home", loaded, accelerator, StopSignals()
    )
    assert run.run(str(checkpoint)) == 0
    report = json.loads((run.folder / REPORT).read_text("utf-8"))
    assert report["train_pairs"] + report["validation_pairs"] == 12
    assert 0 < report["validation_pairs"] < 12
    assert report["best_step"] in (0, 1)
    lines = read_metrics(run.folder)
    assert all({"validation_loss", "validation_accuracy"} <= line.keys() for line in lines)
    losses = [line["validation_loss"] for line in lines]
    assert losses[report["best_step"]] == min(losses)
