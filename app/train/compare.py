"""Several runs side by side: read from the store and their folders, for the Train page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from app.train.run_files import run_settings, stage_logs
from app.train.summaries import StoreRows, run_summaries, with_run
from app.train.views.compare import ComparedRun, compare_view
from app.train.views.compare_curves import MOST_COMPARED, compared_figures
from storage import Database
from storage.training.runs import Run

FEWEST_COMPARED = 2


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: ids of those that there are, in the order of their columns.
        html: the table; "" for fewer than two runs.
        figures: curves by name.
        live: whether one of them is not over.
    """

    runs: tuple[int, ...]
    html: str
    figures: Mapping[str, Any]
    live: bool


def run_ids(text: str) -> tuple[int, ...]:
    """Read ids that are separated by commas, each once; what is no id is left out, and those beyond the most are, too."""
    ids = [int(part) for part in text.split(",") if part.isascii() and part.isdigit() and len(part) < 10]
    return tuple(dict.fromkeys(ids))[:MOST_COMPARED]


def compare_runs(database: Database, folder_of: Callable[[Run], Path], rows: StoreRows, ids: Sequence[int]) -> Comparison:
    """Compare the runs with these ids; unknown ones are left out.

    Args:
        database: has runs that are older than those in `rows`.
        folder_of: returns the folder of a run.
        rows: the store's rows.
        ids: of the runs, in the order of their columns.
    """
    for run_id in ids:
        rows = with_run(database, rows, run_id)
    by_id = {summary.run.id: summary for summary in run_summaries(rows)}
    summaries = [by_id[run_id] for run_id in ids if run_id in by_id]
    known = tuple(summary.run.id for summary in summaries)
    if len(summaries) < FEWEST_COMPARED:
        return Comparison(known, "", {}, False)
    folders = [folder_of(summary.run) for summary in summaries]
    compared = []
    for summary, folder in zip(summaries, folders, strict=True):
        candidate = rows.checkpoints.get(summary.run.candidate_id or 0)
        gate = None if candidate is None else candidate.gate
        compared.append(ComparedRun(summary, gate, run_settings(folder), rows.notes.get(summary.run.id)))
    figures = compared_figures(
        [
            (f"{summary.run.name} ({summary.run.id})", stage_logs(folder, summary.run.stages))
            for summary, folder in zip(summaries, folders, strict=True)
        ]
    )
    live = any(summary.run.state in ("queued", "running") for summary in summaries)
    return Comparison(known, str(compare_view(compared, datetime.now(timezone.utc))), figures, live)
