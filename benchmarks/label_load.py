"""Many annotators at once against the running app, and whether every answered label is there afterwards.

    python -m benchmarks.label_load [--annotators 50] [--seconds 120] [--pause 2.0] [--postgresql] [--kill]

The app is `python app.py` in a process of its own with a new data folder; people come in with cookies and use the
endpoints of the Label page (next, submit, draft, undo, clips), with double clicks, retries and two tabs. --kill ends the
app with SIGKILL every few seconds and starts it again. Then the store is compared with what was answered. The last line
is JSON; the exit code is 1 if a label is lost or doubled, a pair has too many, or a rule of the store is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.helpers.label_campaign import prepare
from benchmarks.helpers.label_clients import Annotator, Record
from benchmarks.helpers.label_verify import verify
from benchmarks.helpers.running_app import RunningApp
from benchmarks.helpers.summary import summary
from storage import open_database
from tests.helpers.postgresql import postgresql_server

LONGEST_LIFE = 8.0


async def label_all(
    app: RunningApp, campaign_id: int, cookies: dict[str, str], seconds: float, pause: float, kill: bool
) -> tuple[Record, int]:
    """Let everybody label for some seconds; returns what they saw, and how often the app was killed."""
    record, deadline = Record(), time.monotonic() + seconds
    people = [Annotator(app.url, name, cookie, campaign_id, pause, record) for name, cookie in cookies.items()]
    work = asyncio.gather(*(person.label_until(deadline) for person in people))
    kills = await kill_until(app, deadline, seconds) if kill else 0
    await work
    return record, kills


async def kill_until(app: RunningApp, deadline: float, seconds: float) -> int:
    """Kill the app again and again, at random moments of its life; at the end it runs."""
    kills, numbers = 0, random.Random(0)
    while time.monotonic() < deadline:
        await asyncio.sleep(numbers.uniform(0.2, min(LONGEST_LIFE, seconds / 2)))
        await asyncio.to_thread(app.kill)
        await asyncio.to_thread(app.start)
        kills += 1
    return kills


@contextmanager
def store_address(postgresql: bool) -> Iterator[str | None]:
    """Where the store goes: a new PostgreSQL server's database, or None for a SQLite file in the data folder."""
    with ExitStack() as stack:
        yield stack.enter_context(postgresql_server()).create("load") if postgresql else None


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare, label, stop the app, compare; the figures to print."""
    with tempfile.TemporaryDirectory() as folder, store_address(options.postgresql) as url:
        home = Path(folder) / "home"
        address = url or f"sqlite:///{home / 'descore.db'}"
        database = open_database(address, home)
        campaign_id, cookies = prepare(database, options.pairs, options.annotators)
        database.close()
        with RunningApp(home, url, Path(folder) / "app.log") as app:
            begun, own_cpu = time.monotonic(), time.process_time()
            labelling = label_all(app, campaign_id, cookies, options.seconds, options.pause, options.kill)
            record, kills = asyncio.run(labelling)
            wall, own_cpu = time.monotonic() - begun, time.process_time() - own_cpu
        app_cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
        database = open_database(address, home)
        try:
            found = verify(database, campaign_id, record)
        finally:
            database.close()
    return {
        "database": "postgresql" if options.postgresql else "sqlite",
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "annotators": options.annotators,
        "seconds": round(wall, 1),
        "pause": options.pause,
        "kills": kills,
        "labels_a_second": round(found["answered"] / wall, 1),
        **found,
        "retries": record.retries,
        "refused": dict(record.refused),
        "errors": dict(record.errors),
        "ms": {name: summary(values) for name, values in sorted(record.seconds.items())},
        "client_cpu_share": round(own_cpu / wall, 2),
        "app_cpu_seconds": round(app_cpu.ru_utime + app_cpu.ru_stime, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 0 if nothing was lost, doubled or broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds that a person looks at a pair (default: 2)")
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--postgresql", action="store_true", help="start a PostgreSQL server and use that")
    parser.add_argument("--kill", action="store_true", help="SIGKILL the app every few seconds and start it again")
    figures = run(parser.parse_args(arguments))
    print(json.dumps(figures))
    broken = ("lost", "changed", "doubled", "above_overlap", "violations")
    return 1 if figures["errors"] or any(figures[name] for name in broken) else 0


if __name__ == "__main__":
    sys.exit(main())
