"""Examples in module docstrings run as they are written, each in a world of its own (tests/helpers/example_world)."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.docstring_examples import CODE, Example, needs
from tests.helpers.example_world import Stock, world_of

# Not run, only looked up by the type check next door, and why.
NOT_RUN = {
    "app.runs.supervisor": "starts trainings in processes of their own, which outlive the example",
    "app.studio": "serves until somebody stops it",
    "benchmarks.gpu.planned": "needs the settings of a part of the report; tests/benchmarks/test_gpu_report.py runs parts",
    "benchmarks.gpu.random_models": "makes gigabytes of random weights; the report's tests make miniatures",
    "benchmarks.helpers.taste_clients": "labels through the endpoints of a served campaign; retrain_loop does it",
    "descore.checkpoints.hub": "needs the Hub; its tests push to a small one of their own",
    "descore.engines.vllm_engine": "needs vLLM: make test-vllm",
    "descore.engines.vllm_prompts": "needs an answer of vLLM: make test-vllm",
    "descore.engines.vllm_scheduler": "needs vLLM: make test-vllm",
    "descore.familiarity": "needs the features of many reference videos; tests/descore/test_familiarity.py makes some",
    "descore.reference_videos": "needs a folder that may change; tests/trainer/evaluation/test_held_out_scale.py",
}
# A served app, a training run, or a trainer that has to start first: only in `make endurance`.
LONG = {
    "app.judge.api",
    "app.judge.endpoints",
    "app.runs.preflight",
    "app.train.page_state",
    "benchmarks.helpers.running_app",
    "trainer.planning.trial_step",
    "trainer.python_api",
    "trainer.runs.store_run",
    "trainer.shapeworld.evaluate",
}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return Stock(tmp_path_factory.mktemp("stock"))


def marked(example: Example) -> Any:
    """The example with its mark."""
    mark = pytest.mark.endurance if example.module in LONG else pytest.mark.slow
    return pytest.param(example, id=example.module, marks=mark)


@pytest.mark.parametrize("example", [marked(example) for example in CODE if example.module not in NOT_RUN])
def test_an_example_runs(example: Example, stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        world = world_of(example.module, stock, tmp_path, stack)
        monkeypatch.chdir(world.here)
        monkeypatch.setenv("DESCORE_HOME", str(world.home))
        names: dict[str, Any] = {"__name__": "example", "Path": Path}
        for name, home in needs(example).items():
            names[name] = getattr(importlib.import_module(home), name) if home else world.given(name)
        exec(compile(example.text, f"<docstring of {example.module}>", "exec"), names)


def test_what_is_named_here_has_an_example() -> None:
    assert {*NOT_RUN, *LONG} <= {example.module for example in CODE}
