"""The queue of runs: which of them starts next.

    with database.write() as session:
        run = next_queued(session)      # the oldest one whose devices are free; None if all have to wait

A run on this machine waits for its devices. One for SLURM, or for another machine, waits for nothing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from storage.schema import RunRow
from storage.training.devices import lock_names
from storage.training.runs import Run, get_run

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def next_queued(session: Session, device: str | None = None) -> Run | None:
    """Return the oldest run that waits for devices on which nothing runs. It takes a writing session.

    A run of several devices that waits for one of them keeps the others from later runs, or it would wait for ever.

    Args:
        device: on this one only.
    """
    running = session.scalars(select(RunRow.device).where(RunRow.state == "running", RunRow.place == "here"))
    taken = {name for held in running for name in lock_names(held)}
    waiting = select(RunRow.id, RunRow.device, RunRow.place).where(RunRow.state == "queued").order_by(RunRow.id)
    for run_id, wanted, place in session.execute(waiting).all():
        names = set(lock_names(wanted)) if place == "here" else set()
        is_free = names.isdisjoint(taken)
        taken |= names
        if is_free and device in (None, wanted) and _still_waits(session, run_id):
            return get_run(session, run_id)
    return None


def _still_waits(session: Session, run_id: int) -> bool:
    """Lock the row till the end of the transaction; another app on the store may have taken the run meanwhile."""
    row = session.get(RunRow, run_id, with_for_update={"key_share": True}, populate_existing=True)
    return row is not None and row.state == "queued"
