"""What the repository promises: it is a Space as it stands, runs on Python 3.10 to 3.12, stays readable."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tests.helpers.paths import ROOT

MOST_MODULES = 20
OTHERS = {"__pycache__", "node_modules", "build", "dist", "venv"}
# Folders of a user's or a machine's own, wherever they are named.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root|work|workspace|mnt|private)/[\w.-]+")


def files(*suffixes: str) -> list[Path]:
    """The project's files of these suffixes, without what tools keep in folders of theirs."""
    tops = [top for top in ROOT.iterdir() if not top.name.startswith(".") and top.name not in OTHERS]
    tops += [ROOT / ".ci"]
    found = [path for top in tops for path in (top, *top.rglob("*")) if path.suffix in suffixes]
    return sorted(p for p in found if p.is_file() and not OTHERS.intersection(p.relative_to(ROOT).parts))


def front_matter() -> dict[str, Any]:
    """The YAML between the two rules on top of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert match, "README.md must begin with the front matter of a Space"
    data = yaml.safe_load(match[1])
    assert isinstance(data, dict)
    return data


def requirements(name: str) -> dict[str, list[Requirement]]:
    """Package -> its lines, without comments and references to other files."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        line = line.split(" #")[0].strip()
        if line and not line.startswith(("#", "-")):
            requirement = Requirement(line)
            found.setdefault(requirement.name.lower(), []).append(requirement)
    return found


def test_the_readme_makes_the_repository_a_space() -> None:
    data = front_matter()
    assert data["sdk"] == "gradio"
    assert (ROOT / data["app_file"]).is_file()
    assert str(data["python_version"]) in {"3.10", "3.11", "3.12"}
    assert data["license"]
    assert 0 < len(data["short_description"]) <= 60


def test_the_space_runs_a_gradio_that_the_requirements_allow() -> None:
    version = Version(str(front_matter()["sdk_version"]))
    (gradio,) = requirements("requirements.txt")["gradio"]
    assert gradio.specifier.contains(version)


def test_the_space_runs_a_torch_that_zero_gpu_lists() -> None:
    (torch,) = requirements("requirements.txt")["torch"]
    listed, others = ("2.11.0", "2.12.1"), ("2.13.1", "2.14.0", "2.15.0", "3.0")
    assert [version for version in listed + others if torch.specifier.contains(version)] == list(listed)
    assert str(front_matter()["python_version"]) in {"3.10", "3.12"}


def test_the_app_requires_what_it_is_built_on() -> None:
    found = requirements("requirements.txt")
    wanted = {
        "gradio",
        "torch",
        "torchvision",
        "transformers",
        "accelerate",
        "peft",
        "plotly",
        "sqlalchemy",
        "alembic",
    }
    assert wanted | {"huggingface-hub", "decord", "decord2", "av"} <= set(found)
    assert all(one.specifier for lines in found.values() for one in lines), "every package needs a lower bound"
    assert not found["transformers"][0].specifier.contains("5.9.9")
    requirements("requirements-dev.txt")


@pytest.mark.parametrize(
    ("machine", "system", "expected"),
    [("x86_64", "linux", "decord"), ("aarch64", "linux", "decord2"), ("arm64", "darwin", "decord2")],
)
def test_each_machine_gets_one_reader_of_the_two(machine: str, system: str, expected: str) -> None:
    found = requirements("requirements.txt")
    names = {"linux": "Linux", "darwin": "Darwin"}
    place = {"platform_machine": machine, "sys_platform": system, "platform_system": names[system]}
    lines = [*found["decord"], *found["decord2"]]
    assert [one.name for one in lines if one.marker is None or one.marker.evaluate(place)] == [expected]


@pytest.mark.slow
def test_python_files_are_valid_from_3_10_on() -> None:
    for path in files(".py"):
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


def test_no_folder_has_more_modules_than_one_can_survey() -> None:
    tops = ("app", "benchmarks", "descore", "storage", "trainer")
    counts = Counter(path.parent for path in files(".py") if path.relative_to(ROOT).parts[0] in tops)
    assert len(counts) > 30
    crowded = {str(folder.relative_to(ROOT)): count for folder, count in counts.items() if count > MOST_MODULES}
    assert not crowded


def test_no_file_names_a_folder_of_this_machine() -> None:
    found = {}
    for path in files(".py", ".js", ".css", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".sh", ""):
        if path == Path(__file__):
            continue
        hits = MACHINE_PATH.findall(path.read_text(encoding="utf-8", errors="replace"))
        if hits:
            found[str(path.relative_to(ROOT))] = hits
    assert not found


def test_a_machine_path_would_be_seen() -> None:
    assert MACHINE_PATH.search('open("/home/me/x.mp4")')
    assert MACHINE_PATH.search("see /Users/me/notes")
    assert not MACHINE_PATH.search("https://example.com/home/page and ./work/file and tests/home/x")
