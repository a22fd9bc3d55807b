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


@pytest.mark.slow
def test_no_command_loads_torch_or_gradio_to_read_its_options() -> None:
    """They take many seconds, in which a mistake in an option would not be said."""
    code = (
        "import runpy, sys\n"
        "def shown(run, name, words):\n"
        "    sys.argv = [name, *words, '--help']\n"
        "    try: run(name, run_name='__main__')\n"
        "    except SystemExit as ended: assert ended.code == 0, words\n"
        "shown(runpy.run_path, 'app.py', [])\n"
        "for verb in ('run', 'evaluate', 'plan', 'collect-thoughts', 'preflight'):\n"
        "    shown(runpy.run_module, 'trainer', [verb])\n"
        "for verb in ('judge', 'score', 'serve', 'push', 'import'): shown(runpy.run_module, 'descore', [verb])\n"
        "import descore.checkpoints.hub\n"  # a push and a pull copy files
        "print([name for name in ('torch', 'transformers', 'gradio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
