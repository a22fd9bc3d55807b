"""The app as a Hugging Face Space starts it, on its CPU and under ZeroGPU's emulation, by each interpreter that is named.

SPACE_PYTHONS names interpreters with a Space's packages, separated by colons; by default it is the one of the tests.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from descore import DeScore
from descore.checkpoints.folder import copy_checkpoint, folder_fingerprint
from storage import open_database
from storage.training.model_registry import promote, register_checkpoint
from tests.helpers.paths import ROOT
from tests.helpers.waiting import wait_until
from tests.helpers.zero_gpu_server import zero_gpu_server

pytestmark = [pytest.mark.slow, pytest.mark.endurance]

PYTHONS = (os.environ.get("SPACE_PYTHONS") or sys.executable).split(":")
GALLERY, PAIR = ROOT / "app" / "gallery", "pair-01"
BUNDLED_FOLDER = ROOT / "descore" / "bundled"
SPACE = {"SPACE_ID": "somebody/descore", "SPACE_HOST": "somebody-descore.hf.space"}


@contextmanager
def space(home: Path, command: Sequence[str], **settings: str) -> Iterator[str]:
    """Start the app with a Space's settings and nothing else; gives its address."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    environment = {**kept, **SPACE, "DESCORE_HOME": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **settings}
    log = home.with_suffix(".log")
    with log.open("wb") as output:
        program = subprocess.Popen([*command, "--port", "0"], cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:

        def address() -> str | None:
            assert program.poll() is None, log.read_text("utf-8", "replace")
            found = re.search(r"Running on local URL: +(\S+)", log.read_text("utf-8", "replace"))
            return found and found[1]

        wait_until(lambda: address() is not None, "the app's address")
        yield str(address())
    finally:
        program.terminate()
        program.wait()


def judged(client: Client, mode: str) -> dict[str, Any]:
    """What the app's endpoint says of a bundled pair."""
    result: dict[str, Any] = client.predict(PAIR, mode, 2, api_name="/judge_bundled")
    return result


def rewards(result: Mapping[str, Any]) -> list[float]:
    """Both rewards of a judgement."""
    return [video["reward"] for video in result["videos"]]


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    """An interpreter with the packages of a Space."""
    return str(request.param)


@pytest.fixture(scope="module")
def pair() -> tuple[list[Path], str]:
    """The videos and the prompt of the bundled pair."""
    entry = next(entry for entry in json.loads((GALLERY / "pairs.json").read_text("utf-8")) if entry["id"] == PAIR)
    return [GALLERY / entry["a"], GALLERY / entry["b"]], entry["prompt"]


def test_it_starts_on_a_cpu(python: str, tmp_path: Path, pair: tuple[list[Path], str]) -> None:
    with space(tmp_path / "home", [python, "app.py"]) as url:
        client = Client(url, verbose=False)
        found = {mode: rewards(judged(client, mode)) for mode in ("think", "quick")}
    judge = DeScore.from_pretrained("bundled")
    for mode in ("think", "quick"):
        assert found[mode] == pytest.approx([video.reward for video in judge.judge(*pair, mode=mode).videos], abs=1e-3)


def test_it_judges_on_gpus_that_zero_gpu_lends(python: str, tmp_path: Path, pair: tuple[list[Path], str]) -> None:
    """The process that serves the pages never calls the model; another one does, for a time that was asked for."""
    program, home = [python, "-m", "tests.helpers.zero_gpu_program"], tmp_path / "home"
    modes = ("quick", "think", "k")
    with zero_gpu_server() as gpus, space(home, program, **gpus.environment) as url:
        client = Client(url, verbose=False)
        gpus.has_gpu = False
        with pytest.raises(AppError, match="ZeroGPU lent no GPU for this judgement: No GPU was available"):
            judged(client, "quick")
        gpus.has_gpu = True
        found = {mode: rewards(judged(client, mode)) for mode in modes}
        assert (gpus.started, gpus.released) == (1, [False] * 3)
        _, quick, think, several = gpus.seconds
        assert quick < think == several <= 60

        # Promoted after the start, by a thread: it stays on the CPU, and a process forked before does not know it.
        better = copy_checkpoint(BUNDLED_FOLDER, home / "checkpoints" / "better", "better", {})
        with closing(open_database(home=home)) as database, database.write() as session:
            fingerprint = folder_fingerprint(better)
            known = register_checkpoint(session, name="better", location=str(better), fingerprint=fingerprint)
            promote(session, known.id, "promote")
        wait_until(lambda: httpx.get(f"{url}/serving").json()["name"] == "better", "the promotion")
        promoted = judged(client, "quick")
        assert promoted["checkpoint"] == "better"
    judge = DeScore.from_pretrained("bundled", dtype="bfloat16")
    for mode in modes:
        assert found[mode] == pytest.approx([video.reward for video in judge.judge(*pair, mode=mode, k=2).videos], abs=0.05)
    assert rewards(promoted) == pytest.approx(found["quick"], abs=0.05)
