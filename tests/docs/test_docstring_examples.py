"""Examples in module docstrings: the names and arguments of Python ones exist, and so do the options of commands.

An example may use names that it does not make, such as `session` or `campaign`: they stand for what the reader has.
Everything else is looked up in the project, and mypy checks the calls as it checks the code.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

from tests.helpers.docstring_examples import CODE, COMMANDS, EXAMPLES, Example, completed, is_code, looks_like_code, needs
from tests.helpers.documents import Block, check_options
from tests.helpers.paths import ROOT

# Whether a value may be None, and of what it is a list, is more than an example shows.
LENIENT = "union-attr, var-annotated, no-untyped-def, return-value"


def as_module(example: Example) -> str:
    """The example as a module: what it uses is imported, what the reader has is of any type."""
    lines = [f'# mypy: disable-error-code="{LENIENT}"', "from pathlib import Path", "from typing import Any"]
    for name, home in needs(example).items():
        lines.append(f"from {home} import {name}" if home else f"{name}: Any")
    body = textwrap.indent(completed(example.text), "    ")
    return "\n".join(lines) + "\n\n\nasync def example() -> None:\n" + body


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of each example's module, by its name."""
    folder = tmp_path_factory.mktemp("examples")
    for number, example in enumerate(CODE):
        (folder / f"example_{number}.py").write_text(as_module(example), encoding="utf-8")
    # With the options of `make types`, whose cache is then used.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        match = re.search(r"example_(\d+)\.py:\d+: error: (.*)", line)
        if match:
            found.setdefault(CODE[int(match[1])].module, []).append(match[2])
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return found


def test_what_looks_like_code_is_code() -> None:
    wrong = [f"{one.module}: {one.text}" for one in EXAMPLES if looks_like_code(one.text) and not is_code(one.text)]
    assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted({example.module for example in CODE}))
def test_an_example_uses_what_is_there(findings: dict[str, list[str]], module: str) -> None:
    assert findings.get(module, []) == []


@pytest.mark.endurance  # each command is a program that has to load its libraries first
@pytest.mark.parametrize("example", COMMANDS, ids=[example.module for example in COMMANDS])
def test_a_command_has_its_options(example: Example) -> None:
    check_options(Block(f"{example.module}'s docstring", 1, "sh", example.text, "options only"))
