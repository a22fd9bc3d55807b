"""Imports point one way: app and trainer use descore and storage, never the other way round or each other."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

# Package -> what none of its modules may import, and the exceptions from that.
FORBIDDEN = {
    "descore": {"app", "trainer", "storage", "gradio", "sqlalchemy", "alembic"},
    "storage": {"app", "trainer", "descore", "gradio", "torch", "transformers"},
    "trainer": {"app", "gradio"},
    "app": {"trainer", "torch", "sqlalchemy", "alembic"},
}
ALLOWED = {"storage": {"descore.answer"}}


def imported(source: str, package: str) -> set[str]:
    """Dotted names that a module imports, wherever in it, `from x import y` as both x.y and x.

    Args:
        package: the dotted name of the package that the module lies in, for relative imports.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            names |= {text for text in texts if isinstance(text, str)}
    return names


def called(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def violations(names: set[str], package: str) -> set[str]:
    """The imports that the package must not make."""
    allowed = ALLOWED.get(package, set())
    return {
        name
        for name in names
        if name.split(".")[0] in FORBIDDEN[package] and not any(name == one or name.startswith(one + ".") for one in allowed)
    }


@pytest.mark.parametrize("package", FORBIDDEN)
def test_the_arrows_hold(package: str) -> None:
    wrong = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        inside = ".".join(path.relative_to(ROOT).parent.parts)
        found = violations(imported(path.read_text(encoding="utf-8"), inside), package)
        if found:
            wrong[str(path.relative_to(ROOT))] = found
    assert not wrong


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("descore", "import gradio as gr"),
        ("descore", "def f():\n    from sqlalchemy.orm import Session"),
        ("descore", "from storage import votes"),
        ("storage", "import torch.nn"),
        ("storage", "from descore import judge"),
        ("storage", "from descore.judge import DeScore"),
        ("storage", "import importlib\nimportlib.import_module('gradio')"),
        ("trainer", "from app.studio import build"),
        ("app", "if True:\n    import torch"),
        ("app", "from trainer import shapes"),
    ],
)
def test_a_wrong_arrow_is_seen(package: str, source: str) -> None:
    assert violations(imported(source, package), package)


def test_right_arrows_are_left_alone() -> None:
    assert not violations(imported("from descore.answer import DIMENSIONS", "storage"), "storage")
    assert not violations(imported("from . import answer\nfrom .video import probe", "descore"), "descore")
    assert not violations(imported("from .. import studio\nimport descore, storage", "app.pages"), "app")


def test_the_store_loads_neither_model_nor_page() -> None:
    modules = [f"storage.{path.stem}" for path in (ROOT / "storage").glob("*.py") if path.stem != "__init__"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print([x for x in ('torch', 'transformers', 'gradio', 'app', 'trainer') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
