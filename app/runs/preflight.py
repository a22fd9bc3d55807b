"""What this machine can train, and how long it takes, as `python -m trainer preflight` says it.

    offers = Offers(database)
    offers.ask("bundled", 400, 100)   # an Offer, or None while it is being found out; ask again

Finding out takes seconds (the trainer has to be loaded, perhaps a step to be tried), so it is done in the background, in a
process of its own, and kept for the checkpoint and about that many pairs.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.runs.supervisor import PROJECT
from storage import Database

log = logging.getLogger(__name__)

LONGEST_SECONDS = 300.0
# How long an answer is good for; some of it may have been left for later.
WHOLE_SECONDS, PARTIAL_SECONDS = 600.0, 20.0


@dataclass(frozen=True)
class Preset:
    """A preset on this machine.

    title: one sentence. why_not: what it lacks here, "" if it can run. knobs: setting -> value. memory_bytes: what a run
    takes, None where not known; steps_aside: it fits only without the serving model. seconds: by stage and "gate", for
    these knobs; seconds_per_step: by stage; both without what is not known yet. known_from: "runs", "trial", "plan" or "".
    """

    name: str
    title: str
    why_not: str
    stages: tuple[str, ...]
    knobs: Mapping[str, float]
    memory_bytes: float | None
    steps_aside: bool
    seconds: Mapping[str, float]
    seconds_per_step: Mapping[str, float]
    known_from: str


@dataclass(frozen=True)
class Offer:
    """What can be trained here. free_bytes: of the device's memory. trouble: why nothing is known, "" if all went well."""

    device: str = ""
    device_name: str = ""
    free_bytes: float = 0.0
    presets: tuple[Preset, ...] = ()
    trouble: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the time of everything that can run is known; a trainer that is in a hurry leaves some for later."""
        return not self.trouble and all(one.seconds for one in self.presets if not one.why_not)

    def preset(self, name: str) -> Preset | None:
        """A preset by its name."""
        return next((one for one in self.presets if one.name == name), None)

    @property
    def first(self) -> Preset | None:
        """The preset to begin with: the first that can run here."""
        return next((one for one in self.presets if not one.why_not), None)


class Offers:
    """Asks the trainer, one question at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[tuple[str, int, int], tuple[float, Offer]] = {}
        self._latest: Offer | None = None
        self._busy = threading.Lock()

    def ask(self, checkpoint: str, pairs: int, held_out: int) -> Offer | None:
        """The offer for a checkpoint (what `--checkpoint` takes) and about so many pairs to train on and to compare with;
        the latest one, or None, while the right one is being found out.
        """
        wanted = (checkpoint, about(pairs), about(held_out))
        until, known = self._known.get(wanted, (0.0, self._latest))
        if time.monotonic() >= until and self._busy.acquire(blocking=False):
            threading.Thread(target=self._find_out, args=wanted, name="offer", daemon=True).start()
        return known

    def forget(self) -> None:
        """Ask anew: a run has shown how long things take."""
        self._known.clear()

    def _find_out(self, checkpoint: str, pairs: int, held_out: int) -> None:
        try:
            found = self._latest = self._run(checkpoint, pairs, held_out)
        except Exception as error:
            log.exception("the trainer's offer failed")
            found = Offer(trouble=f"The trainer can't say what it could do: {error}")
        finally:
            self._busy.release()
        kept = WHOLE_SECONDS if found.is_whole else PARTIAL_SECONDS
        self._known[checkpoint, pairs, held_out] = time.monotonic() + kept, found

    def _run(self, checkpoint: str, pairs: int, held_out: int) -> Offer:
        counts = ["--pairs", str(pairs), "--held-out", str(held_out)]
        command = [sys.executable, "-m", "trainer", "preflight", "--checkpoint", checkpoint, *counts, "--json"]
        environment = {**os.environ, "DESCORE_HOME": str(self._database.home)}
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            return Offer(trouble=f"The trainer can't say what it could do: {said}")
        return read_offer(json.loads(done.stdout))


def about(pairs: int) -> int:
    """A round number of pairs, so that one more label is no new question."""
    step = 10 ** max(1, len(str(max(pairs, 1))) - 1)
    return max(step, round(pairs / step) * step)


def read_offer(found: Mapping[str, Any]) -> Offer:
    """The offer in the trainer's own JSON."""
    presets = tuple(
        Preset(
            name=str(one["name"]),
            title=str(one["title"]),
            why_not=str(one["why_not"] or ""),
            stages=tuple(one["stages"]),
            knobs=dict(one["knobs"]),
            memory_bytes=one["memory_bytes"],
            steps_aside=bool(one["steps_aside"]),
            seconds=dict(one["seconds"]),
            seconds_per_step=dict(one["seconds_per_step"]),
            known_from=str(one["known_from"]),
        )
        for one in found["presets"]
    )
    return Offer(str(found["device"]), str(found["device_name"]), float(found["memory_free"]), presets)
