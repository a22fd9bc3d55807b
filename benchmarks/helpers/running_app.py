"""The app as people start it, in a process of its own, for measurements; it can be killed and started again.

with RunningApp(home, database_url=None, log=Path("app.log")) as app:
    httpx.get(app.url)
    app.kill(); app.start()
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
READY_SECONDS = 180.0


class RunningApp:
    """One app on one port. `url` stays the same over restarts.

    Args:
        options: of `python app.py`, besides its port.
    """

    def __init__(self, home: Path, database_url: str | None, log: Path, *options: str) -> None:
        self._options = options
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._environment = {**os.environ, "DESCORE_HOME": str(home), "OMP_NUM_THREADS": "1"}
        self._environment.pop("DATABASE_URL", None)
        if database_url:
            self._environment["DATABASE_URL"] = database_url
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningApp:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended, or does not answer in time; with the end of its log.
        """
        command = [sys.executable, "app.py", "--port", str(self.port), *self._options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text("utf-8", errors="replace")[-3000:]
                self.kill()
                raise RuntimeError(f"the app did not start:\n{said}")
            time.sleep(0.2)

    @property
    def pid(self) -> int:
        """Id of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, as the machine's out-of-memory killer would; for its helpers too."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._signal(signal.SIGINT)

    def terminate(self) -> None:
        """SIGTERM, as a container is stopped."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        try:
            os.killpg(process.pid, number)
            process.wait(30)
        except ProcessLookupError:
            process.wait()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/session", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
