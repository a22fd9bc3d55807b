"""The GPU report in its smallest form, on a CPU: its parts run, its file is resumed, and without a GPU it says so."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

from benchmarks import gpu_report
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.gpu.random_models import NAMES, Lengths, long_rows, processor_of, renewed, wide_tokenizer
from benchmarks.gpu.run_part import outcome_of
from benchmarks.gpu.setting import Setting, needs_vllm
from trainer.planning.layer_costs import backbone_config

if TYPE_CHECKING:
    import argparse

BY_NAME = {part.name: part for part in PARTS}
CHEAP = ("quick", "score-table", "cold-start", "qwen3-vl-2b-judge", "qwen3-vl-8b-cold-start")
BOTH = ("--device", "cpu", "--smallest", "--repeats", "1")


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    yield Setting(torch.device("cpu"), smallest=True, repeats=1, folder=tmp_path)
    for state in (AcceleratorState, PartialState):  # of an accelerator, for the tests that follow
        state._reset_state()


@pytest.mark.training
@pytest.mark.parametrize("name", CHEAP)
def test_a_part_gives_figures_with_dtype_and_repeats(name: str, setting: Setting) -> None:
    outcome = outcome_of(BY_NAME[name], setting)
    assert outcome["status"] == "done", outcome
    figures = json.loads(json.dumps(outcome["figures"]))
    assert figures["dtype"]
    seconds = list(values(figures, "seconds"))
    assert seconds
    assert all(0 < each < math.inf for each in seconds)
    assert len(seconds) == len(list(values(figures, "repeats")))
    if name.startswith("qwen3"):
        assert list(values(figures, "seconds_over_planned")), "beside what the planning says"


def values(figures: Any, name: str) -> Iterator[Any]:
    """All values of that name, however deep."""
    for key, value in figures.items():
        if key == name:
            yield value
        elif isinstance(value, dict):
            yield from values(value, name)


@pytest.mark.slow
def test_random_models_have_qwens_ids_and_rows_of_the_asked_length() -> None:
    tokenizer = wide_tokenizer()
    config = backbone_config(NAMES["qwen3-vl-8b"])
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    tokens = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    assert tokenizer.convert_tokens_to_ids(list(tokens)) == [getattr(config, name) for name in names]
    assert tokenizer.eos_token_id == config.text_config.eos_token_id
    assert len(tokenizer) <= config.text_config.vocab_size
    lengths = Lengths(prompt=2000, thought=1000, frames=16, side=448)
    (row,) = long_rows(processor_of(config, lengths), [3], lengths)
    assert len(row["input_ids"]) == 2000
    assert int((row["input_ids"] == config.video_token_id).sum()) == 8 * 14 * 14
    one, other = (renewed(row, tokenizer, seed) for seed in (1, 2))
    for new, old in ((one, row), (other, row), (one, other)):
        assert len(new["input_ids"]) == 2000
        assert int((new["input_ids"] != old["input_ids"]).sum()) > 300, "other words"
        assert not new["pixel_values_videos"].equal(old["pixel_values_videos"]), "another video"
    text = tokenizer.decode(one["input_ids"])
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == one["input_ids"].tolist()


def test_without_a_gpu_it_says_so_lists_the_parts_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mock.patch.object(torch.cuda, "is_available", return_value=False):
        assert gpu_report.main(["--out", str(tmp_path / "report.json")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "This machine has no GPU that PyTorch can use, so no part of the GPU report was run:"
    assert [line.split()[0] for line in said[1:]] == [part.name for part in PARTS]
    assert not list(tmp_path.iterdir())


def test_the_list_has_every_part_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_report.main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(BY_NAME)
    assert len(BY_NAME) == len(PARTS)


@contextmanager
def in_this_process(setting: Setting) -> Iterator[list[str]]:
    """Measure the parts here and not in processes of their own; the names of those that were measured."""
    measured: list[str] = []

    def measure(part: Part, _: argparse.Namespace) -> dict[str, Any]:
        measured.append(part.name)
        return {**outcome_of(part, setting), "part_seconds": 0.0}

    with mock.patch.object(gpu_report, "measure", measure):
        yield measured


def test_a_part_that_fails_is_recorded_the_others_go_on_and_only_it_is_done_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    works = [False]

    def sometimes(_: Setting) -> dict[str, Any]:
        if not works[0]:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return {"seconds": 1.0}

    def left_out(_: Setting) -> dict[str, Any]:
        with mock.patch("importlib.util.find_spec", return_value=None):
            needs_vllm()
        return {}

    parts = (Part("a", "fails", sometimes), Part("b", "works", lambda _: {"seconds": 2.0}), Part("c", "lacks", left_out))
    monkeypatch.setattr(gpu_report, "PARTS", parts)
    out = setting.folder / "new" / "report.json"
    with in_this_process(setting) as measured:
        assert gpu_report.main(["--out", str(out), *BOTH]) == 1
        records = json.loads(out.read_text("utf-8"))["parts"]
        assert [records[name]["status"] for name in "abc"] == ["failed", "done", "left out"]
        assert "illegal memory access" in records["a"]["reason"]
        assert "vLLM is not installed" in records["c"]["reason"]
        assert records["b"]["figures"] == {"seconds": 2.0}
        assert records["b"]["machine"]["torch"] == importlib.metadata.version("torch")
        works[0] = True
        assert gpu_report.main(["--out", str(out), *BOTH]) == 0
        assert measured == ["a", "b", "c", "a", "c"], "what is done is not done again"
        assert gpu_report.main(["--out", str(out), *BOTH, "--only", "b", "--again"]) == 0
        assert gpu_report.main(["--out", str(out), "--device", "cpu", "--smallest", "--repeats", "2", "--only", "b"]) == 0
    assert measured[5:] == ["b", "b"], "by --again, and for another number of repeats"
    assert list(json.loads(out.read_text("utf-8"))["parts"]) == ["a", "b", "c"]
    assert "failed: a" in capsys.readouterr().out


def test_another_version_of_the_code_measures_again(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_report, "PARTS", (Part("a", "works", lambda _: {"seconds": 1.0}),))
    out = setting.folder / "report.json"
    with in_this_process(setting) as measured:
        assert gpu_report.main(["--out", str(out), *BOTH]) == 0
        monkeypatch.setattr(gpu_report, "measured_code", lambda: "sources-other")
        assert gpu_report.main(["--out", str(out), *BOTH]) == 0
    assert measured == ["a", "a"]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"version": 7}')
    with pytest.raises(SystemExit, match="no report of this version"):
        gpu_report.main(["--out", str(tmp_path / "report.json"), *BOTH])
    assert (tmp_path / "report.json").read_text() == '{"version": 7}'


@pytest.mark.endurance
def test_the_whole_report_runs_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert gpu_report.main(["--out", str(out), *BOTH]) == 0
    records = json.loads(out.read_text("utf-8"))["parts"]
    assert list(records) == list(BY_NAME)
    for name, record in records.items():
        assert record["status"] == ("left out" if "vllm" in name and "reason" in record else "done"), record
    figures = records["out-of-memory"]["figures"]
    assert figures["out_of_memory"] > 0
    assert figures["largest_difference_of_weights"] < 0.01 * figures["largest_update"]
    assert records["judge"]["figures"]["same_thoughts_as_a_cpu"] == "2 of 2"
