"""The class names of one page stay with that page, shared ones are named `ds-...`, and each styled one is in use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

APP = ROOT / "app"
PAGES = ("analyse", "judge", "label", "lead", "train")
SUFFIXES = {".py", ".js", ".css", ".html"}


def files_outside(page: str) -> list[Path]:
    """Sources of the app that belong neither to the page's own folder nor to its static files."""
    own = (APP / page, APP / "static" / page)
    sources = (path for path in APP.rglob("*") if path.suffix in SUFFIXES)
    return [path for path in sources if not any(path.is_relative_to(folder) for folder in own)]


@pytest.mark.parametrize("page", PAGES)
def test_class_names_of_a_page_occur_in_its_folders_only(page: str) -> None:
    name = re.compile(rf"(?<![\w/-]){page}-[a-z][\w-]*")
    strays = {
        f"{path.relative_to(APP)}: {match}"
        for path in files_outside(page)
        for match in name.findall(path.read_text("utf-8"))
    }
    assert not strays


def test_every_class_of_a_sheet_is_used() -> None:
    sheets = "".join(path.read_text("utf-8") for path in (APP / "static").rglob("*.css"))
    selectors = re.findall(r"([^{}]+)\{", re.sub(r"/\*.*?\*/", "", sheets, flags=re.DOTALL))
    ours = re.compile(rf"\.((?:ds|{'|'.join(PAGES)})-[a-z][\w-]*)")
    styled = {name for selector in selectors for name in ours.findall(selector)}
    sources = (path for path in APP.rglob("*") if path.suffix in SUFFIXES - {".css"})
    used = set(re.findall(r"[a-z][\w-]*", "".join(path.read_text("utf-8") for path in sources)))
    assert len(styled) > 150
    assert styled <= used
