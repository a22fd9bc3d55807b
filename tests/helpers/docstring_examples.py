"""Examples in the docstrings of modules: indented blocks, and paragraphs of code where nothing else follows.

EXAMPLES    every block: code, commands, layouts of files
CODE        those that are Python
COMMANDS    those that begin with `python -m`

The formatter takes the indentation away where a docstring has an example and no sentence after it.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.helpers.paths import ROOT

PACKAGES = ("app", "benchmarks", "descore", "storage", "trainer")
_CODE = re.compile(r"(from \S+ import |import |with .+:|for .+:|class |def |@|[\w., ]+ = |[\w.]+\([^)]*|[\w.]+\[)")
_LOOKS_LIKE_CODE = re.compile(
    r"(\w+(, \w+)* = [a-z][\w.]+\(.*\)(  #.*)?$|with .+:$|for .+ in .+:$|from \S+ import |class \w+.*:$)", re.MULTILINE
)
_COMMAND = re.compile(r"(DESCORE_HOME=\S+ )?python -m ")


@dataclass(frozen=True)
class Example:
    """An example of a module's docstring.

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
    """Every example of every module."""
    for module, path in module_paths():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""
        for text in blocks(docstring):
            yield Example(module, text)


def blocks(docstring: str) -> Iterator[str]:
    """The indented blocks of a docstring, and its paragraphs of code that aren't indented."""
    block: list[str] = []
    indented = False
    for paragraph in [*docstring.strip("\n").split("\n\n")[1:], ""]:
        is_indented = paragraph.startswith("    ")
        is_example = is_indented or is_code(paragraph) or looks_like_code(paragraph)
        if block and (not is_example or is_indented != indented):
            yield from parts(textwrap.dedent("\n\n".join(block)).strip() + "\n")
            block = []
        if is_example:
            block.append(paragraph)
        indented = is_indented


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


def looks_like_code(text: str) -> bool:
    """Whether a block begins as Python does, though it may have a mistake in it."""
    return bool(_LOOKS_LIKE_CODE.match(text))


@cache
def definitions() -> dict[str, list[str]]:
    """Public top-level names -> the modules that define them."""
    found: dict[str, list[str]] = {}
    for module, path in module_paths():
        if path.name == "__main__.py":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) else []
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            for name in names:
                found.setdefault(name, []).append(module)
    return found


def needs(example: Example) -> dict[str, str | None]:
    """Names that an example uses and doesn't make -> the module to import it from; None: the reader has it."""
    tree = ast.parse(completed(example.text))
    nodes = list(ast.walk(tree))
    made = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    made |= {alias.asname or alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    made |= {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    made |= {argument.arg for node in nodes if isinstance(node, ast.arguments) for argument in node.args}
    used = {node.id for node in nodes if isinstance(node, ast.Name)} - made - set(dir(builtins))
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return {
        name: origin(name, example.module) if name in called or name[0].isupper() else None
        for name in sorted(used - {"Path", "Any"})
    }


def origin(name: str, module: str) -> str | None:
    """The module to import a name from; None where it stands for what the reader has."""
    homes = definitions().get(name, [])
    if module in homes:
        return module
    package = module.split(".")[0]
    near = [home for home in homes if home.split(".")[0] == package] or homes
    return near[0] if len(near) == 1 else None


EXAMPLES = list(examples())
CODE = [example for example in EXAMPLES if is_code(example.text)]
COMMANDS = [example for example in EXAMPLES if _COMMAND.match(example.text)]
