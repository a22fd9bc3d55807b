"""A public app under load: visitors who judge, annotators who label, and then some who mean harm beside them.

    python -m benchmarks.public_load [--minutes 5] [--visitors 60] [--annotators 50] [--hostile 10]

The app is `python app.py --checkpoint bundled` in a process of its own with a new data folder. Half of the time is
quiet; in the other half the hostile ones are there too (`benchmarks/helpers/hostile_clients.py` says what they do). Visitors
and hostile ones together are `--visitors`, and the honest ones are as many in both halves. Such a visitor looks
`--pause` seconds on average between two judgements, of which half are about bundled pairs, whose answers come from the
store after the first time, and half are new questions, which the model answers. Annotators label as in
`benchmarks.label_load`. App and clients share the machine.

The last line is JSON. The exit code is 1 if an honest judgement or a label's request failed. `ratio` is hostile over
quiet, of the seconds from a question to its verdict. Targets: a ratio of at most 3 at the 95th percentile, and the
submit of a label in less than 300 ms there. Only Linux has so many addresses for one machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.helpers.hostile_clients import Heard, HostileVisitor
from benchmarks.helpers.judge_clients import JudgingVisitor, Seen
from benchmarks.helpers.label_campaign import prepare
from benchmarks.helpers.label_clients import Annotator, Record
from benchmarks.helpers.process_tree import MemoryWatch, folder_bytes, own_cpu_seconds
from benchmarks.helpers.running_app import RunningApp
from benchmarks.helpers.summary import summary
from storage import open_database


async def phase(
    app: RunningApp, options: argparse.Namespace, campaign: int, cookies: dict[str, str], hostile: int
) -> dict[str, Any]:
    """Let everybody do their things for half of the time; what they saw, and the figures of it."""
    seen, record, heard = Seen(), Record(), Heard()
    begun, cpu, app_cpu = time.monotonic(), time.process_time(), own_cpu_seconds(app.pid)
    deadline = begun + options.minutes * 30
    honest = range(options.visitors - options.hostile)
    visitors = [JudgingVisitor(app.url, number, options.pause, round=1 + bool(hostile)) for number in honest]
    annotators = [
        Annotator(app.url, name, cookie, campaign, options.label_pause, record) for name, cookie in cookies.items()
    ]
    attackers = [HostileVisitor(app.url, number) for number in range(hostile)]
    await asyncio.gather(
        *(visitor.judge_until(deadline, seen) for visitor in visitors),
        *(annotator.label_until(deadline) for annotator in annotators),
        *(attacker.attack_until(deadline, heard) for attacker in attackers),
    )
    for visitor in visitors:
        await visitor.close()
    seconds = time.monotonic() - begun
    return {
        "seconds": round(seconds, 1),
        "visitors": len(visitors),
        "judgements": sum(map(len, seen.seconds.values())),
        "failed": dict(seen.failed),
        "told_full": seen.told_full,
        "judgement_ms": {name: summary(values) for name, values in seen.seconds.items() if values},
        "other_failures": dict(seen.others),
        "labels": len(record.answered),
        "label_ms": {name: summary(values) for name, values in sorted(record.seconds.items())},
        "label_refused": dict(record.refused),
        "label_errors": dict(record.errors),
        "hostile": {
            name: {"tried": tried, "answered": heard.answered[name], "refused": dict(heard.refused.get(name, {}))}
            for name, tried in sorted(heard.tried.items())
        },
        "app_cpu_share": round((own_cpu_seconds(app.pid) - app_cpu) / seconds, 2),
        "client_cpu_share": round((time.process_time() - cpu) / seconds, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


async def warm_up(app: RunningApp, pause: float) -> None:
    """Have a pair judged in both ways, so that what only the first visitor waits for is in neither half."""
    visitor = JudgingVisitor(app.url, 0, pause)
    try:
        for mode in ("quick", "think"):
            await visitor.judge_own(mode, Seen())
    finally:
        await visitor.close()


def ratios(quiet: dict[str, Any], hostile: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return hostile over quiet, for each source of answers and each percentile."""
    return {
        source: {
            name: round(figures[name] / quiet["judgement_ms"][source][name], 2) for name in ("p50", "p95") if figures[name]
        }
        for source, figures in hostile["judgement_ms"].items()
        if source in quiet["judgement_ms"]
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Prepare, run both phases, stop the app; the figures to print."""
    with tempfile.TemporaryDirectory() as folder:
        home, log = Path(folder) / "home", Path(folder) / "app.log"
        load = round(os.getloadavg()[0], 1)
        database = open_database(home=home)
        campaign, cookies = prepare(database, options.pairs, options.annotators, blind=False)
        database.close()
        with RunningApp(home, None, log, "--checkpoint", "bundled") as app, MemoryWatch(app.pid) as memory:
            asyncio.run(warm_up(app, options.pause))
            disk = folder_bytes(home)
            quiet = asyncio.run(phase(app, options, campaign, cookies, hostile=0))
            quiet_memory = memory.highest
            hostile = asyncio.run(phase(app, options, campaign, cookies, hostile=options.hostile))
            disk_after = folder_bytes(home)
        said = log.read_text("utf-8", errors="replace")
        if options.log:
            Path(options.log).write_text(said, "utf-8")
    return {
        "minutes": options.minutes,
        "pause": options.pause,
        "label_pause": options.label_pause,
        "cores": os.cpu_count(),
        "load_average_before": load,
        "quiet": quiet,
        "with_hostile": hostile,
        "ratio": ratios(quiet, hostile),
        "memory_mb": {
            "start": memory.first >> 20,
            "highest_quiet": quiet_memory >> 20,
            "highest": memory.highest >> 20,
        },
        "disk_mb": {"start": round(disk / 2**20, 1), "end": round(disk_after / 2**20, 1)},
        "tracebacks_in_log": said.count("Traceback (most recent call last)"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 0 if nothing honest failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of both halves together")
    parser.add_argument("--visitors", type=int, default=60, help="with the hostile ones")
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--hostile", type=int, default=10)
    parser.add_argument("--pause", type=float, default=60.0, help="mean seconds between a visitor's judgements")
    parser.add_argument("--label-pause", type=float, default=8.0, help="mean seconds that an annotator looks at a pair")
    parser.add_argument("--pairs", type=int, default=5000, help="in the campaign")
    parser.add_argument("--log", help="where the app's log is copied to")
    figures = run(parser.parse_args(arguments))
    print(json.dumps(figures))
    phases = (figures["quiet"], figures["with_hostile"])
    return 1 if any(one["failed"] or one["label_errors"] for one in phases) else 0


if __name__ == "__main__":
    sys.exit(main())
