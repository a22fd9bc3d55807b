"""A run packed, trained where there is no store, taken back and compared; and what is refused on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from peft import LoraConfig

from descore.checkpoints.folder import folder_fingerprint, load_checkpoint, read_manifest
from descore.judge import DeScore
from descore.modeling.lora import adapter_config, add_adapter
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from storage import StorageError
from storage.training.model_registry import Checkpoint, get_checkpoint, kept_location, register_checkpoint, usable_location
from storage.training.pack_folder import PackError, check_files, read_pack, read_result, summaries, write_pack, write_result
from storage.training.run_folder import RunLock, read_metrics, read_samples
from storage.training.runs import Run, finish, get_run, mark_running, request_cancel
from tests.helpers.paths import ROOT
from tests.helpers.store_world import World, make_world
from tests.helpers.tiny import tiny_backbone, tiny_processor
from trainer.config import load_preset
from trainer.data.run_pairs import read_pairs
from trainer.engine.trainable import lora_targets
from trainer.packs.pack import pack_run
from trainer.packs.run_pack import run_pack
from trainer.packs.unpack import unpack
from trainer.runs.store_run import run_from_store

pytestmark = pytest.mark.training

METRICS = {"test": {"accuracy_without_ties": 0.5}}  # a checkpoint of ShapeWorld: the comparison has a benchmark


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    made = make_world(tmp_path / "home", pairs=30, metrics=METRICS)
    made.label(24)
    yield made
    made.database.close()


def train_without_a_store(folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m trainer run FOLDER` with a data folder that can't be made: who asks for a store fails."""
    nowhere = folder.parent / "no-folder"
    nowhere.touch()
    environment = {**os.environ, "DESCORE_HOME": str(nowhere / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trainer", "run", str(folder)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_packed_run_comes_back_as_if_it_had_been_trained_here(world: World, tmp_path: Path) -> None:
    run = world.ask(benchmark_pairs=2)
    packed = tmp_path / "run-1"
    pack_run(world.database, run.id, packed)
    away = world.run(run.id)
    assert (away.state, away.place, away.job, away.progress["stage"]) == ("running", "elsewhere", str(packed), "elsewhere")
    with pytest.raises(StorageError, match="is packed for another machine"):
        run_from_store(run.id)

    # On the other machine: another path, no store, no videos but those of the pack.
    there = tmp_path / "elsewhere" / "any name"
    shutil.copytree(packed, there)
    shutil.rmtree(packed)
    done = train_without_a_store(there)
    assert done.returncode == 0, done.stderr
    assert not list((there / "run").glob("*/checkpoints"))

    assert unpack(world.database, there) == 0
    ended = world.run(run.id)
    assert (ended.state, ended.exit_code, ended.place) == ("finished", 0, "elsewhere")
    assert ended.candidate_id is not None
    with world.database.read() as session:
        made = get_checkpoint(session, ended.candidate_id)
    folder = Path(usable_location(made, world.home))
    manifest = read_manifest(folder)
    assert folder == world.home / "checkpoints" / f"run-{run.id}"
    assert folder_fingerprint(folder) == made.fingerprint
    assert manifest.lineage["run"] == run.id
    assert manifest.lineage["config"]["model"]["checkpoint"] == usable_location(world.base, world.home)
    assert made.gate is not None
    assert made.gate["pairs"] == ended.counts["held_out"] > 0
    assert made.gate["benchmark"]["pairs"] == 2

    # Curves, samples and log are here; the pairs were judged there, and only compared here.
    for stage, steps in (("cold-start", 3), ("dual-rl", 2)):
        assert len(read_metrics(world.folder(run) / stage)) == steps
    assert {sample["pair_id"] for sample in read_samples(world.folder(run))} <= set(world.team.pairs)
    assert "taken back" not in (world.folder(run) / "log.txt").read_text()
    assert "checking" in (world.folder(run) / "log.txt").read_text()
    judged = {path.name for path in (world.folder(run) / "gate").iterdir()}
    assert judged == {f"{made.fingerprint[:16]}.jsonl", f"{world.base.fingerprint[:16]}.jsonl"}
    assert {path.read_bytes() for path in (there / "run" / "gate").glob("*.jsonl")} == {
        path.read_bytes() for path in (world.folder(run) / "gate").glob("*.jsonl")
    }
    assert not (world.home / "training-cache" / "shapes-test").exists()
    with pytest.raises(PackError, match="has its result already"):
        unpack(world.database, there)


def test_a_pack_holds_what_is_needed_and_nothing_of_people_or_paths(world: World, tmp_path: Path) -> None:
    run, folder = world.ask(), tmp_path / "pack"
    pack = pack_run(world.database, run.id, folder)
    check_files(folder, pack.files)
    assert {path.name for path in folder.iterdir()} == {"README.md", "clips", "config.yaml", "pack.json", "parent", "run"}
    assert len((folder / "README.md").read_text("utf-8").splitlines()) == 2
    assert folder_fingerprint(folder / "parent") == world.base.fingerprint == pack.parent.fingerprint
    assert pack.rival == pack.parent
    config = load_preset(folder / "config.yaml")
    assert (config.model.checkpoint, config.data.campaigns, config.cold_start.steps) == ("parent", (), 3)
    pairs = read_pairs(folder / "run")
    assert pairs is not None
    assert len(pairs.train) + len(pairs.held_out) == 24
    videos = [video for pair in (*pairs.train, *pairs.held_out) for video in pair.videos]
    assert all(video.resolve().is_relative_to(folder) and video.is_file() for video in videos)
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml", ".md") and "parent" not in path.parts:
            text = path.read_text("utf-8")
            for private in (str(tmp_path), str(Path.home()), "annotator", "week 12", '"0.mp4'):
                assert private not in text, (path.name, private)


def test_packing_again_finds_the_pack_and_another_run_is_refused(world: World, tmp_path: Path) -> None:
    run, other = world.ask(), world.ask()
    pack = pack_run(world.database, run.id, tmp_path / "pack")
    with world.database.write() as session:
        finish(session, request_cancel(session, run.id).id, "cancelled", None, "cancelled")
    assert pack_run(world.database, run.id, tmp_path / "pack") == pack
    assert world.run(run.id).state == "running"
    with pytest.raises(PackError, match=f"the pack of another run \\({run.id}\\)"):
        pack_run(world.database, other.id, tmp_path / "pack")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(PackError, match="is no pack"):
        pack_run(world.database, other.id, tmp_path / "full")
    assert world.run(other.id).state == "queued"
    with RunLock(world.folder(other)), pytest.raises(StorageError, match="in use by process"):
        pack_run(world.database, other.id, tmp_path / "second")
    with pytest.raises(PackError, match="only a training"):
        pack_run(world.database, world.ask_to_score().id, tmp_path / "third")


def test_a_video_that_has_changed_is_not_packed(world: World, tmp_path: Path) -> None:
    run = world.ask()
    clip = next((world.home / "videos").rglob("*.mp4"))
    clip.write_bytes(clip.read_bytes()[:-1])
    with pytest.raises(PackError, match="is not the one that was stored"):
        pack_run(world.database, run.id, tmp_path / "pack")
    assert list(tmp_path.glob(".pack*")) == []
    assert not (tmp_path / "pack").exists()


# `python -m trainer run FOLDER`, which kills itself after the line of a step is in the log.
DYING = """
import os, signal, sys
from trainer.__main__ import main
from trainer.engine.metrics_log import RunLog

write = RunLog.write

def write_and_die(self, step, figures):
    write(self, step, figures)
    if step == 2:
        os.kill(os.getpid(), signal.{signal})

RunLog.write = write_and_die
sys.exit(main(["run", sys.argv[1]]))
"""


@pytest.mark.endurance  # three processes that load torch
def test_a_pack_goes_on_after_a_stop_and_a_kill_and_at_another_path(world: World, tmp_path: Path) -> None:
    run, folder = world.ask("cold_start.steps=5", stages=("cold-start",), benchmark_pairs=0), tmp_path / "pack"
    pack_run(world.database, run.id, folder)
    for name, code in (("SIGTERM", 143), ("SIGKILL", -signal.SIGKILL)):
        command = [sys.executable, "-c", DYING.format(signal=name), str(folder)]
        assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == code
        with pytest.raises(PackError, match=r"is not finished: it is at \d+ of \d+ in cold-start"):
            unpack(world.database, folder)
        assert "is not finished" in world.run(run.id).progress["refused"]
        if name == "SIGTERM":  # once more from the beginning, to be killed in the same step
            shutil.rmtree(folder / "run" / "cold-start")
    folder.rename(tmp_path / "moved")
    assert run_pack(tmp_path / "moved") == 0
    assert [row["step"] for row in read_metrics(tmp_path / "moved" / "run" / "cold-start")] == [0, 1, 2, 3, 4]
    assert unpack(world.database, tmp_path / "moved") == 0
    assert world.run(run.id).state == "finished"


@pytest.fixture
def finished(world: World, tmp_path: Path) -> tuple[Run, Path]:
    """A pack with the smallest result, as far as the checks of taking back are concerned: that of one trained step."""
    run, folder = world.ask("cold_start.steps=1", stages=("cold-start",), benchmark_pairs=0), tmp_path / "pack"
    pack_run(world.database, run.id, folder)
    assert run_pack(folder) == 0
    return run, folder


def test_a_damaged_or_foreign_pack_is_refused_and_the_run_stays_away(
    world: World, finished: tuple[Run, Path], tmp_path: Path
) -> None:
    run, folder = finished
    pack = read_pack(folder)

    def refused(copy: Path, sentence: str) -> None:
        with pytest.raises(PackError, match=sentence):
            unpack(world.database, copy)
        now = world.run(run.id)
        assert (now.state, now.progress["stage"]) == ("running", "elsewhere")
        assert not (world.folder(run) / "cold-start").exists()

    def copied(name: str) -> Path:
        return Path(shutil.copytree(folder, tmp_path / name))

    metrics = copied("changed") / "run" / "cold-start" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().replace(b"loss", b"lost", 1))
    refused(tmp_path / "changed", "metrics.jsonl is not the file that was written")
    (copied("short") / "run" / "cold-start" / "checkpoint" / "scoring.safetensors").unlink()
    refused(tmp_path / "short", "scoring.safetensors is missing")
    (copied("begun") / "result.json").unlink()
    refused(tmp_path / "begun", "is not finished")
    (copied("cut") / "result.json").write_text('{"format": 1, "ke')
    refused(tmp_path / "cut", "result.json can't be read")
    (copied("torn") / "pack.json").write_text("[]")
    refused(tmp_path / "torn", "pack.json can't be read")
    refused(tmp_path, "is no pack")
    write_pack(copied("foreign"), replace(pack, key="0" * 64))
    refused(tmp_path / "foreign", "a run of another store")
    write_pack(copied("unknown"), replace(pack, run=77))
    refused(tmp_path / "unknown", r"a run of another store \(there it is run 77\)")
    write_result(copied("mixed"), replace(pack, key="0" * 64), read_result(folder, pack) or {})
    refused(tmp_path / "mixed", "the result of another run")

    # A list of files that leads out of the pack, and one that brings more than a result.
    outside = tmp_path / "secret.txt"
    outside.write_text("secret")
    leading = copied("leading")
    files = {**(read_result(folder, pack) or {}), "../secret.txt": {"bytes": 6, "sha256": ""}}
    write_result(leading, pack, files)
    refused(leading, "result.json can't be read")
    linked = copied("linked") / "run" / "samples.jsonl"
    linked.unlink(missing_ok=True)
    linked.symlink_to(outside)
    sums = summaries(tmp_path / "linked", [linked])
    write_result(tmp_path / "linked", pack, {**(read_result(folder, pack) or {}), **sums})
    refused(tmp_path / "linked", "samples.jsonl is missing")

    more = copied("more")
    (more / "cache" / "descore.db").write_text("no store")
    (more / "run" / "lock.d").mkdir()
    (more / "run" / "lock.d" / "x").write_text("no lock")
    extra = summaries(more, [more / "cache" / "descore.db", more / "run" / "lock.d" / "x"])
    write_result(more, pack, {**(read_result(folder, pack) or {}), **extra})
    before = (world.home / "descore.db").read_bytes()[:16]
    assert unpack(world.database, more) == 0
    assert (world.home / "descore.db").read_bytes()[:16] == before
    assert not (world.folder(run) / "lock.d").exists()
    assert world.run(run.id).state == "finished"


def test_a_damaged_pack_is_not_trained(world: World, tmp_path: Path) -> None:
    run, folder = world.ask(), tmp_path / "pack"
    pack_run(world.database, run.id, folder)
    clip = next((folder / "clips").iterdir())
    clip.write_bytes(clip.read_bytes() + b" ")
    done = train_without_a_store(folder)
    assert done.returncode == 2
    assert f"{clip.name} is not the file that was written" in done.stderr
    assert not (folder / "run" / "cold-start").exists()


def test_a_cancelled_run_may_still_bring_its_result(world: World, finished: tuple[Run, Path]) -> None:
    run, folder = finished
    with world.database.write() as session:
        request_cancel(session, run.id)
        finish(session, run.id, "cancelled", None, "cancelled")
    assert unpack(world.database, folder) == 0
    assert world.run(run.id).state == "finished"


def registered(world: World, folder: Path) -> Checkpoint:
    """Register a checkpoint, and let runs start from it and be compared with it."""
    with world.database.write() as session:
        location, fingerprint = kept_location(folder, world.home), folder_fingerprint(folder)
        world.base = register_checkpoint(session, name=folder.name, location=location, fingerprint=fingerprint)
    return world.base


def bare_backbone(folder: Path) -> Path:
    """A backbone without anything of ours, as people have it in a folder."""
    tiny_backbone(1).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


LORA = "model.lora={r: 4, alpha: 8}"


@pytest.mark.endurance  # a process that loads torch
def test_an_adapter_on_a_folder_of_this_machine_travels_with_its_base(world: World, tmp_path: Path) -> None:
    bare = bare_backbone(world.home / "bare")
    model, manifest = load_checkpoint(bare)
    add_adapter(model.backbone, LoraConfig(r=4, lora_alpha=8, target_modules=lora_targets(model.backbone)))
    judge = DeScore(
        DeScoreModel(model.backbone, model.processor, ScoringModule(64)), replace(manifest, max_thought_tokens=8)
    )
    registered(world, judge.save_pretrained(world.home / "adapted"))
    run, folder = world.ask(LORA, "cold_start.steps=1", stages=("cold-start",)), tmp_path / "pack"
    pack_run(world.database, run.id, folder)
    moved = folder.rename(tmp_path / "moved")
    (world.home / "bare").rename(world.home / "away")  # what is trained is the copy in the pack
    assert run_pack(moved) == 0
    (world.home / "away").rename(world.home / "bare")
    assert unpack(world.database, moved) == 0, world.run(run.id).message
    shutil.rmtree(moved)
    candidate = world.run(run.id).candidate_id
    assert candidate is not None
    with world.database.read() as session:
        made = get_checkpoint(session, candidate)
    assert made.gate is not None
    assert made.gate["pairs"] > 0
    found, trained = load_checkpoint(usable_location(made, world.home))
    assert trained.base_model is not None
    assert trained.base_model.source == str(bare)
    assert adapter_config(found.backbone) is not None


def test_a_bare_backbone_is_packed_as_it_is(world: World, tmp_path: Path) -> None:
    registered(world, bare_backbone(world.home / "bare"))
    run = world.ask(LORA, stages=("cold-start",))
    pack = pack_run(world.database, run.id, tmp_path / "pack")
    model, manifest = load_checkpoint(pack.parent.location(tmp_path / "pack"))
    assert model.scoring is None
    assert manifest.base_model is not None
    assert manifest.base_model.source == str(tmp_path / "pack" / "parent")


def test_only_a_run_that_waits_or_is_over_is_packed(world: World, tmp_path: Path) -> None:
    run = world.ask()
    with world.database.write() as session:
        mark_running(session, run.id, 1, "here")
    pack_run(world.database, run.id, tmp_path / "pack")  # nobody holds its lock: its process is gone
    with world.database.read() as session:
        assert get_run(session, run.id).place == "elsewhere"
