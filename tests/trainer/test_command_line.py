"""`python -m trainer cold-start | dual-rl | run | evaluate` on a tiny checkpoint and real small videos."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from descore.answer import render_answer
from descore.checkpoints.folder import read_manifest
from descore.judge import DeScore
from tests.helpers.tiny import tiny_judge, tiny_video
from tests.helpers.tiny_runs import TRUTH, tiny_config
from trainer import evaluate, train
from trainer.__main__ import main
from trainer.config import config_to_dict
from trainer.data.run_pairs import read_pairs
from trainer.engine.metrics_log import read_metrics
from trainer.evaluation.held_out import JudgedPairs, judge_pairs
from trainer.stages.dual_rl import NO_TRUTH

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkpoint, a preset for it, and a table of twelve pairs of which one video can't be read."""
    folder = tmp_path_factory.mktemp("world")
    tiny_judge().save_pretrained(folder / "parent")
    settings = config_to_dict(tiny_config(anchors=3, save_every=2))
    settings["model"]["checkpoint"] = str(folder / "parent")
    settings["data"]["held_out_share"] = 0.4
    (folder / "preset.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    for seed in range(4):
        tiny_video(folder / f"{seed}.mp4", seed)
    (folder / "bad.mp4").write_bytes(b"no video")
    names = ["path_A", "path_B", "prompt", "TA", "CoT_A", "CoT_B", "scores_A", "scores_B"]
    thought, scores = render_answer("I see it.", TRUTH, 3.5), json.dumps(TRUTH)
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(names)
        for index in range(12):
            a, b = f"{index % 4}.mp4", f"{(index + 1) % 4}.mp4" if index != 5 else "bad.mp4"
            table.writerow([a, b, f"prompt {index}", ("A", "B", "same")[index % 3], thought, thought, scores, scores])
    return folder


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path_factory.mktemp("home")))


def command(world: Path, name: str, out: Path, *more: str) -> list[str]:
    return [name, "--preset", str(world / "preset.yaml"), "--csv", str(world / "pairs.csv"), "--out", str(out), *more]


def test_training_from_python_returns_a_result(world: Path, tmp_path: Path) -> None:
    settings = ["dual_rl.steps=0", "cold_start.steps=1"]
    result = train(tmp_path / "run", world / "preset.yaml", settings, csv=world / "pairs.csv")
    assert result.finished
    assert result.checkpoint == tmp_path / "run" / "cold-start" / "checkpoint"
    assert set(result.reports) == {"cold-start"}
    measured = evaluate(result.checkpoint, csv=world / "pairs.csv")
    assert measured["split"] == "held-out"
    assert 0 <= measured["accuracy_with_ties"] <= 1
    with pytest.raises(ValueError, match="a new run needs a preset"):
        train(tmp_path / "other")
    with pytest.raises(ValueError, match="other settings"):
        train(tmp_path / "run", settings=["seed=7"])
    with pytest.raises(ValueError, match="stages is one of"):
        train(tmp_path / "run", stages="all")  # type: ignore[arg-type]


