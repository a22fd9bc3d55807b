"""Push and pull, by the command, against a small Hub: one commit, pinned revisions, without a network, and refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig

from descore.checkpoints.folder import load_checkpoint, read_manifest, save_checkpoint
from descore.checkpoints.manifest import BaseModel
from descore.modeling.lora import add_adapter
from tests.helpers.hub_server import TOKEN, Hub, hub_server
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_judge

pytestmark = pytest.mark.slow  # each command is a process of its own, since the client reads its settings at import
NAME = "our-lab/tiny"
# A person's program, in a process without HF_TOKEN: the checkpoint is pushed, and opened again from the Hub.
PUSHES = """
import json, sys
from descore import CheckpointError, DeScore
folder, name, token, others = sys.argv[1:]
judge = DeScore.from_pretrained(folder, device="cpu", token=token)
said = []
for wrong in (others, None):
    try:
        judge.push_to_hub(name, token=wrong)
    except CheckpointError as error:
        said.append(str(error))
pushed = judge.push_to_hub(name, private=True, branch="trial", message="by hand", token=token)
try:
    DeScore.from_pretrained(name, revision=pushed.commit)
except CheckpointError as error:
    said.append(str(error))
again = DeScore.from_pretrained(name, revision="trial", token=token, device="cpu")
weights = [one.model.state_dict() for one in (judge, again)]
same = weights[0].keys() == weights[1].keys() and all((weights[0][key] == weights[1][key]).all() for key in weights[0])
found = {"same": bool(same), "name": again.manifest.name}
print(json.dumps({"commit": pushed.commit, "url": pushed.url, "said": said, **found}))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint."""
    return tiny_judge().save_pretrained(tmp_path_factory.mktemp("checkpoints") / "tiny")


def descore(hub: Hub, cache: Path, *arguments: object, token: str | None = "hf_of_the_tests") -> tuple[int, str, str]:
    """Run the command; its exit code, its output and its errors."""
    command = [sys.executable, "-m", "descore", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=hub.environment(cache, token), capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_pushed_is_pulled_and_a_pinned_one_stays(hub: Hub, folder: Path, tmp_path: Path) -> None:
    code, pushed, said = descore(hub, tmp_path / "cache", "push", folder, NAME, "--private")
    assert code == 0, said
    name, _, first = pushed.partition("@")
    repository = hub.repositories[NAME]
    assert (name, first, repository.private) == (NAME, repository.branches["main"], True)
    assert said.endswith(f"/{NAME}/commit/{first}")
    assert NAME in repository.commits[first]["README.md"].decode()
    assert "## Limits" in repository.commits[first]["README.md"].decode()

    # Another checkpoint in its place: nothing of the first is left, and who pinned the first still gets it.
    model, manifest = load_checkpoint(folder)
    other = save_checkpoint(tmp_path / "other", model, replace(manifest, name="the second"))
    (hub.repositories[NAME].commits[first])["backbone/of-an-earlier-format.bin"] = b"old"
    code, second, said = descore(hub, tmp_path / "cache", "push", other, NAME, "--message", "better")
    assert code == 0, said
    assert set(repository.commits[second.partition("@")[2]]) == {*files_of(other)}
    assert len(repository.commits) == 3

    code, place, said = descore(hub, tmp_path / "cache", "pull", NAME, tmp_path / "pulled", "--revision", first)
    assert code == 0, said
    kept, pulled = files_of(folder), files_of(Path(place))
    assert {name for name in kept if kept[name] != pulled[name]} == {"README.md"}
    assert read_manifest(Path(place)).name == manifest.name
    code, place, said = descore(hub, tmp_path / "cache", "pull", NAME, tmp_path / "pulled")
    assert code == 0, said
    assert read_manifest(Path(place)).name == "the second"


def run_program(hub: Hub, cache: Path, *arguments: object) -> dict[str, Any]:
    """Run `PUSHES` with arguments, the token first; what it prints."""
    command = [sys.executable, "-c", PUSHES, *map(str, arguments), TOKEN, "hf_of_somebody_else"]
    done = subprocess.run(command, cwd=ROOT, env=hub.environment(cache, None), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_python_pushes_and_opens_with_a_token_of_its_own(hub: Hub, folder: Path, tmp_path: Path) -> None:
    done = run_program(hub, tmp_path / "cache", folder, NAME)
    repository = hub.repositories[NAME]
    assert repository.private
    assert repository.branches["trial"] == done["commit"]
    assert done["url"].endswith(f"/{NAME}/commit/{done['commit']}")
    assert (done["same"], done["name"]) == (True, read_manifest(folder).name)
    refused, without, private = done["said"]
    assert "this token may not write to" in refused
    assert "needs a token" in without or "may not write to" in without
    assert f"{NAME} at {done['commit']} is no local folder and can't be fetched from the Hub" in private
    pushed, kept = repository.commits[done["commit"]], files_of(folder)
    assert pushed.keys() == kept.keys()
    weights = [name for name in kept if name.endswith(".safetensors")]
    assert [pushed[name] for name in weights] == [kept[name] for name in weights]


def test_python_opens_a_private_base_model_with_its_token_and_pushes_the_adapter_on_it(
    hub: Hub, folder: Path, tmp_path: Path
) -> None:
    code, pushed, said = descore(hub, tmp_path / "cache", "push", folder, "our-lab/base", "--private")
    assert code == 0, said
    model, manifest = load_checkpoint(folder)
    name, _, commit = pushed.partition("@")
    add_adapter(model.backbone, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted = save_checkpoint(tmp_path / "adapted", model, replace(manifest, base_model=BaseModel(name, commit)))
    done = run_program(hub, tmp_path / "fresh", adapted, NAME)
    assert done["same"]
    kept = hub.repositories[NAME].commits[done["commit"]]
    assert kept["adapter/adapter_model.safetensors"] == files_of(adapted)["adapter/adapter_model.safetensors"]
    assert not [name for name in kept if name.startswith("backbone/")]


@pytest.mark.endurance
def test_what_was_fetched_once_opens_without_a_network(hub: Hub, folder: Path, tmp_path: Path) -> None:
    _, pushed, _ = descore(hub, tmp_path / "cache", "push", folder, NAME)
    assert descore(hub, tmp_path / "cache", "pull", pushed.replace("@", "/../x"), tmp_path / "no")[0] == 2
    assert descore(hub, tmp_path / "cache", "pull", NAME, tmp_path / "one")[0] == 0
    asked = len(hub.asked)
    code, place, said = descore(hub, tmp_path / "cache", "pull", NAME, tmp_path / "two", "--offline")
    assert code == 0, said
    assert len(hub.asked) == asked
    assert files_of(Path(place)) == files_of(tmp_path / "one")
    code, _, said = descore(hub, tmp_path / "empty", "pull", NAME, tmp_path / "three", "--offline")
    assert code == 2
    assert "was not fetched before" in said
    assert not (tmp_path / "three").exists()


@pytest.mark.endurance
def test_a_branch_and_a_pin_in_the_name_of_a_checkpoint(hub: Hub, folder: Path, tmp_path: Path) -> None:
    code, pushed, said = descore(hub, tmp_path / "cache", "push", folder, NAME, "--branch", "trial")
    assert code == 0, said
    assert hub.repositories[NAME].commits[hub.repositories[NAME].branches["main"]] == {}
    missing = ["judge", "--prompt", "a square", "--checkpoint", f"{NAME}@{'1' * 40}", "no.mp4"]
    code, _, said = descore(hub, tmp_path / "cache", *missing)
    assert code == 2
    assert f"{NAME} at {'1' * 40}" in said
    found = ["judge", "--prompt", "a square", "--checkpoint", pushed, "no.mp4"]
    code, _, said = descore(hub, tmp_path / "cache", *found)
    assert code == 2
    assert "no.mp4" in said, "the checkpoint was found; the video is what is missing"


@pytest.mark.endurance
def test_refusals_are_one_sentence_and_leave_nothing(hub: Hub, folder: Path, tmp_path: Path) -> None:
    code, _, said = descore(hub, tmp_path / "cache", "push", folder, NAME, token="hf_of_somebody_else")
    assert code == 2
    assert "this token may not write to" in said
    assert not hub.repositories
    code, _, said = descore(hub, tmp_path / "cache", "push", folder, NAME, token=None)
    assert code == 2
    assert "token" in said
    hub.refused_commits = 1
    code, _, said = descore(hub, tmp_path / "cache", "push", folder, NAME)
    assert code == 2
    assert "the Hub refused our-lab/tiny" in said
    assert said.splitlines()[-1].startswith("descore: the Hub refused"), "one sentence, below the progress of the upload"
    assert hub.repositories[NAME].commits == {"0" * 40: {}}
    code, _, said = descore(hub, tmp_path / "cache", "pull", "our-lab/none", tmp_path / "none")
    assert code == 2
    assert "can't be fetched from the Hub" in said


@pytest.mark.endurance
def test_a_base_model_of_this_machine_alone_is_not_pushed(hub: Hub, folder: Path, tmp_path: Path) -> None:
    model, manifest = load_checkpoint(folder)
    base = BaseModel(str(folder.absolute()))
    local = save_checkpoint(tmp_path / "local", model, replace(manifest, base_model=base))
    code, _, said = descore(hub, tmp_path / "cache", "push", local, NAME)
    assert code == 2
    assert "a folder of this machine" in said
    assert not hub.repositories
    everybodys = save_checkpoint(tmp_path / "everybodys", model, replace(manifest, base_model=BaseModel("bundled")))
    code, _, said = descore(hub, tmp_path / "cache", "push", everybodys, NAME)
    assert code == 0, f"the bundled one comes with the program: {said}"


def test_a_damaged_checkpoint_is_not_pushed(hub: Hub, folder: Path, tmp_path: Path) -> None:
    model, manifest = load_checkpoint(folder)
    damaged = save_checkpoint(tmp_path / "damaged", model, manifest)
    listed = json.loads((damaged / "descore.json").read_text())["files"]
    (damaged / next(name for name in listed if name.endswith(".safetensors"))).write_bytes(b"torn")
    assert descore(hub, tmp_path / "cache", "push", damaged, NAME)[0] == 2
    assert not hub.repositories
