"""A run's folder as other processes see it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storage import StorageError
from storage.training.run_folder import (
    LockHeldError,
    RunLock,
    device_holder,
    device_lock,
    disk_bytes,
    is_held,
    read_metrics,
    read_samples,
    tail,
)
from tests.helpers.paths import ROOT

HOLD = """
import subprocess, sys, time
from pathlib import Path
from storage.training.run_folder import RunLock, device_lock
with RunLock(Path(sys.argv[1])), device_lock(Path(sys.argv[2]), "cuda", run_id=7):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_lock_ends_with_its_process_however_that_ended(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "7"
    assert not is_held(folder)
    command = [sys.executable, "-c", HOLD, str(folder), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        assert is_held(folder)
        with pytest.raises(LockHeldError, match=f"run 7 is in use by process {process.pid}") as caught, RunLock(folder):
            pass
        assert caught.value.holder["pid"] == process.pid
        for device in ("cuda", "cuda:0"):
            holder = device_holder(tmp_path, device)
            assert holder is not None
            assert (holder["run"], holder["pid"]) == (7, process.pid)
            with pytest.raises(LockHeldError, match="the device cuda"), device_lock(tmp_path, device):
                pass
        assert device_holder(tmp_path, "cpu") is None
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        # What it started lives on, and holds nothing.
        os.kill(child, 0)
        assert not is_held(folder)
        assert device_holder(tmp_path, "cuda") is None
    finally:
        process.kill()
        process.wait()
        os.kill(child, signal.SIGKILL)
    with RunLock(folder), device_lock(tmp_path, "cuda:0"):
        assert is_held(folder)
    assert not is_held(folder)


def test_somebody_who_looks_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    folder, stop = tmp_path / "7", threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_held(folder)

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(20):
            with RunLock(folder):
                assert is_held(folder)
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "7")
    with pytest.raises(KeyError), lock:
        raise KeyError("on the way")
    with lock:
        assert is_held(tmp_path / "7")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError), RunLock(tmp_path / "file" / "7"):
        pass


def test_whole_lines_only_are_read_of_what_is_being_written(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == [] == read_samples(tmp_path)
    rows = [{"step": 0, "loss": 0.7}, {"step": 1, "loss": None}]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "metrics.jsonl").write_text("\n".join([lines[0], "[1]", lines[1], '{"step": 2, "lo']))
    assert read_metrics(tmp_path) == rows
    sample = {"pair_id": 3, "stage": "dual-rl", "when": "before", "thought_a": "a", "thought_b": "ü", "rewards": [0.1, 0.2]}
    (tmp_path / "samples.jsonl").write_text(json.dumps(sample, ensure_ascii=False) + '\n{"pair', "utf-8")
    assert read_samples(tmp_path) == [sample]


def test_the_end_of_a_log_is_short_and_readable(tmp_path: Path) -> None:
    assert tail(tmp_path) == ""
    lines = [f"line {number} — done" for number in range(1000)]
    log = tmp_path / "log.txt"
    log.write_text("\n".join(lines) + "\n", "utf-8")
    assert tail(tmp_path, 100_000).splitlines() == lines
    for size in range(90, 110):
        found = tail(tmp_path, size).splitlines()
        assert found == lines[-len(found) :]
        assert 3 <= len(found) <= 6
    bar = "".join(f"\rdual-rl: {percent}%" for percent in range(100))
    log.write_bytes(f"begun{bar}\r\nsaved\n".encode() + b"\xff\n\rdual-rl: 1%\rdual-rl: 2%")
    assert tail(tmp_path) == "dual-rl: 99%\nsaved\n\ufffd\ndual-rl: 2%"


@pytest.mark.slow
def test_the_size_of_a_folder_that_changes_meanwhile(tmp_path: Path) -> None:
    assert disk_bytes(tmp_path / "none") == 0
    for number in range(3):
        place = tmp_path / "run" / str(number)
        place.mkdir(parents=True)
        (place / "weights").write_bytes(b"w" * 1000)
    (tmp_path / "run" / "LATEST").symlink_to("0")
    assert disk_bytes(tmp_path / "run") == 3000
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            (tmp_path / "run" / "partial").write_bytes(b"w")
            (tmp_path / "run" / "partial").unlink()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(2000):
            assert disk_bytes(tmp_path / "run") >= 3000
    finally:
        stop.set()
        thread.join()
