"""The documents of the repository: their blocks of code, their links, and a folder to run them in.

A block is fenced and names its language. Blocks of `sh` and `python` are run unless a comment before them says otherwise:

    <!-- test: endurance -->               takes long: run by `make endurance`; `make test` looks its options up
    <!-- test: app -->                     talks to an app at 127.0.0.1:7860: run against README's, on another port
    <!-- test: server -->                  its last line serves until it is stopped: started, asked once, stopped in the end
    <!-- test: options only, REASON -->    can't be run here: each option is looked up in the command's help
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = ("sh", "python")
OTHERS = ("text", "csv", "json", "yaml", "diff")
MODES = ("", "app", "endurance", "server", "options only")
_MARK = re.compile(r"<!-- test: (app|endurance|server|options only, \S.*) -->")
_FENCE = re.compile(r"```(\S*)$")
_INDENTED = re.compile(r" {4,}\S")
_LIST = re.compile(r"\s*([-*]|\d+\.) ")
_SERVER_SECONDS = 180
_APP = "http://127.0.0.1:7860"  # as documents name it
# Programs one after the other, each with names of its own: torch and transformers, which take most of the time of a short
# program, are imported once.
_PROGRAMS = """
import json, sys
for place, text in json.loads(sys.argv.pop()):
    print(f"-- {place}", flush=True)
    exec(compile(text, place, "exec", dont_inherit=True), {"__name__": "__main__"})
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document.

    Attributes:
        document: the file's path from the root.
        line: of the opening fence, from 1.
        language: what the fence names.
        text: the lines between the fences.
        mode: one of MODES.
        reason: why a block of mode "options only" can't be run.
    """

    document: str
    line: int
    language: str
    text: str
    mode: str
    reason: str = ""

    @property
    def place(self) -> str:
        """Document and line, as an editor opens them."""
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """README, CONTRIBUTING and everything in docs/; the README comes first, since its blocks make files for the others."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a document, in order.

    Raises:
        ValueError: a block has no known language, is indented in the place of fenced, or has a mark that nobody knows.
    """
    name = path.relative_to(ROOT).as_posix()
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    opened: tuple[int, str] | None = None
    mark = ""
    previous = ""
    for number, line in enumerate(lines, start=1):
        fence = _FENCE.match(line)
        if opened is not None:
            if line.strip() == "```":
                found.append(_block(name, opened, lines[opened[0] : number - 1], mark))
                opened, mark = None, ""
            continue
        if fence:
            if fence[1] not in RUN + OTHERS:
                raise ValueError(f"{name}:{number}: a block names one of {', '.join(RUN + OTHERS)}, not {fence[1]!r}")
            opened = (number, fence[1])
        elif line.startswith("<!-- test:"):
            if not _MARK.fullmatch(line):
                raise ValueError(f"{name}:{number}: unknown mark {line}")
            mark = line
        elif _INDENTED.match(line) and not previous and not in_list(lines, number):
            raise ValueError(f"{name}:{number}: put this block between fences and name its language")
        previous = line.strip()
    return found


def in_list(lines: list[str], number: int) -> bool:
    """Whether the line continues an item of a list."""
    before = [line for line in lines[: number - 1] if line and not line.startswith(" ")]
    return bool(before) and bool(_LIST.match(before[-1]))


def _block(document: str, opened: tuple[int, str], lines: list[str], mark: str) -> Block:
    mode, _, reason = (_MARK.fullmatch(mark) or [""] * 2)[1].partition(", ")
    return Block(document, opened[0], opened[1], "\n".join(lines) + "\n", mode, reason)


class Checkout:
    """A folder that looks like a fresh checkout with its environment set up, with a store of its own.

    Code is linked and not copied, so what blocks write stays in the folder.
    """

    LINKS = ("app", "app.py", "benchmarks", "descore", "docs", "storage", "tests", "trainer", "pyproject.toml")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: set[Block] = set()
        self._running = ExitStack()
        self._addresses: dict[Block, str] = {}
        for name in self.LINKS:
            (folder / name).symlink_to(ROOT / name)
        scripts = folder / ".venv" / "bin"
        scripts.mkdir(parents=True)
        (scripts / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (scripts / "python").chmod(0o755)
        for tool in ("accelerate", "torchrun"):
            (scripts / tool).symlink_to(Path(sys.executable).with_name(tool))
        (scripts / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
        self.environment = {
            **os.environ,
            "DESCORE_HOME": str(folder / "home"),
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        self.environment.pop("DATABASE_URL", None)

    def run(self, block: Block, timeout: float) -> None:
        """Run a block in the way that its mode says; one that ran before is not run again.

        Raises:
            AssertionError: it failed; the text says what it printed.
        """
        if block in self.done:
            return
        if block.mode == "options only":
            check_options(block)
        elif block.mode == "server":
            self._address(block)
        else:
            text = block.text
            if block.mode == "app":
                text = text.replace(_APP, self._address(readme_server()))
            self._finish([*self._interpreter(block.language), text], block.place, timeout)
        self.done.add(block)

    def run_programs(self, programs: Sequence[Block], timeout: float) -> None:
        """Run blocks of Python one after the other in one process; those that ran before are not run again.

        Raises:
            AssertionError: one failed; the text names it and says what it printed.
        """
        todo = [block for block in programs if block not in self.done]
        if not todo:
            return
        given = json.dumps([(block.place, block.text) for block in todo])
        self._finish([*self._interpreter("python"), _PROGRAMS, given], todo[0].place, timeout)
        self.done.update(todo)

    def close(self) -> None:
        """Stop what still runs."""
        self._running.close()

    def _address(self, server: Block) -> str:
        """The address of what a block serves until `close`, started by the first who asks."""
        if server not in self._addresses:
            self._addresses[server] = self._running.enter_context(self._serving(server.text, server.place))
        return self._addresses[server]

    def _interpreter(self, language: str) -> list[str]:
        python, shell = [str(self.folder / ".venv" / "bin" / "python"), "-c"], ["bash", "-euo", "pipefail", "-c"]
        return python if language == "python" else shell

    def _finish(self, command: list[str], place: str, timeout: float) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{place} ends with exit code {done.returncode}\n{done.stdout}\n{done.stderr}"

    @contextmanager
    def _serving(self, command: str, place: str) -> Iterator[str]:
        """Start a command that serves, and stop it after the block.

        Raises:
            AssertionError: it does not answer.
        """
        port = free_port()
        url, log = f"http://127.0.0.1:{port}", self.folder / f"server-{port}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=self.folder,
                env={**self.environment, "GRADIO_SERVER_PORT": str(port)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            assert answers(url, process, _SERVER_SECONDS), f"{place} does not serve\n{log.read_text()}"
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def readme_server() -> Block:
    """README's block that serves the app."""
    return next(block for block in blocks(ROOT / "README.md") if block.mode == "server")


