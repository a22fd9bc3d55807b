"""One judging server for each device of this machine, for the length of a block.

`descore score --devices all` hands their addresses and token to `DeScore.from_server`.
Each is a process of its own, so that no two GPUs wait for one Python. Whoever has work for them shares it out
(`descore.engines.server_engine`); they end with the block, and with this process however it ends.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from descore.engines.engine import EngineName
from descore.errors import DeviceError, EngineError

ANSWERS_AT = " answers at "  # what a server prints before its address
_END_SECONDS = 10.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class LocalServers:
    """Servers that run.

    Attributes:
        urls: their addresses.
        token: what they want to be shown.
    """

    urls: tuple[str, ...]
    token: str


def all_devices() -> list[str]:
    """Name the devices of this machine: each GPU that this process sees, or the CPU."""
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]


def parse_devices(text: str) -> list[str]:
    """Read "all", or names such as "cuda:0,cuda:2"; the CPU may be named more than once.

    Raises:
        DeviceError: this machine has no such device, or a GPU is named twice.
    """
    if text.strip() == "all":
        return all_devices()
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = all_devices()
    for name in names:
        if name != "cpu" and name not in known:
            raise DeviceError(f"this machine has no {name}; it has {', '.join(known)}")
        if name != "cpu" and names.count(name) > 1:
            raise DeviceError(f"{name} is named twice; a GPU holds one server")
    if not names:
        raise DeviceError("no device is named: say all, or names such as cuda:0,cuda:1")
    return names


@contextmanager
def local_servers(checkpoint: str, engine: EngineName, devices: Sequence[str]) -> Iterator[LocalServers]:
    """Start a server on each device, and end all of them when the block is left.

    Raises:
        EngineError: one can't start; the message is its own.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="descore-servers-")))
        token, token_file = secrets.token_urlsafe(32), folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(token, "utf-8")
        options = ["--checkpoint", checkpoint, "--engine", engine, "--token-file", str(token_file)]
        started = []
        for number, device in enumerate(devices):
            errors = stack.enter_context((folder / f"{number}.log").open("w+b"))
            started.append((stack.enter_context(_server(options, device, errors)), errors))
        yield LocalServers(tuple(_address(process, errors) for process, errors in started), token)


@contextmanager
def _server(options: Sequence[str], device: str, errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "descore", "serve", "--port", "0", "--end-with-input", *options]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=os.environ | _sees(device)
    )
    try:
        yield process
    finally:
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()  # of the first it notices that nobody waits for it any more
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _sees(device: str) -> dict[str, str]:
    """Let a process see one device alone: as a setting, so that every engine keeps to it."""
    if device == "cpu":
        return {_VISIBLE: ""}
    index = int(device.removeprefix("cuda:"))
    visible = os.environ.get(_VISIBLE)
    return {_VISIBLE: str(index) if visible is None else visible.split(",")[index].strip()}


def _address(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    """Wait for the line in which a server names its address."""
    assert process.stdout is not None
    for line in process.stdout:
        _, found, address = line.decode("utf-8", "replace").rstrip().rpartition(ANSWERS_AT)
        if found:
            return address
    code = process.wait()
    errors.seek(0)
    said = errors.read().decode("utf-8", "replace").strip().splitlines() or [f"it ended with exit code {code}"]
    raise EngineError(f"a server on this machine could not start: {said[-1].removeprefix('descore: ')}")
