"""Rows of the store for the Train page, and the summaries of runs and checkpoints in its lists.

rows = read_store(database)
opened = opened_run(run_summaries(rows), run_id=7)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from app.train.views.checkpoints import CheckpointSummary
from app.train.views.runs import RunSummary
from app.ui.dates import day
from storage import Database, NotInStoreError, Session
from storage.accounts.users import list_users
from storage.campaigns.campaign import list_campaigns
from storage.training.model_registry import Checkpoint, Promotion, list_checkpoints, promotions
from storage.training.run_notes import RunNote, run_notes
from storage.training.runs import Run, get_run, list_runs, runs_in

RUNS_SHOWN, SCORINGS_SHOWN = 30, 10
PROMOTIONS_SHOWN = 200
ACTIONS = {
    "start": "at the start of the app",
    "promote": "promoted",
    "automatic": "promoted by itself",
    "roll_back": "rolled back",
}


@dataclass(frozen=True)
class StoreRows:
    """Rows of the store, read at one moment.

    Attributes:
        runs: the newest trainings and scorings, the newest first.
        queue: id and device of the runs that wait, in the order in which they start.
        checkpoints: by id, deleted ones too.
        promotions: the newest first.
        people: names by id.
        campaigns: names of those whose labels count.
        notes: of leads on runs, by the id of the run.
    """

    runs: tuple[Run, ...]
    queue: tuple[tuple[int, str], ...]
    checkpoints: Mapping[int, Checkpoint]
    promotions: tuple[Promotion, ...]
    people: Mapping[int, str]
    campaigns: tuple[str, ...]
    notes: Mapping[int, RunNote]


def read_store(database: Database) -> StoreRows:
    """Read the rows that the page shows."""
    with database.read() as session:
        runs = (*list_runs(session, RUNS_SHOWN, "train"), *list_runs(session, SCORINGS_SHOWN, "score"))
        return StoreRows(
            runs=tuple(sorted(runs, key=lambda run: -run.id)),
            queue=tuple((run.id, run.device) for run in runs_in(session, "queued")),
            checkpoints={checkpoint.id: checkpoint for checkpoint in list_checkpoints(session, deleted=True)},
            promotions=promotions(session, PROMOTIONS_SHOWN),
            people={user.id: user.name for user in list_users(session)},
            campaigns=read_campaigns(session),
            notes=run_notes(session),
        )


def read_campaigns(session: Session) -> tuple[str, ...]:
    """Name the campaigns and imports that a run can be limited to: those whose labels count."""
    entries = [entry for kind in ("studio", "import") for entry in list_campaigns(session, kind)]
    return tuple(entry.config.name for entry in entries if entry.counted)


def with_run(database: Database, rows: StoreRows, run_id: int | None) -> StoreRows:
    """Return the rows with a run added that may be older than those shown."""
    if run_id is None or any(run.id == run_id for run in rows.runs):
        return rows
    try:
        with database.read() as session:
            return replace(rows, runs=(*rows.runs, get_run(session, run_id)))
    except NotInStoreError:
        return rows


def run_summaries(rows: StoreRows) -> list[RunSummary]:
    """Summarise the runs, each with its position in the queue of its device."""
    waiting: dict[str, int] = {}
    positions = {}
    for run_id, device in rows.queue:
        positions[run_id] = waiting[device] = waiting.get(device, 0) + 1
    served = {promotion.checkpoint_id for promotion in rows.promotions}
    return [_run_summary(run, rows, positions.get(run.id), served) for run in rows.runs]


def _run_summary(run: Run, rows: StoreRows, queue_position: int | None, served: set[int]) -> RunSummary:
    names = {key: checkpoint.name for key, checkpoint in rows.checkpoints.items()}
    candidate = rows.checkpoints.get(run.candidate_id or 0)
    return RunSummary(
        run=run,
        queue_position=queue_position,
        created_by=rows.people.get(run.created_by_id or 0),
        parent=names.get(run.parent_id or 0),
        rival=names.get(run.rival_id or 0),
        candidate=None if candidate is None else candidate.name,
        verdict=None if candidate is None else (candidate.gate or {}).get("verdict"),
        promoted=run.candidate_id in served,
        note=rows.notes[run.id].text if run.id in rows.notes else "",
    )


def opened_run(summaries: Sequence[RunSummary], run_id: int | None) -> RunSummary | None:
    """Return the run with this id, else the training that goes on, else the newest run."""
    trainings = [summary for summary in summaries if summary.run.kind == "train"]
    named = (summary for summary in summaries if summary.run.id == run_id)
    running = (summary for summary in trainings if summary.run.state == "running")
    return next(named, None) or next(running, None) or next(iter([*trainings, *summaries]), None)


def checkpoint_summaries(rows: StoreRows, serving_id: int | None) -> list[CheckpointSummary]:
    """Summarise the checkpoints that are not deleted, the newest first."""
    served = {promotion.checkpoint_id for promotion in rows.promotions}
    runs = {run.id: run for run in rows.runs}
    summaries = []
    for checkpoint in sorted(rows.checkpoints.values(), key=lambda checkpoint: checkpoint.id, reverse=True):
        if checkpoint.deleted_at is not None:
            continue
        run = runs.get(checkpoint.run_id or 0)
        parent = rows.checkpoints.get(checkpoint.parent_id or 0)
        summaries.append(
            CheckpointSummary(
                checkpoint=checkpoint,
                parent=None if parent is None else parent.name,
                run=f"run {checkpoint.run_id}" if checkpoint.run_id else None,
                counts={} if run is None else run.counts,
                serves=checkpoint.id == serving_id,
                served=checkpoint.id in served,
                is_older=serving_id is not None and checkpoint.id < serving_id,
            )
        )
    return summaries


def serving_history(rows: StoreRows) -> list[tuple[Markup, str, str]]:
    """List which checkpoint served when: time, name, reason."""
    history = []
    for promotion in rows.promotions:
        checkpoint = rows.checkpoints.get(promotion.checkpoint_id)
        person = None if promotion.by is None else rows.people.get(promotion.by)
        history.append(
            (
                day(promotion.created_at),
                "?" if checkpoint is None else checkpoint.name,
                ACTIONS[promotion.action] + (f" by {person}" if person else ""),
            )
        )
    return history
