"""The measurement of a public app in miniature, so that it keeps running."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.helpers.running_app import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.endurance]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has so many addresses for one machine")
def test_no_honest_judgement_fails_beside_hostile_visitors() -> None:
    small = ["--minutes", "0.5", "--visitors", "12", "--annotators", "6", "--hostile", "5", "--pause", "6", "--pairs", "200"]
    command = [sys.executable, "-m", "benchmarks.public_load", *small]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    for half in (figures["quiet"], figures["with_hostile"]):
        assert half["judgements"] > 0
        assert not half["failed"]
        assert not half["other_failures"]
        assert not half["label_errors"]
    assert figures["tracebacks_in_log"] == 0
    hostile = figures["with_hostile"]["hostile"]
    assert {"long prompts", "pixel bombs", "half uploads", "leaving", "many at once"} == set(hostile)
    assert hostile["half uploads"]["refused"]
