"""The class names of one page stay with that page; what several pages share is named `ds-...`."""

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
