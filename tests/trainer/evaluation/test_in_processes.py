"""`accelerate launch -m trainer evaluate`: the processes share the work, and print the one result of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from descore.checkpoints.folder import save_checkpoint
from tests.helpers.labelled_shapes import write_cold_start_table, write_videos
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_judge
from trainer.__main__ import main
from trainer.runs.processes import SETTINGS as DDP

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkpoint and a table of thirty pairs, of which some are held out and one of these can't be read."""
    folder = tmp_path_factory.mktemp("world")
    judge = tiny_judge()
    save_checkpoint(folder / "checkpoint", judge.model, replace(judge.manifest, max_thought_tokens=12))
    videos = [path.name for path in write_videos(folder, 6)]
    (folder / "bad.mp4").write_bytes(b"no video")
    labels = ("A", "B", "same")
    rows = [(videos[index % 6], videos[(index + 1 + index // 6) % 6], f"prompt {index}", "A") for index in range(30)]
    rows = [(a, b, prompt, labels[index % 3]) for index, (a, b, prompt, _) in enumerate(rows)]
    write_cold_start_table(
        folder / "pairs.csv", [*rows, *((videos[0], "bad.mp4", f"bad {index}", "A") for index in range(8))]
    )
    return folder


def reports(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(
    "options",
    [
        ("--csv", "pairs.csv"),
        ("--split", "test", "--pairs", "3", "--clips", "clips"),
    ],
)
@pytest.mark.endurance  # two processes that load torch, after one
def test_two_processes_print_the_one_result_of_one(
    world: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DESCORE_HOME", str(world / "home"))
    options = tuple(str(world / word) if word in ("pairs.csv", "clips") else word for word in options)
    command = ["evaluate", "--checkpoint", str(world / "checkpoint"), "--json", *options]
    assert main(command) == 0
    (alone,) = reports(capsys.readouterr().out)
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(DDP), "--num_processes", "2"]
    launcher += ["--main_process_port", "0", "-m", "trainer", *command]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launcher, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (shared,) = reports(done.stdout)
    assert alone.pop("seconds", 0) >= 0
    assert shared.pop("seconds", 0) >= 0
    assert shared == alone
    assert alone["pairs"] > 2
