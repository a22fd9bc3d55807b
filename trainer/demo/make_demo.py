"""`python -m trainer demo HOME`: a store that shows every page alive, in a new folder.

    videos, pairs           clips of ShapeWorld, drawn here
    three people            simulated (`trainer.demo.people`); nobody can sign in as one of them
    round one, round two    a campaign that is labelled and closed, and one that is half labelled and open
    one retrain             real: a short cold start on round one, compared with the bundled checkpoint on held-out pairs
    scores                  of the bundled checkpoint, for the figures of the Analyse page

Everything is made by the functions that make a team's own store; `python -m storage check` finds nothing wrong with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from descore.checkpoints.folder import folder_fingerprint, locate, read_manifest
from storage import Database, StorageError, open_database
from storage.demo_store import begin_demo, finish_demo
from storage.training.model_registry import BASE, promote, register_checkpoint
from storage.training.runs import Run, RunRequest, create_run, get_run
from storage.training.snapshot_config import SnapshotConfig
from storage.training.snapshots import make_snapshot
from trainer.demo.stock import add_pairs, add_people, label_round
from trainer.shapeworld.pairs import ShapePair, shape_pairs

Say = Callable[[str], None]

FIRST = 400_000  # behind every pair of the training split that the bundled checkpoint has seen
PAIRS, ROUND_ONE, GOLD = 48, 32, 2
HELD_OUT = 0.3  # of round one: with the usual share too few pairs would be compared
STEPS = 8
# A short cold start; the preset's own steps take some minutes.
OVERRIDES = (f"cold_start.steps={STEPS}", "cold_start.pairs_per_step=8", "cold_start.micro_batch_pairs=8")
_LOOK_SECONDS = 3.0


def make_demo(home: Path, say: Say, pairs: int = PAIRS) -> None:
    """Make the store in an empty or new folder; an unfinished one that is there is made from the beginning.

    Args:
        home: the data folder.
        say: gets a line at each step.
        pairs: how many, of which two thirds are labelled wholly.

    Raises:
        StorageError: the folder holds something else, or can't be written; or the retrain failed.
    """
    began = time.monotonic()
    begin_demo(home)
    database = open_database(f"sqlite:///{home.absolute() / 'descore.db'}", home)
    try:
        fill_stock(database, say, pairs)
        base = _register_base(database)
        say(f"4/5 retraining for {STEPS} steps, and comparing on held-out pairs")
        _do(database, _ask_for_training(database, base), say)
        say("5/5 scoring all pairs, for the Analyse page")
        _do(database, _ask_for_scores(database, base), say)
    finally:
        database.close()
    finish_demo(home)
    say(f"the demo store is ready after {time.monotonic() - began:.0f} s")


def fill_stock(database: Database, say: Say, pairs: int) -> None:
    """Add pairs, people and both rounds."""
    say(f"1/5 drawing {2 * pairs} short clips")
    known = add_pairs(database, choose_pairs(pairs))
    ids, first = list(known), pairs * ROUND_ONE // PAIRS
    add_people(database)
    say(f"2/5 three simulated people label {first} pairs")
    label_round(database, "round one", known, ids[:first], share=1.0)
    say(f"3/5 and half of {pairs - first} further ones")
    label_round(database, "round two", known, ids[first:], share=0.6, gold=min(GOLD, pairs // 8))


def choose_pairs(count: int) -> list[ShapePair]:
    """Choose pairs of which one in eight is a tie: people prefer one video of most pairs, as of real ones."""
    drawn = list(shape_pairs("train", 4 * count, FIRST))
    ties = [shape for shape in drawn if shape.label == "tie"][: count // 8]
    clear = [shape for shape in drawn if shape.label != "tie"][: count - len(ties)]
    return sorted([*clear, *ties], key=lambda shape: shape.identity)


def _register_base(database: Database) -> int:
    """Let the bundled checkpoint serve, as the first start of an app does."""
    folder, _ = locate(BASE)
    manifest = read_manifest(folder)
    with database.write() as session:
        base = register_checkpoint(
            session,
            name=manifest.name,
            location=BASE,
            fingerprint=folder_fingerprint(folder),
            metrics=dict(manifest.metrics),
            settings=manifest.lineage.get("config"),
        )
        promote(session, base.id, "start")
    return base.id


def _ask_for_training(database: Database, base: int) -> int:
    with database.read() as session:
        snapshot = make_snapshot(
            session, SnapshotConfig(campaigns=("round one",), held_out_share=HELD_OUT), 0, incremental=True
        )
    request = RunRequest(
        kind="train",
        name="after round one",
        device="cpu",
        parent_id=base,
        rival_id=base,
        stages=("cold-start",),
        preset="tiny-cpu",
        overrides=OVERRIDES,
        request={"benchmark_pairs": 0},
    )
    with database.write() as session:
        return create_run(session, request, snapshot, None).id


def _ask_for_scores(database: Database, base: int) -> int:
    request = RunRequest(kind="score", name="all pairs", device="cpu", parent_id=base, request={})
    with database.write() as session:
        return create_run(session, request, None, None).id


def _do(database: Database, run_id: int, say: Say) -> None:
    """Do a run in this process, and say now and then how far it is.

    Raises:
        StorageError: it failed.
        KeyboardInterrupt: it was stopped.
    """
    from trainer.runs.store_run import run_from_store  # torch takes its time to load

    with _followed(database, run_id, say):
        code = run_from_store(run_id, database.home)
    if code > 128:
        raise KeyboardInterrupt
    if code:
        raise StorageError(f"the demo could not be made: {_run(database, run_id).message}")


@contextmanager
def _followed(database: Database, run_id: int, say: Say) -> Iterator[None]:
    """Say from a thread how far a run is."""
    over = threading.Event()

    def follow() -> None:
        before = ""
        while not over.wait(_LOOK_SECONDS):
            line = progress_line(_run(database, run_id))
            if line and line != before:
                say(line)
                before = line

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def progress_line(run: Run) -> str:
    """Write how far a run is; "" where nobody knows yet."""
    part, done, total = (run.progress.get(name) for name in ("part", "done", "total"))
    return f"    {part}: {done} of {total}" if part and total else ""


def _run(database: Database, run_id: int) -> Run:
    with database.read() as session:
        return get_run(session, run_id)
