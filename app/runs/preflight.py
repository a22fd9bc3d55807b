"""What this machine can train, and how long it takes, as `python -m trainer preflight` says it.

    preflights = Preflights(database)
    preflights.ask("bundled", 400, 100)   # a Preflight, or None while it is being measured; ask again

Measuring takes seconds (the trainer has to be loaded, perhaps a step to be tried), so it is done in the background, in a
process of its own, and kept for the checkpoint and about that many pairs.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time

from app.runs.places.run_processes import PROJECT
from app.serving.zero_gpu import environment_of_children
from storage import Database
from storage.training.preflight import Preflight

log = logging.getLogger(__name__)

LONGEST_SECONDS = 300.0
# How long an answer is good for; some of it may have been left for later.
WHOLE_SECONDS, PARTIAL_SECONDS = 600.0, 20.0


class Preflights:
    """Asks the trainer, one question at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[str, int, int], tuple[float, Preflight]] = {}
        self._latest: Preflight | None = None
        self._busy = threading.Lock()

    def ask(self, checkpoint: str, pairs: int, held_out: int) -> Preflight | None:
        """Return the preflight of a checkpoint; while it is being measured, the latest one or None.

        Args:
            checkpoint: as `--checkpoint` takes it.
            pairs, held_out: pairs to train on and to compare with.
        """
        wanted = (checkpoint, about(pairs), about(held_out))
        until, known = self._known.get(wanted, (0.0, self._latest))
        if time.monotonic() >= until and self._busy.acquire(blocking=False):
            threading.Thread(target=self._find_out, args=wanted, name="preflight", daemon=True).start()
        return known

    def forget(self) -> None:
        """Ask again next time: a run has shown how long things take."""
        self._known.clear()

    def _find_out(self, checkpoint: str, pairs: int, held_out: int) -> None:
        try:
            found = self._latest = self._run(checkpoint, pairs, held_out)
        except Exception as error:
            log.exception("the trainer's preflight failed")
            found = Preflight(trouble=f"The trainer can't say what it could do: {error}")
        finally:
            self._busy.release()
        kept = WHOLE_SECONDS if found.is_whole else PARTIAL_SECONDS
        self._known[checkpoint, pairs, held_out] = time.monotonic() + kept, found

    def _run(self, checkpoint: str, pairs: int, held_out: int) -> Preflight:
        counts = ["--pairs", str(pairs), "--held-out", str(held_out)]
        command = [sys.executable, "-m", "trainer", "preflight", "--checkpoint", checkpoint, *counts, "--json"]
        environment = {**environment_of_children(), "DESCORE_HOME": str(self._database.home)}
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            return Preflight(trouble=f"The trainer can't say what it could do: {said}")
        return Preflight.from_dict(json.loads(done.stdout))


def about(pairs: int) -> int:
    """Round a number of pairs, so that one more label asks no new question."""
    step: int = 10 ** max(1, len(str(max(pairs, 1))) - 1)
    return max(step, round(pairs / step) * step)
