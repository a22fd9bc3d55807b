"""What an import loads. `lint-imports` (see pyproject.toml) checks which imports are allowed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

# Package -> what none of its modules may load, directly or through others.
NEVER_LOADED = {
    "storage": ("torch", "transformers", "gradio", "app", "trainer"),
    "descore": ("gradio", "sqlalchemy", "alembic", "app", "storage", "trainer"),
}


def modules_of(package: str) -> list[str]:
    """Dotted names of all modules of a package, at every depth."""
    paths = (ROOT / package).rglob("*.py")
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    # Scripts that run something when they are imported.
    return sorted(name for name in names if not name.endswith(("__main__", "migrations.env")) and ".versions." not in name)


@pytest.mark.slow
@pytest.mark.parametrize("package", NEVER_LOADED)
def test_no_module_of_a_package_loads_what_it_must_not(package: str) -> None:
    modules = modules_of(package)
    assert len(modules) > 20
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print([name for name in {NEVER_LOADED[package]!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
