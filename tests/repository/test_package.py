"""The wheel: what it holds, what it needs, and that it judges outside the checkout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from descore.__main__ import main
from tests.helpers.paths import ROOT

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "descore")
# What the app needs and the library must not.
NEVER_NEEDED = ("gradio", "sqlalchemy", "plotly", "alembic", "sklearn", "pyarrow", "argon2", "psycopg")
PROBE = f"import importlib.util as u, descore; print(descore.__file__, [n for n in {NEVER_NEEDED!r} if u.find_spec(n)])"


def project() -> dict[str, Any]:
    """The `[project]` table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def required_lines(*lists: list[str]) -> set[str]:
    """Requirements in one spelling, without the project's own extras."""
    requirements = [Requirement(line) for lines in lists for line in lines]
    return {str(requirement) for requirement in requirements if requirement.name != project()["name"]}


def file_lines(name: str) -> list[str]:
    """The requirements of a file, without comments and references to other files."""
    lines = (line.split(" #")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def test_requirements_files_and_package_ask_for_the_same() -> None:
    extras = project()["optional-dependencies"]
    app = required_lines(project()["dependencies"], extras["train"], extras["app"])
    # A Space installs requirements.txt, and ZeroGPU lists the versions of torch that it runs; the package takes newer ones.
    everywhere = {
        line.replace("torch<2.13,>=2.11", "torch>=2.11") for line in required_lines(file_lines("requirements.txt"))
    }
    assert everywhere == app
    assert required_lines(file_lines("requirements-dev.txt")) == required_lines(extras["dev"])


def test_one_version_stands_everywhere() -> None:
    version = project()["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that no build folder is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment outside the checkout: the wheel, and links to what it requires, directly or through others."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    pip("--python", str(folder / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel))
    (packages,) = folder.glob("lib/python*/site-packages")
    for path in top_level_paths(required_distributions(wheel)):
        if not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)
    return folder


def pip(*arguments: str) -> None:
    """Run this environment's pip, without asking any index whether a newer pip is there."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def required_distributions(wheel: Path) -> list[importlib.metadata.Distribution]:
    """The installed distributions that the wheel needs on this machine, extras left out."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    pending = [line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    distributions: dict[str, importlib.metadata.Distribution] = {}
    seen: set[str] = set()
    while pending:
        line = pending.pop()
        requirement = Requirement(line)
        if line in seen or not wanted(requirement):
            continue
        seen.add(line)
        name = canonicalize_name(requirement.name)
        distributions[name] = importlib.metadata.distribution(requirement.name)
        for nested in distributions[name].requires or []:
            extras = requirement.extras or {""}
            if any(wanted(Requirement(nested), extra) for extra in extras):
                pending.append(nested.split(";")[0].strip())
    return list(distributions.values())


def wanted(requirement: Requirement, extra: str = "") -> bool:
    """Whether a requirement holds on this machine, and it is installed where only some extra of another asks for it."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def top_level_paths(distributions: list[importlib.metadata.Distribution]) -> Iterator[Path]:
    """What the distributions put into site-packages: folders and single files, each once."""
    for distribution in distributions:
        names = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for name in sorted(names):
            yield Path(str(distribution.locate_file(name)))


def run(environment: Path, folder: Path, *command: str) -> str:
    """Run a program of the environment in another folder; returns what it prints."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DESCORE"))}
    done = subprocess.run(
        [str(environment / "bin" / command[0]), *command[1:]],
        cwd=folder,
        env={**variables, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.package
def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0].split("-")[0] for name in names} == {"descore", "descore_studio"}
    tracked = {str(path.relative_to(ROOT)) for path in (ROOT / "descore" / "bundled").rglob("*") if path.is_file()}
    assert tracked | {"descore/py.typed"} <= names


@pytest.mark.package
def test_the_installed_command_judges_a_bundled_pair(
    environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = json.loads((ROOT / "app" / "gallery" / "pairs.json").read_text(encoding="utf-8"))[0]
    videos = [str(ROOT / "app" / "gallery" / pair[side]) for side in ("a", "b")]
    arguments = ["judge", "--json", "--prompt", pair["prompt"], *videos]
    file, unneeded = run(environment, tmp_path, "python", "-c", PROBE).split(maxsplit=1)
    assert Path(file).is_relative_to(environment)
    assert unneeded == "[]\n"
    installed = json.loads(run(environment, tmp_path, "descore", *arguments))
    assert main(arguments) == 0
    checkout = json.loads(capsys.readouterr().out)
    for result in (installed, checkout):
        for video in result["videos"]:
            del video["seconds"]
    assert installed == checkout
    assert installed["verdict"] in ("A", "B", "tie")


@pytest.mark.package
def test_command_and_module_say_the_same(environment: Path, tmp_path: Path) -> None:
    assert run(environment, tmp_path, "descore", "--help") == run(environment, tmp_path, "python", "-m", "descore", "--help")
