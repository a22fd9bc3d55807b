"""How long the store takes for the next pair, a submit and the lead's page, in a large store and in a small one.

    python -m benchmarks.label_store [--pairs 100000] [--labels 1000000] [--postgresql | --url URL]

The store is made first (minutes), in a temporary folder. The calls are those that the app makes, each with its own
transaction; the lead's page is all that its tabs load and draw. The last line is JSON with times in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select

from app.clip_store import ClipStore
from app.lead.context import LeadContext
from app.lead.progress import AgreementTab, AnnotatorsTab, CampaignList, ProgressTab
from app.serving.serving import Served, Serving
from app.web.auth import Auth
from benchmarks.helpers.big_store import REACHES, Filled, fill
from benchmarks.helpers.summary import summary
from descore.answer import DIMENSIONS
from storage import Database, open_database
from storage.accounts.users import add_user
from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.campaign_pairs import reorder
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from storage.maintenance.integrity import check_store
from storage.schema import CampaignPairRow, utc_now
from tests.helpers.postgresql import postgresql_server

SMALL_PAIRS, SMALL_LABELS = 100, 1000
ANSWER = Answer(
    choice="A",
    strength="clearly",
    sub_scores={side: dict.fromkeys(DIMENSIONS, "2") for side in "AB"},
    seconds=20.0,
    playback={side: {"watched": 1.0, "plays": 2} for side in "AB"},
)
TABS = (CampaignList, ProgressTab, AnnotatorsTab, AgreementTab)
Result = TypeVar("Result")


class Clock:
    """Collects how long calls of each kind took."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def time(self, kind: str, call: Callable[[], Result]) -> Result:
        """Make the call and note its time."""
        begun = time.perf_counter()
        result = call()
        self.seconds.setdefault(kind, []).append(time.perf_counter() - begun)
        return result

    def figures(self) -> dict[str, dict[str, float]]:
        """For each kind the number of calls and, in milliseconds, median, 95th percentile and maximum."""
        return {kind: summary(values) for kind, values in self.seconds.items()}


def work(database: Database, filled: Filled, clock: Clock, calls: int) -> None:
    """People at all places of the queue take pairs and label them, one after the other; some leases were abandoned."""
    abandon(database, filled, filled.people[-20:])
    # Some who have just begun, one far ahead of all, several of the many in the middle.
    people = filled.people[: len(REACHES) + 5]
    for number in range(calls):
        person = people[number % len(people)]
        turn = clock.time("next", lambda person=person: take(database, filled.campaign_id, person.id))
        if turn is None:
            continue
        clock.time("submit", lambda person=person, turn=turn, number=number: save(database, turn, person.id, f"m{number}"))


def abandon(database: Database, filled: Filled, people: tuple[Any, ...]) -> None:
    """Let these people take a pair yesterday and never come back."""
    yesterday = utc_now() - timedelta(days=1)
    for person in people:
        with database.write() as session:
            next_assignment(session, filled.campaign_id, person.id, now=yesterday)


def take(database: Database, campaign_id: int, person_id: int) -> Assignment | None:
    """Ask for the next pair."""
    with database.write() as session:
        turn = next_assignment(session, campaign_id, person_id)
    return turn if isinstance(turn, Assignment) else None


def save(database: Database, turn: Assignment, person_id: int, submission: str) -> None:
    """Submit a label."""
    with database.write() as session:
        submit(session, turn.token, person_id, submission, ANSWER)


def newcomers(database: Database, filled: Filled, clock: Clock, count: int) -> None:
    """Time the first pair of new people: all pairs before the first open one are done."""
    for number in range(count):
        with database.write() as session:
            person = add_user(session, f"newcomer {number}", "annotator")
        clock.time("next_of_newcomer", lambda person=person: take(database, filled.campaign_id, person.id))


def after_reorder(database: Database, filled: Filled, clock: Clock) -> None:
    """Time each person's first pair after the queue was sorted again, labelled pairs first, as for disagreement.

    People who were far ahead have thousands of open pairs before them that they labelled themselves.
    """
    labelled = select(CampaignPairRow.pair_id).where(
        CampaignPairRow.campaign_id == filled.campaign_id, CampaignPairRow.labelled > 0
    )
    with database.write() as session:
        scores = dict.fromkeys(session.scalars(labelled), 0.0)
        clock.time("reorder", lambda: reorder(session, filled.campaign_id, scores))
    for person in filled.people[: len(REACHES) + 5]:
        clock.time("next_after_reorder", lambda person=person: take(database, filled.campaign_id, person.id))


def lead_page(database: Database, filled: Filled, served: Served, clock: Clock, times: int) -> None:
    """All tabs, as the page loads them when a lead opens it."""
    context = LeadContext(database, ClipStore(database), Serving(served), Auth(database))
    with database.write() as session:
        lead = add_user(session, "lead", "lead")
    for _ in range(times):
        begun = time.perf_counter()
        for tab in TABS:
            clock.time(f"lead_{tab.name}", lambda tab=tab: tab(context).view(lead, filled.campaign_id))
        clock.seconds.setdefault("lead_page", []).append(time.perf_counter() - begun)


def measure(database: Database, served: Served, pairs: int, labels: int, people: int, calls: int) -> dict[str, Any]:
    """Fill a store and measure all calls."""
    clock = Clock()
    filled = clock.time("fill", lambda: fill(database, pairs, labels, people))
    work(database, filled, clock, calls)
    newcomers(database, filled, clock, 5)
    lead_page(database, filled, served, clock, 3)
    after_reorder(database, filled, clock)
    violations = clock.time("check", lambda: check_store(database))
    return {"pairs": pairs, "labels": filled.labels, "violations": len(violations), "ms": clock.figures()}


@contextmanager
def stores(url: str | None, own_server: bool) -> Iterator[list[Database]]:
    """Two empty stores: for the large and for the small one."""
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder) / "large", Path(folder) / "small"]
        if url:
            yield [open_database(url, homes[0]), open_database(None, homes[1])]
        elif own_server:
            with postgresql_server() as server:
                opened = [open_database(server.create(home.name), home) for home in homes]
                yield opened
                for database in opened:
                    database.close()
        else:
            yield [open_database(f"sqlite:///{home / 'descore.db'}", home) for home in homes]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--calls", type=int, default=600, help="next pairs and submits to measure (default: 600)")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--postgresql", action="store_true", help="start a PostgreSQL server and measure there")
    place.add_argument("--url", help="an empty PostgreSQL database to measure in")
    options = parser.parse_args(arguments)
    served = Served.load("bundled")
    with stores(options.url, options.postgresql) as (large, small):
        figures = measure(large, served, options.pairs, options.labels, options.people, options.calls)
        few = measure(small, served, SMALL_PAIRS, SMALL_LABELS, options.people, min(options.calls, 100))
        kind = large.engine.dialect.name
    ratio = figures["ms"]["next"]["p50"] / few["ms"]["next"]["p50"]
    said = {"database": kind, "cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1), **figures}
    print(json.dumps({**said, "small": few, "next_large_over_small": round(ratio, 2)}))


if __name__ == "__main__":
    main()
