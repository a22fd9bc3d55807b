"""What a machine is offered: which presets run, why others do not, and times from runs, from a trial, or not yet."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from storage.training.model_registry import set_gate
from storage.training.run_folder import device_lock
from storage.training.runs import create_run
from storage.training.snapshots import SnapshotConfig, make_snapshot
from tests.helpers.retraining import make_checkpoint, training
from tests.helpers.store_world import World, make_world
from tests.helpers.tiny_runs import tiny_config
from trainer.__main__ import main
from trainer.config import PRESETS, load_preset, save_config
from trainer.planning import preflight
from trainer.planning.measured_runs import seconds_per_judged_pair, seconds_per_step, work
from trainer.planning.preflight import run_preflight
from trainer.planning.trial_step import Trial, trial

if TYPE_CHECKING:
    from storage.training.preflight import PresetPreflight


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / "home", pairs=12)
    made.label(12)
    yield made
    made.database.close()


def presets(world: World, checkpoint: str = "bundled", seconds: float = 0.0) -> dict[str, PresetPreflight]:
    """Without time for a trial."""
    found = run_preflight(world.database, checkpoint, pairs=100, held_out=20, device="cpu", seconds=seconds)
    return {one.name: one for one in found.presets}


def pretend_run(world: World, seconds: float) -> None:
    """Make a run of the preset with its logs, as a finished one leaves them."""
    run = world.ask()
    folder = world.folder(run)
    for stage in ("cold-start", "dual-rl"):
        (folder / stage).mkdir(parents=True)
        rows = [{"step": step, "seconds": seconds + 9.0 * (step == 0), "memory_gb": 1.5} for step in range(5)]
        (folder / stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_config(load_preset("tiny-cpu", ["cold_start.pairs_per_step=32"]), folder / "config.yaml")


def test_presets_for_other_models_are_refused_with_the_reason(world: World) -> None:
    found = presets(world)
    assert set(found) == {"tiny-cpu", "qwen3-vl-2b-1gpu", "qwen3-vl-8b-1gpu", "qwen3-vl-8b-8gpu"}
    tiny, large = found["tiny-cpu"], found["qwen3-vl-8b-1gpu"]
    assert tiny.why_not is None
    assert tiny.stages == ("cold-start", "dual-rl")
    assert tiny.knobs["dual_rl.steps"] > 0
    assert tiny.title.startswith("The bundled checkpoint on two CPU cores")
    assert "\n" not in tiny.title
    assert large.why_not is not None
    assert "made for Qwen/Qwen3-VL-8B-Instruct" in large.why_not
    assert not large.seconds
    # The tiny test checkpoint has yet another size.
    assert "another size" in str(presets(world, str(world.home / "base"))["tiny-cpu"].why_not)


def test_times_come_from_the_last_run_scaled_to_what_a_step_does(world: World) -> None:
    assert presets(world)["tiny-cpu"].seconds_per_step == {}
    assert presets(world)["tiny-cpu"].known_from == ""
    pretend_run(world, seconds=4.0)
    config = load_preset("tiny-cpu")
    known = seconds_per_step(world.database, config, "cpu")
    assert known == {"cold-start": pytest.approx(4.0 * config.cold_start.pairs_per_step / 32), "dual-rl": pytest.approx(4.0)}
    assert seconds_per_step(world.database, config, "cuda:0") == {}
    tiny = presets(world)["tiny-cpu"]
    assert tiny.known_from == "runs"
    assert tiny.seconds_per_step["dual-rl"] == pytest.approx(4.0)
    assert tiny.memory_bytes == pytest.approx(1.5e9)
    assert not tiny.steps_aside


def test_time_to_judge_comes_from_the_newest_gate_of_that_preset_and_device(world: World) -> None:
    assert seconds_per_judged_pair(world.database, "tiny-cpu", "cpu") is None
    for device, preset, seconds in (
        ("cpu", "tiny-cpu", 0.5),
        ("cuda:0", "tiny-cpu", 0.1),
        ("cpu", "qwen3-vl-8b-1gpu", 90.0),
    ):
        with world.database.write() as session:
            asked = replace(training(world.base), device=device, preset=preset)
            run = create_run(session, asked, make_snapshot(session, SnapshotConfig(), 0, False), None)
            made = make_checkpoint(session, f"{device} {preset}", parent_id=world.base.id, run_id=run.id)
            set_gate(session, made.id, {"pairs": 5, "candidate": {"seconds_per_pair": seconds}})
    assert seconds_per_judged_pair(world.database, "tiny-cpu", "cpu") == 0.5
    assert seconds_per_judged_pair(world.database, "tiny-cpu", "cuda:0") == 0.1
    assert seconds_per_judged_pair(world.database, "tiny-cpu", "cuda:1") is None


def test_a_run_that_does_not_fit_is_refused_and_one_that_barely_fits_sends_the_serving_model_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_run(world, seconds=4.0)
    monkeypatch.setattr(preflight, "_machine_memory", lambda: (8e9, 1e9))
    assert presets(world)["tiny-cpu"].steps_aside
    monkeypatch.setattr(preflight, "_machine_memory", lambda: (1e9, 1e9))
    tiny = presets(world)["tiny-cpu"]
    assert not tiny.steps_aside
    assert "needs 1.5 GB" in str(tiny.why_not)


@pytest.mark.slow
def test_what_a_trial_found_is_kept_and_none_is_made_beside_a_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def pretend_trial(*arguments: object) -> Trial:
        tried.append(arguments)
        return Trial({"cold-start": 2.0, "dual-rl": 5.0}, 0.5)

    monkeypatch.setattr(preflight, "trial", pretend_trial)
    with device_lock(world.home, "cpu"):
        assert presets(world, seconds=100.0)["tiny-cpu"].seconds == {}
    assert not tried
    first, second = presets(world, seconds=100.0)["tiny-cpu"], presets(world)["tiny-cpu"]
    assert len(tried) == 1
    assert first.seconds == second.seconds
    assert second.known_from == "trial"
    steps = second.knobs["cold_start.steps"]
    assert first.seconds["cold-start"] == pytest.approx(2.0 * steps + (2 * 20 + 100) * 0.5)
    assert first.seconds["gate"] == pytest.approx(2 * 20 * 0.5)
    assert first.memory_bytes is not None
    assert 0.5e9 < first.memory_bytes < 8e9


@pytest.mark.training
def test_a_trial_measures_both_stages(world: World) -> None:
    config = tiny_config()
    config = replace(config, dual_rl=replace(config.dual_rl, max_prompt_tokens=4000))
    found = trial(config, str(world.home / "base"), seconds=60.0)
    assert set(found.seconds_per_step) == {"cold-start", "dual-rl"}
    assert found.seconds_per_pair > 0
    assert all(0 < seconds < 60 for seconds in found.seconds_per_step.values())
    assert set(trial(config, str(world.home / "base"), seconds=0.0).seconds_per_step) == set()


def test_the_work_of_a_step_counts_its_sequences() -> None:
    config = tiny_config()
    assert (work(config, "cold-start"), work(config, "dual-rl")) == (8, 16)


def test_the_command_prints_json_and_says_what_is_wrong(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESCORE_HOME", str(world.home))
    monkeypatch.setattr("os.nice", lambda _: 0)  # of the tests themselves
    monkeypatch.setattr(preflight, "_SECONDS", 0.0)
    assert main(["preflight", "--checkpoint", "bundled", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "cpu"
    assert len(found["presets"]) == 4
    assert not found["busy"]
    assert main(["preflight"]) == 0
    assert "tiny-cpu: The bundled checkpoint" in capsys.readouterr().out
    assert main(["preflight", "--checkpoint", "nowhere"]) == 2
    assert "preflight: there is no checkpoint folder nowhere" in capsys.readouterr().err
    assert main(["offer", "--device", "cuda:9"]) == 2
    assert "there is no device cuda:9" in capsys.readouterr().err


@pytest.mark.slow
def test_a_preset_for_several_gpus_takes_all_that_there_are(world: World, tmp_path: Path) -> None:
    """Of a machine with eight GPUs, known by its description; what a checkpoint needs is planned as for any."""
    for name in ("tiny-8gpu", "tiny-1gpu"):
        for ending in ("", ".yaml"):  # settings are read by path, the title by name
            shutil.copy(PRESETS / "tiny-cpu.yaml", tmp_path / f"{name}{ending}")

    def checked(name: str, gpus: int) -> PresetPreflight:
        device = preflight._Device("cuda:0" if gpus else "cpu", "H100", 80e9, 79e9, gpus)
        checker = preflight._PresetChecker(world.database, "bundled", device, busy=False, deadline=0.0)
        return checker.check(str(tmp_path / name), 100, 20)

    several, one = checked("tiny-8gpu", 8), checked("tiny-1gpu", 8)
    assert (several.why_not, several.device, one.why_not, one.device) == (None, "cuda:0-7", None, "cuda:0")
    assert several.seconds_per_step["dual-rl"] < one.seconds_per_step["dual-rl"]
    lonely = checked("tiny-8gpu", 1)
    assert lonely.why_not == "made for several GPUs, and this machine shows one"
    assert lonely.elsewhere
    assert checked("tiny-8gpu", 0).why_not == "needs a CUDA GPU, and this machine shows none"
    assert not presets(world)["qwen3-vl-8b-8gpu"].elsewhere
