"""One look at the store for the Train page, and the lines of its tables.

store = look_at(database)
open_one = chosen_line(run_lines(store), opened=7)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.train.views.runs import RunLine
from storage import Database, NotInStoreError
from storage.accounts.users import list_users
from storage.campaigns.campaign import list_campaigns
from storage.training.model_registry import Checkpoint, Promotion, list_checkpoints, promotions
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
class Store:
    """One look at the store. queue: runs that wait, with their devices, in the order in which they start."""

    runs: tuple[Run, ...]
    queue: tuple[tuple[int, str], ...]
    checkpoints: Mapping[int, Checkpoint]
    promotions: tuple[Promotion, ...]
    people: Mapping[int, str]
    campaigns: tuple[str, ...]


def look_at(database: Database) -> Store:
    """The store now; of trainings and of scorings the newest ones."""
    with database.read() as session:
        runs = (*list_runs(session, RUNS_SHOWN, "train"), *list_runs(session, SCORINGS_SHOWN, "score"))
        return Store(
            runs=tuple(sorted(runs, key=lambda run: -run.id)),
            queue=tuple((run.id, run.device) for run in runs_in(session, "queued")),
            checkpoints={one.id: one for one in list_checkpoints(session, deleted=True)},
            promotions=promotions(session, PROMOTIONS_SHOWN),
            people={one.id: one.name for one in list_users(session)},
            campaigns=tuple(one.config.name for kind in ("studio", "import") for one in list_campaigns(session, kind)),
        )


def with_run(database: Database, store: Store, run_id: int | None) -> Store:
    """The same with a run that is asked for, even if it is older than those shown."""
    if run_id is None or any(run.id == run_id for run in store.runs):
        return store
    try:
        with database.read() as session:
            return replace(store, runs=(*store.runs, get_run(session, run_id)))
    except NotInStoreError:
        return store


def run_lines(store: Store) -> list[RunLine]:
    """The runs for the list, each with its place in the queue."""
    waiting: dict[str, int] = {}
    places = {}
    for run_id, device in store.queue:
        places[run_id] = waiting[device] = waiting.get(device, 0) + 1
    served = {one.checkpoint_id for one in store.promotions}
    return [_line(run, store, places.get(run.id), served) for run in store.runs]


def _line(run: Run, store: Store, place: int | None, served: set[int]) -> RunLine:
    names = {key: one.name for key, one in store.checkpoints.items()}
    candidate = store.checkpoints.get(run.candidate_id or 0)
    return RunLine(
        run=run,
        place=place,
        by=store.people.get(run.created_by_id or 0),
        parent=names.get(run.parent_id or 0),
        rival=names.get(run.rival_id or 0),
        candidate=None if candidate is None else candidate.name,
        verdict=None if candidate is None else (candidate.gate or {}).get("verdict"),
        promoted=run.candidate_id in served,
    )


def chosen_line(lines: Sequence[RunLine], opened: int | None) -> RunLine | None:
    """The run to open: the one that is asked for, else the training that goes on, else the newest."""
    asked = (line for line in lines if line.run.id == opened)
    trainings = [line for line in lines if line.run.kind == "train"]
    going = (line for line in trainings if line.run.state == "running")
    return next(asked, None) or next(going, None) or next(iter([*trainings, *lines]), None)


def history(store: Store) -> list[tuple[str, str, str]]:
    """What served when: time, checkpoint, why."""
    names = {key: one.name for key, one in store.checkpoints.items()}
    return [
        (
            f"{one.created_at:%Y-%m-%d %H:%M} UTC",
            names.get(one.checkpoint_id, "?"),
            ACTIONS[one.action] + (f" by {store.people[one.by]}" if one.by is not None and one.by in store.people else ""),
        )
        for one in store.promotions
    ]
