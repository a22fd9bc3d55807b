"""A process that behaves as a run of the store does, without a model: lock, progress, SIGTERM, exit code.

python stand_in_run.py MODE ID      MODE: long (until SIGTERM), wish (until the store says so), short,
                                    mute (dies without a word), refuse, deaf (to SIGTERM)
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from storage import Database, open_database
from storage.training.model_registry import list_checkpoints, register_checkpoint, set_gate
from storage.training.run_folder import RunLock
from storage.training.runs import finish, get_run, mark_running, set_progress

HEARD = "heard"  # the file with which a deaf run notes SIGTERM
PATIENCE = 600.0  # seconds, after which a run that nobody ended goes by itself
STEP = 0.2  # seconds between two looks into the store


def is_wished(database: Database, run_id: int) -> bool:
    with database.read() as session:
        return get_run(session, run_id).cancel_requested_at is not None


def main(mode: str, run_id: int) -> int:
    if mode == "refuse":
        print("nothing to do here", file=sys.stderr)
        return 2
    database, told = open_database(), threading.Event()
    with database.read() as session:
        run = get_run(session, run_id)
    heard = database.home / run.folder / HEARD
    signal.signal(signal.SIGTERM, lambda *_: heard.touch() if mode == "deaf" else told.set())
    with RunLock(database.home / run.folder):
        with database.write() as session:
            mark_running(session, run_id, os.getpid(), socket.gethostname())
            set_progress(session, run_id, {"stage": "cold-start", "part": "training", "done": 1, "total": 2})
        if mode == "mute":
            os._exit(0)
        if mode in ("long", "deaf", "wish"):
            for _ in range(round(PATIENCE / STEP)):
                if told.wait(STEP) or (mode == "wish" and is_wished(database, run_id)):
                    break
            with database.write() as session:
                finish(session, run_id, "cancelled", 143, "stopped")
            return 143
        with database.write() as session:
            parent = list_checkpoints(session)[0]
            made = register_checkpoint(
                session,
                name=run.name,
                location="bundled",
                fingerprint=f"of run {run_id}",
                parent_id=parent.id,
                run_id=run_id,
            )
            set_gate(session, made.id, {"verdict": "better", "sentence": "Better."})
            finish(session, run_id, "finished", 0, "Better.", made.id, "better")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
