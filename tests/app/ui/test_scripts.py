"""The scripts of `app/static` fit together: what is imported is there, what is exported is used, every one can be parsed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import gradio as gr
import pytest

from app.ui.assets import BASE_SHEETS, COMPONENT_SHEETS, PAGE_SHEETS, STATIC, mount_script
from tests.helpers.paths import ROOT

MODULES = sorted(STATIC.rglob("*.js"))
IMPORT = re.compile(r'^import \{([^}]*)\} from "([^"]+)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:function|class|const) (\w+)", re.MULTILINE)
MOUNTED = re.compile(r'mount_script\("([^"]+)"')


class Import(NamedTuple):
    """A name that a module imports, and the module that should export it."""

    importer: Path
    name: str
    module: Path


def imports_of(path: Path) -> list[Import]:
    """The names that a module imports."""
    return [
        Import(path, name.strip(), (path.parent / address).resolve())
        for names, address in IMPORT.findall(path.read_text("utf-8"))
        for name in names.split(",")
    ]


def exports_of(path: Path) -> set[str]:
    """The names that a module exports."""
    return set(EXPORT.findall(path.read_text("utf-8")))


def named(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_imports_are_there_and_used(path: Path) -> None:
    text = path.read_text("utf-8")
    # Every import is one that the pattern reads; nothing is exported or imported in another way.
    assert len(re.findall(r"^import\b", text, re.MULTILINE)) == len(IMPORT.findall(text))
    assert len(re.findall(r"^export\b", text, re.MULTILINE)) == len(EXPORT.findall(text))
    body = IMPORT.sub("", text)
    for found in imports_of(path):
        assert found.module in MODULES, found
        assert found.name in exports_of(found.module), found
        assert re.search(rf"\b{found.name}\b", body), found


def test_every_exported_name_is_used() -> None:
    imported = {(found.module, found.name) for path in MODULES for found in imports_of(path)}
    python = "\n".join(path.read_text("utf-8") for path in (ROOT / "app").rglob("*.py"))
    mounted = {(STATIC / name, "mount") for name in MOUNTED.findall(python)}
    report = (STATIC / "analyse" / "report.html").read_text("utf-8")
    in_report = {(STATIC / "analyse" / "figures.js", name) for name in re.findall(r"(\w+)\(\)", report)}
    exported = {(path, name) for path in MODULES for name in exports_of(path)}
    assert exported == imported | mounted | in_report


def test_imports_are_no_circle() -> None:
    left = {path: {found.module for found in imports_of(path)} for path in MODULES}
    while free := [path for path, needs in left.items() if not needs & left.keys()]:
        for path in free:
            del left[path]
    assert not left


def test_no_page_imports_another_pages_scripts() -> None:
    for path in MODULES:
        page = path.parent.name
        assert {found.module.parent.name for found in imports_of(path)} <= {page, "shared"}, path


def test_the_script_inside_the_report_stands_alone() -> None:
    assert not imports_of(STATIC / "analyse" / "figures.js")


def test_every_style_sheet_is_in_the_list() -> None:
    sheets = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.css") if path.parent.name != "plain"}
    assert sheets == {*BASE_SHEETS, *COMPONENT_SHEETS, *PAGE_SHEETS}


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("path", MODULES, ids=named)
def test_every_script_can_be_parsed(path: Path) -> None:
    command = ["node", "--input-type=module", "--check"]
    run = subprocess.run(command, input=path.read_text("utf-8"), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_component_mounts_its_module_with_its_options() -> None:
    script = mount_script("train/page.js", plotly="./plotly-1.js")
    assert re.search(r'new URL\("\./scripts-[0-9a-f]{12}/train/page\.js", document\.baseURI\)', script)
    assert json.dumps({"plotly": "./plotly-1.js"}) in script


def test_gradio_finds_the_events_of_a_module() -> None:
    component = gr.HTML("", js_on_load=mount_script("judge/vote.js", ["vote"]))
    assert callable(component.vote)
    with pytest.raises(AttributeError):
        getattr(component, "select_another")  # noqa: B009
