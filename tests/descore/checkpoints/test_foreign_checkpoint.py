"""Checkpoints of people who mean harm: nothing of theirs runs or asks on the console, each is refused in a sentence."""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from descore.checkpoints.folder import MANIFEST_FILE, load_checkpoint, read_manifest
from descore.errors import CheckpointError
from descore.modeling.lora import load_adapter
from tests.helpers.tiny import tiny_backbone, tiny_judge, tiny_processor
from trainer.planning.layer_costs import backbone_config


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    tiny_backbone().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge().save_pretrained(tmp_path_factory.mktemp("saved") / "tiny")


@pytest.fixture
def folder(backbone: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(backbone, tmp_path / "foreign"))


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked on the console; every question is answered with yes."""
    asked: list[str] = []

    def answer(question: object = "") -> str:
        asked.append(str(question))
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    return asked


def set_in(file: str, **values: Any) -> Callable[[Path], None]:
    """Set keys of a JSON file."""

    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def write(file: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text(content) and None


def as_pickle(folder: Path) -> None:
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def with_code(key: str, model_type: str = "evil") -> Callable[[Path], None]:
    """Name code of the folder's own, which leaves a trace where it runs."""

    def change(folder: Path) -> None:
        (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: ...\n")
        set_in("config.json", model_type=model_type, auto_map={key: "evil.Evil"})(folder)

    return change


def with_a_head(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "rm_head.weight": torch.ones(1, 64)}, folder / "model.safetensors", {"format": "pt"})


DEEP = "[" * 100_000 + "]" * 100_000
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickled weights": (as_pickle, "pytorch_model.bin is a pickle"),
    "code for a configuration": (with_code("AutoConfig"), "never run"),
    "code for a model": (with_code("AutoModelForImageTextToText"), "never run"),
    "weights that nothing uses": (with_a_head, r"no place for \(rm_head.weight\).*descore import"),
    "no model_type": (set_in("config.json", model_type=None), "model_type"),
    "model_type of another kind": (set_in("config.json", model_type=["qwen3_vl"]), "model_type"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no safetensors weights"),
    "weights elsewhere": (
        write("model.safetensors.index.json", '{"weight_map": {"a": "../../secret.safetensors"}}'),
        "no safetensors file of this folder",
    ),
    "pickles by an index": (write("model.safetensors.index.json", '{"weight_map": {"a": "a.bin"}}'), "no safetensors file"),
    "deep configuration": (write("config.json", DEEP), "nested too deep"),
    "deep tokenizer": (write("tokenizer.json", DEEP), "nested too deep"),
    "deep tokenizer settings": (write("tokenizer_config.json", '{"a": ' + DEEP + "}"), "nested too deep"),
    "huge configuration": (write("config.json", '{"a": "' + "x" * (17 << 20) + '"}'), "more than 16 MB"),
    "configuration that is a list": (write("config.json", "[]"), "not a JSON object"),
    "broken configuration": (write("config.json", "{"), "can't be read"),
    "settings of other kinds": (set_in("config.json", text_config="x", vision_config=3), "could be loaded"),
    "numbers as text": (set_in("config.json", text_config={"hidden_size": "many"}), "could be loaded"),
    "tokenizer of nothing": (write("tokenizer.json", "{}"), "processor"),
    "tokenizer settings of other kinds": (
        set_in("tokenizer_config.json", added_tokens_decoder=[1]),
        "processor",
    ),
    "processor of another kind": (set_in("processor_config.json", video_processor=[]), "processor|video"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_foreign_backbone_is_refused_in_one_sentence(folder: Path, questions: list[str], name: str) -> None:
    change, reason = REFUSED[name]
    change(folder)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not questions
    assert not (folder / "ran").exists()


def test_code_beside_a_known_architecture_is_ignored(folder: Path, questions: list[str]) -> None:
    for key in ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor"):
        with_code(key, model_type="qwen3_vl")(folder)
        assert load_checkpoint(folder)[1].name == "foreign"
    assert not questions
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("key", ["AutoConfig", "AutoModelForImageTextToText"])
def test_planning_reads_a_configuration_with_the_same_care(folder: Path, questions: list[str], key: str) -> None:
    with_code(key)(folder)
    with pytest.raises(CheckpointError, match="never run"):
        backbone_config(str(folder))
    assert not questions
    assert not (folder / "ran").exists()


MANIFESTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "deep": (write(MANIFEST_FILE, DEEP), "nested too deep"),
    "huge": (write(MANIFEST_FILE, '{"a": "' + "x" * (17 << 20) + '"}'), "more than 16 MB"),
    "not text": (lambda folder: (folder / MANIFEST_FILE).write_bytes(b"\xff\xfe\x00") and None, "can't be read"),
    "pickle listed": (set_in(MANIFEST_FILE, files={"scoring.safetensors": {}, "a.pt": {}}), "missing|bytes|pickle"),
    "files as a list": (set_in(MANIFEST_FILE, files=["scoring.safetensors"]), "does not list"),
    "name": (set_in(MANIFEST_FILE, name=["x"]), "name of the manifest"),
    "tokens": (set_in(MANIFEST_FILE, max_thought_tokens=True), "max_thought_tokens of the manifest"),
    "infinite tokens": (set_in(MANIFEST_FILE, max_thought_tokens=float("inf")), "max_thought_tokens of the manifest"),
    "lineage": (set_in(MANIFEST_FILE, lineage=3), "lineage of the manifest"),
    "base model": (set_in(MANIFEST_FILE, base_model={"source": {}, "revision": 3}), "base model of the manifest"),
    "base model with more": (set_in(MANIFEST_FILE, base_model={"trust_remote_code": True}), "can't be read"),
    "frames": (set_in(MANIFEST_FILE, frame_policy=[]), "can't be read"),
    "calibration": (set_in(MANIFEST_FILE, calibration=[1]), "can't be read"),
    "prompt version": (set_in(MANIFEST_FILE, prompt_version={}), "prompt_version of the manifest"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_foreign_manifest_is_refused_in_one_sentence(checkpoint: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    change, reason = MANIFESTS[name]
    change(folder)
    with pytest.raises(CheckpointError, match=reason) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_a_manifest_lists_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    files = json.loads((folder / MANIFEST_FILE).read_text())["files"]
    torch.save({}, folder / "head.pth")
    set_in(MANIFEST_FILE, files={**files, "head.pth": {"bytes": 1}})(folder)
    with pytest.raises(CheckpointError, match=r"head\.pth is a pickle"):
        read_manifest(folder)


@pytest.mark.parametrize("content", ["{}", DEEP, '{"peft_type": "LORA", "r": "x", "target_modules": 3}'])
def test_a_foreign_adapter_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(CheckpointError, match="adapter"):
        load_adapter(tiny_backbone(), tmp_path)
    torch.save({}, tmp_path / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin is a pickle"):
        load_adapter(tiny_backbone(), tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "a\x00b", "~nobody-of-this-name/x", ""])
def test_what_is_no_name_of_a_folder_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint(name)
