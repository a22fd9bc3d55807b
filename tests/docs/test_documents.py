"""README and docs: every block runs as written and in order, every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from tests.helpers.documents import Block, Checkout, blocks, check_options, documents
from tests.helpers.paths import ROOT

SECONDS = 1800  # only so that a block that hangs ends; on a quiet machine each takes a few
LONG_SECONDS = 3600
DOCUMENTS = documents()
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
README_LINES = 110
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"`(?:\.venv/bin/)?python -m ([a-z_.0-9]+)")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout in which the README's first block of commands has made the files that all documents work on."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"))
    first = next(block for block in blocks(ROOT / "README.md") if block.mode == "" and block.language == "sh")
    checkout.run(first, SECONDS)
    yield checkout
    checkout.close()


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_blocks_run_as_written(checkout: Checkout, path: Path) -> None:
    runnable = [block for block in blocks(path) if block.language in ("sh", "python") and block.mode != "endurance"]
    for are_programs, group in groupby(runnable, key=lambda block: block.language == "python" and not block.mode):
        if are_programs:
            checkout.run_programs([*group], SECONDS)
            continue
        for block in group:
            checkout.run(block, SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_long_blocks_have_options_that_are_there(path: Path) -> None:
    for block in blocks(path):
        if block.mode == "endurance" and block.language == "sh":
            check_options(block)


@pytest.mark.endurance
@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_long_blocks_run_as_written(checkout: Checkout, path: Path) -> None:
    long = [block for block in blocks(path) if block.mode == "endurance"]
    if not long:
        pytest.skip("every block of this document is run by the fast test")
    for block in blocks(path)[: blocks(path).index(long[-1]) + 1]:
        if block.language in ("sh", "python"):
            checkout.run(block, LONG_SECONDS)


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    broken = [link for link in _LINK.findall(text) if not leads_somewhere(path, link)]
    assert not broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_commands_in_sentences_name_modules(path: Path) -> None:
    named = set(_COMMAND.findall(path.read_text(encoding="utf-8")))
    missing = [name for name in named if not module_exists(name)]
    assert not missing


def test_the_readme_is_read_in_a_minute() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_every_document_stands_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    others = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert others == {link for link in _LINK.findall(index) if link.endswith(".md") and "/" not in link}


def leads_somewhere(path: Path, link: str) -> bool:
    """Whether a link's file exists and has the heading that the link names; addresses of the web are not asked."""
    if re.match(r"(https?|mailto):", link):
        return True
    file, _, anchor = link.partition("#")
    target = path.parent / file if file else path
    if not target.exists():
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def module_exists(name: str) -> bool:
    """Whether `python -m name` finds something in the repository, or among the tools of an environment."""
    if name in ("pytest", "pip", "venv"):
        return True
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.slow
def test_a_wrong_option_would_be_seen() -> None:
    wrong = Block("x.md", 1, "sh", "accelerate launch -m trainer run --presett tiny-cpu\n", "options only", "needs GPUs")
    with pytest.raises(AssertionError, match="presett"):
        check_options(wrong)


def test_a_block_without_fence_or_language_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.helpers.documents.ROOT", tmp_path)
    for text in ("Say:\n\n    python -m app\n", "```\npython -m app\n```\n", "<!-- test: later -->\n```sh\ntrue\n```\n"):
        (tmp_path / "x.md").write_text(text)
        with pytest.raises(ValueError, match=r"x\.md"):
            blocks(tmp_path / "x.md")


def test_programs_that_share_a_process_share_no_names(tmp_path: Path) -> None:
    programs = [Block("x.md", line, "python", text, "") for line, text in ((1, "made = 1\n"), (5, "print(made)\n"))]
    with pytest.raises(AssertionError, match=r"(?s)-- x\.md:5.*NameError: name 'made'"):
        Checkout(tmp_path).run_programs(programs, SECONDS)
