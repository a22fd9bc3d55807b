"""A run that the version before began goes on to its end, and the folder of a finished one reads as it did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from app.train.run_files import figures_json, notices, samples, stage_logs
from descore.checkpoints.folder import read_manifest
from storage.training.run_folder import read_metrics
from tests.helpers.tiny import tiny_judge, tiny_video
from trainer.__main__ import main
from trainer.config import load_preset
from trainer.data.run_pairs import read_pairs

pytestmark = pytest.mark.training

EARLIER = Path(__file__).parents[2] / "fixtures" / "earlier_run"
STAGES = ("cold-start", "dual-rl")


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the stopped run beside the checkpoint and the videos that it was begun with."""
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "home"))
    tiny_judge(6).save_pretrained(tmp_path / "parent")
    for seed in range(4):
        tiny_video(tmp_path / f"{seed}.mp4", seed)
    folder = tmp_path / "stopped"
    shutil.copytree(EARLIER / "stopped", folder)
    for name in ("config.yaml", "data.jsonl"):
        text = (folder / name).read_text("utf-8")
        (folder / name).write_text(text.replace("/earlier", str(tmp_path)), "utf-8")
    return folder


def test_a_stopped_run_goes_on_to_its_end(stopped: Path) -> None:
    begun = read_metrics(stopped / "cold-start")
    assert "pairs_per_pass" in (stopped / "config.yaml").read_text("utf-8")
    assert main(["run", "--out", str(stopped)]) == 0
    assert read_metrics(stopped / "cold-start")[:3] == begun
    assert [row["step"] for row in read_metrics(stopped / "cold-start")] == [0, 1, 2, 3]
    assert [row["step"] for row in read_metrics(stopped / "dual-rl")] == [0]
    for stage in STAGES:
        assert json.loads((stopped / stage / "report.json").read_text("utf-8"))["status"] == "finished"
    lineage = read_manifest(stopped / "dual-rl" / "checkpoint").lineage
    assert lineage["config"]["cold_start"]["micro_batch_pairs"] == 1
    pairs = read_pairs(stopped)
    assert pairs is not None
    assert lineage["data"]["pairs"] == len(pairs.train)


def test_its_settings_may_be_repeated_under_the_old_names(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_preset(stopped / "config.yaml").cold_start.micro_batch_pairs == 1
    changed = ["--set", "cold_start.pairs_per_pass=2", "--set", "seed=7"]
    assert main(["run", "--out", str(stopped), *changed]) == 2
    assert "begun with other settings (seed)" in capsys.readouterr().err, "how many pass at a time may change"


def test_the_pages_read_a_finished_run() -> None:
    folder = EARLIER / "finished"
    settings = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    cold, rl = stage_logs(folder, STAGES)
    assert (cold.steps, rl.steps) == (settings["cold_start"]["steps"], settings["dual_rl"]["steps"]) == (4, 1)
    assert [row["step"] for row in cold.rows] == [0, 1, 2, 3]
    assert rl.before == cold.after
    assert rl.after["pairs"] > 0
    assert notices(folder, STAGES) == ()
    assert {(row["stage"], row["when"]) for row in samples(folder)} == {
        (stage, when) for stage in STAGES for when in ("before", "after")
    } - {("dual-rl", "before")}
    figures = json.loads(figures_json(folder, STAGES, "7"))
    assert figures
