"""Examples in module docstrings: the names and arguments of Python ones exist, and so do the options of commands.

An example may use names that it does not make, such as `session` or `campaign`: they stand for what the reader has.
Everything else is looked up in the project, and mypy checks the calls as it checks the code.
"""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.documents import Block, check_options
from tests.helpers.paths import ROOT

PACKAGES = ("app", "benchmarks", "descore", "storage", "trainer")
# Whether a value may be None, and of what it is a list, is more than an example shows.
LENIENT = "union-attr, var-annotated, no-untyped-def, return-value"
_CODE = re.compile(r"(from \S+ import |import |with .+:|for .+:|class |def |@|[\w., ]+ = |[\w.]+\([^)]*|[\w.]+\[)")
_LOOKS_LIKE_CODE = re.compile(
    r"(\w+(, \w+)* = [a-z][\w.]+\(.*\)(  #.*)?$|with .+:|for .+ in .+:|from \S+ import |class \w+.*:)"
)
_COMMAND = re.compile(r"(DESCORE_HOME=\S+ )?python -m ")


class Example(NamedTuple):
    """An indented block of a module's docstring.

    Attributes:
        module: dotted name of the module.
        text: the block, without its indentation.
    """

    module: str
    text: str


def module_paths() -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def examples() -> Iterator[Example]:
    """Every indented block of a module docstring."""
    for module, path in module_paths():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""
        block: list[str] = []
        for line in [*docstring.splitlines(), "end"]:
            if line.startswith("    ") or (not line and block):
                block.append(line)
            elif block:
                yield from (Example(module, part) for part in parts(textwrap.dedent("\n".join(block)).strip() + "\n"))
                block = []


def parts(block: str) -> list[str]:
    """The block itself, or its paragraphs, where code and the layout of files stand one after the other."""
    if is_code(block):
        return [block]
    return [paragraph.strip() + "\n" for paragraph in block.split("\n\n")]


def completed(text: str) -> str:
    """The text with a name in the place of the dots that leave arguments or entries out."""
    return re.sub(r"=\.\.\.(?=[,)])", "=left_out", re.sub(r"(?<=[ (])\.\.\.(?=[)}])", "**left_out", text))


def is_code(text: str) -> bool:
    """Whether a block is Python and not a layout of files, data or a formula."""
    try:
        ast.parse(completed(text))
    except SyntaxError:
        return False
    return bool(_CODE.match(text))


EXAMPLES = list(examples())
COMMANDS = [example for example in EXAMPLES if _COMMAND.match(example.text)]
CODE = [example for example in EXAMPLES if is_code(example.text)]


def definitions() -> dict[str, list[str]]:
    """Public top-level names -> the modules that define them."""
    found: dict[str, list[str]] = {}
    for module, path in module_paths():
        if path.name == "__main__.py":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            for name in names:
                found.setdefault(name, []).append(module)
    return found


def as_module(example: Example, known: dict[str, list[str]]) -> str:
    """The example as a module: what it uses is imported, what the reader has is of any type."""
    text = completed(example.text)
    tree = ast.parse(text)
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored |= {
        alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    stored |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    stored |= {argument.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for argument in node.args}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - stored - set(dir(builtins))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    lines = [f'# mypy: disable-error-code="{LENIENT}"', "from pathlib import Path", "from typing import Any"]
    for name in sorted(used - {"Path", "Any"}):
        home = origin(name, example.module, known) if name in called or name[0].isupper() else None
        lines.append(f"from {home} import {name}" if home else f"{name}: Any")
    return "\n".join(lines) + "\n\n\ndef example() -> None:\n" + textwrap.indent(text, "    ")


def origin(name: str, module: str, known: dict[str, list[str]]) -> str | None:
    """The module to import a name from; None where it stands for what the reader has."""
    homes = known.get(name, [])
    if module in homes:
        return module
    package = module.split(".")[0]
    near = [home for home in homes if home.split(".")[0] == package] or homes
    return near[0] if len(near) == 1 else None


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What mypy says of each example's module, by its name."""
    folder = tmp_path_factory.mktemp("examples")
    known = definitions()
    for number, example in enumerate(CODE):
        (folder / f"example_{number}.py").write_text(as_module(example, known), encoding="utf-8")
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
    wrong = [f"{one.module}: {one.text}" for one in EXAMPLES if _LOOKS_LIKE_CODE.match(one.text) and not is_code(one.text)]
    assert not wrong


@pytest.mark.parametrize("module", sorted({example.module for example in CODE}))
def test_an_example_uses_what_is_there(findings: dict[str, list[str]], module: str) -> None:
    assert findings.get(module, []) == []


@pytest.mark.training  # not in `make fast`: each command is started for its help
@pytest.mark.parametrize("example", COMMANDS, ids=[example.module for example in COMMANDS])
def test_a_command_has_its_options(example: Example) -> None:
    check_options(Block(f"{example.module}'s docstring", 1, "sh", example.text, "options only"))