def answers(url: str, process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether a server answers before the time is up; False at once when its process has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return bool(response.status == 200)
        except OSError:
            time.sleep(0.5)
    return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def check_options(block: Block) -> None:
    """Look every option of a block's commands up in the help of its verb, or its target in the Makefile.

    Raises:
        AssertionError: a module, verb, option or target is not there.
    """
    checked = 0
    for line in block.text.replace("\\\n", " ").splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["make"]:
            made = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
            assert made.returncode == 0, f"{block.place}: {line.strip()}\n{made.stderr}"
            checked += 1
        elif "-m" in words or "app.py" in words:
            start = words.index("-m") + 1 if "-m" in words else words.index("app.py")
            _check_command(words[start], words[start + 1 :], block)
            checked += 1
    assert checked, f"{block.place}: there is no command in it to check"


def _check_command(module: str, words: list[str], block: Block) -> None:
    verb = words[0] if words and re.fullmatch(r"[a-z][a-z-]*", words[0]) else ""
    known = set(re.findall(r"--[a-z][a-z-]*", help_of(module, verb)))
    unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    assert not unknown, f"{block.place}: {module} {verb} does not know {', '.join(unknown)}"


@cache
def help_of(module: str, verb: str) -> str:
    """What a command says of its options.

    Raises:
        AssertionError: there is no such module or verb.
    """
    target = [module] if module == "app.py" else ["-m", module]
    words = [*target, *([verb] if verb else []), "--help"]
    shown = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, f"{module} {verb} has no help\n{shown.stderr}"
    return shown.stdout
