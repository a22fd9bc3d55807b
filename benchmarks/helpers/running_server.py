"""`descore serve` as people start it, in a process of its own, for measurements and tests of whole processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.helpers.running_app import ROOT, free_port

_READY_SECONDS = 600.0  # vLLM compiles before it answers


class RunningServer:
    """One server on one port, for the length of a block.

    Args:
        log: file that its output goes to.
        options: of `descore serve`, besides its port.
    """

    def __init__(self, log: Path, *options: str, python: str = sys.executable) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._command = [python, "-m", "descore", "serve", "--port", str(self.port), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended, or does not answer in time; with the end of its log.
        """
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"the server did not start:\n{self.said()[-3000:]}")
            time.sleep(0.2)

    @property
    def pid(self) -> int:
        """Id of the process."""
        assert self._process is not None
        return self._process.pid

    def said(self) -> str:
        """Return what it has written."""
        return self.log.read_text("utf-8", errors="replace")

    def terminate(self) -> None:
        """SIGTERM, as a container is stopped; it finishes what it began."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def end(self, seconds: float = 120.0) -> int:
        """SIGTERM, and SIGKILL where it does not end by that; returns the exit code."""
        assert self._process is not None
        self.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