def test_both_stages_from_a_table_to_a_checkpoint(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "first"
    assert main(command(world, "run", out)) == 0
    pairs = read_pairs(out)
    assert pairs is not None
    assert pairs.train
    assert pairs.held_out
    assert any("bad.mp4" in line for stage in ("cold-start", "dual-rl") for line in report(out, stage)["problems"])
    for stage in ("cold-start", "dual-rl"):
        rows = read_metrics(out / stage)
        assert [row["step"] for row in rows] == [0, 1]
        assert all("drift" in row for row in rows)
        stage_report = report(out, stage)
        assert stage_report["status"] == "finished"
        assert stage_report["with_sub_scores"] == stage_report["train_pairs"]
        assert not stage_report["warnings"]
    judge = DeScore.from_pretrained(out / "dual-rl" / "checkpoint")
    lineage = judge.manifest.lineage
    assert (lineage["stage"] == "dual-rl" and lineage["parent"]["name"] == "first (cold-start)") or lineage["parent"]["name"]
    assert lineage["ancestry"]["stage"] == "cold-start"
    assert lineage["data"]["pairs"] == len(pairs.train)
    assert lineage["config"]["seed"] == 0
    assert judge.manifest.metrics["held-out"]["pairs"] == report(out, "dual-rl")["after"]["pairs"]
    verdict = judge.judge([world / "0.mp4", world / "1.mp4"], "prompt 0", mode="quick")
    assert verdict.videos[0].reward is not None
    result = train(out)  # finished: nothing is done again
    assert result.finished
    assert result.checkpoint == out / "dual-rl" / "checkpoint"
    assert result.reports["dual-rl"] == report(out, "dual-rl")
    # What is finished is not done again, and other settings are refused.
    written = (out / "cold-start" / "metrics.jsonl").stat().st_mtime_ns
    assert main(["run", "--out", str(out)]) == 0
    assert (out / "cold-start" / "metrics.jsonl").stat().st_mtime_ns == written
    assert main(command(world, "run", out, "--set", "seed=7")) == 2
    assert "other settings (seed)" in capsys.readouterr().err


def report(out: Path, stage: str) -> dict:
    return json.loads((out / stage / "report.json").read_text("utf-8"))


def test_stage_two_without_sub_scores_says_so_and_judges_as_the_checkpoint_will(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with (world / "pairs.csv").open(newline="", encoding="utf-8") as file:
        rows = [{name: cell for name, cell in row.items() if "scores" not in name} for row in csv.DictReader(file)]
    with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    limits = []

    def judged(*args: Any, **options: Any) -> JudgedPairs:
        limits.append(options["max_tokens"])
        return judge_pairs(*args, **options)

    monkeypatch.setattr("trainer.runs.stage.judge_pairs", judged)
    out = tmp_path / "untold"
    arguments = ["dual-rl", "--preset", str(world / "preset.yaml"), "--csv", str(tmp_path / "pairs.csv")]
    assert main([*arguments, "--videos", str(world), "--out", str(out)]) == 0
    found = report(out, "dual-rl")
    assert found["with_sub_scores"] == 0
    assert found["warnings"] == [NO_TRUTH]
    assert NO_TRUTH in caplog.text
    assert all(row["without_truth"] == row["pairs"] for row in read_metrics(out / "dual-rl"))
    # The preset's rollouts end at 6 tokens; a user of the checkpoint lets it think for 24.
    assert len(limits) >= 2
    assert set(limits) == {24}


def test_a_figure_out_of_bounds_is_told_in_the_log_and_in_the_report(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Thoughts of the preset end at 6 tokens, all of them cut off; a failed run reports it as well."""
    more = [word for setting in ("dual_rl.steps=6", "anchors=0", "watched_pairs=0") for word in ("--set", setting)]
    assert main(command(world, "dual-rl", tmp_path / "done", *more)) == 0
    told = {alarm["figure"]: alarm for alarm in report(tmp_path / "done", "dual-rl")["alarms"]}
    assert told["cut_off"]["is_on"]
    assert told["cut_off"]["steps"] == [[5, 6]]
    assert caplog.text.count("alarm, since step 5: Rollouts cut off at the limit") == 1
    assert "Raise dual_rl.objective.max_tokens" in told["cut_off"]["advice"]
    endless = ("--set", "dual_rl.objective.bt_weight=1e39")  # more than float32 has
    assert main(command(world, "dual-rl", tmp_path / "failed", *more, *endless)) == 1
    failed = report(tmp_path / "failed", "dual-rl")
    assert failed["status"] == "failed"
    assert [(alarm["figure"], alarm["is_on"], alarm["steps"]) for alarm in failed["alarms"]] == [("skipped", True, [[1, 4]])]


def test_stage_two_alone_starts_from_the_given_checkpoint(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "rl"
    assert main(command(world, "dual-rl", out, "--set", "dual_rl.steps=1", "--set", "anchors=0")) == 0
    manifest = read_manifest(out / "dual-rl" / "checkpoint")
    assert manifest.lineage["parent"]["name"] == "tiny"
    assert manifest.base_model is None
    parent, child = (DeScore.from_pretrained(path).model for path in (world / "parent", out / "dual-rl" / "checkpoint"))
    same = {name for name, value in parent.state_dict().items() if torch.equal(value, child.state_dict()[name])}
    assert same
    assert all("visual" in name or name.startswith("backbone.") for name in same)
    assert not torch.equal(parent.require_scoring().head.weight, child.require_scoring().head.weight)


def test_stage_two_goes_on_from_the_cold_start_of_its_folder(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, short = tmp_path / "steps", ["--set", "anchors=0", "--set", "dual_rl.steps=1"]
    assert main(command(world, "cold-start", out, *short)) == 0
    assert main(["dual-rl", "--out", str(out)]) == 0
    assert read_manifest(out / "dual-rl" / "checkpoint").lineage["ancestry"]["stage"] == "cold-start"
    # What would not follow from each other is refused.
    assert main(command(world, "dual-rl", tmp_path / "alone", *short)) == 0
    assert main(["cold-start", "--out", str(tmp_path / "alone")]) == 2
    assert "begun without a cold start" in capsys.readouterr().err
    (out / "cold-start" / "report.json").unlink()
    assert main(["dual-rl", "--out", str(out)]) == 2
    assert "is not finished" in capsys.readouterr().err


def test_a_run_that_was_killed_in_its_first_moment_begins_anew(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "first"
    out.mkdir()
    (out / "config.yaml.partial").write_text("preset: ti", "utf-8")
    assert main(command(world, "cold-start", out, "--set", "anchors=0", "--set", "cold_start.steps=1")) == 0


@pytest.mark.parametrize(("paradigm", "stage"), [("discriminative", "cold-start"), ("generative", "dual-rl")])
def test_the_baselines_run_through_the_same_command(paradigm: str, stage: str, world: Path, tmp_path: Path) -> None:
    out = tmp_path / paradigm
    assert main(command(world, "run", out, "--paradigm", paradigm, "--set", "anchors=0")) == 0
    assert [path.name for path in out.iterdir() if path.is_dir()] == [stage]
    manifest = read_manifest(out / stage / "checkpoint")
    assert manifest.lineage["paradigm"] == paradigm
    assert "baseline" in manifest.trained_on
    if paradigm == "generative":
        model = DeScore.from_pretrained(out / stage / "checkpoint").model
        assert not model.require_scoring().head.weight.any()
    wrong = "dual-rl" if stage == "cold-start" else "cold-start"
    assert main(command(world, wrong, tmp_path / "wrong", "--paradigm", paradigm)) == 2


def test_held_out_pairs_measure_a_checkpoint(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parent = str(world / "parent")
    assert main(["evaluate", "--checkpoint", parent, "--csv", str(world / "pairs.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["split"] == "held-out"
    assert 0 < found["pairs"] < 12
    assert "quick" in found


def test_what_the_user_has_to_change_is_said_in_one_line(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (["run", "--out", str(tmp_path / "new")], "--preset"),
        (command(world, "run", tmp_path / "x", "--set", "cold_start.stepz=3"), "steps"),
        (command(world, "run", tmp_path / "x", "--checkpoint", str(tmp_path / "none")), "none"),
        (command(world, "run", world), "holds something else"),
        (command(world, "run", world / "pairs.csv"), "holds something else"),
        (["run", "--preset", "tiny-cpu", "--csv", str(tmp_path / "no.csv"), "--out", str(tmp_path / "y")], "no.csv"),
    ):
        assert main(arguments) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run: ")]
        assert said in line
