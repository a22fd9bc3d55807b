"""Import and export of pairs and labels from the command line. The app may be running.

    python -m app import pairs.csv --source "winter models" --dry-run
    python -m app import clips/ --source "spring models"
    python -m app import votes.csv --source "a crowd" --map prompt=title,label=winner --label "the left one=A"
    python -m app export --format hf-dataset --out out/ --source "winter models" --labels consensus --copy-videos

The store is the one of the app: DATABASE_URL, else a SQLite file in DESCORE_HOME. Exit code 1: the file has problems, all
of which are printed, and nothing was imported. Exit code 2: it could not be done at all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from app.clip_store import ClipStore
from app.importing.import_file import ImportPlan, Progress, plan_import, run_import
from descore.tables.labels import parse_words
from descore.tables.pair_columns import parse_mapping
from storage import StorageError, open_database
from storage.campaigns.campaign import list_campaigns
from storage.database import Database
from storage.exchange.column_use import ROLES, ColumnUse
from storage.exchange.exporting.export import export
from storage.exchange.exporting.stored_pairs import Labels
from storage.exchange.formats.detect import EXPORTS, FORMATS
from storage.exchange.parsed import ImportRefusedError, Problem

_REFUSED = 1
_IMPOSSIBLE = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with closing(open_database()) as database:
            return int(options.run(database, options))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ImportRefusedError as error:
        _print_problems(error.problems)
        print("nothing was imported", file=sys.stderr)
        return _REFUSED
    except StorageError as error:
        print(f"app: {error}", file=sys.stderr)
        return _IMPOSSIBLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    importing = commands.add_parser("import", help="import a file or folder of pairs")
    importing.add_argument("path", type=Path, metavar="FILE_OR_FOLDER")
    importing.add_argument("--source", required=True, help="a name for where the pairs come from")
    importing.add_argument("--format", choices=FORMATS, help="detected by default")
    importing.add_argument("--videos", type=Path, metavar="DIR", help="paths start from here (default: the file's folder)")
    importing.add_argument(
        "--map", action="append", default=[], metavar="ROLE=COLUMN", help=f"name a column; roles: {', '.join(ROLES)}"
    )
    importing.add_argument(
        "--label", action="append", default=[], metavar="WORD=A", help="what a word in the labels means: A, B or tie"
    )
    importing.add_argument("--dry-run", action="store_true", help="say what the import would bring, and write nothing")
    importing.set_defaults(run=_import)

    exporting = commands.add_parser("export", help="write pairs and labels into a folder")
    exporting.add_argument("--format", choices=EXPORTS, required=True)
    exporting.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    which = exporting.add_mutually_exclusive_group()
    which.add_argument("--source", metavar="NAME", help="the pairs of one import (default: everything)")
    which.add_argument("--campaign", metavar="NAME", help="the pairs and labels of one campaign")
    exporting.add_argument("--labels", choices=get_args(Labels), default="raw", help="each person's, or the common answer")
    exporting.add_argument("--copy-videos", action="store_true", help="copy the video files into the folder too")
    exporting.set_defaults(run=_export)
    for command in (importing, exporting):
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _import(database: Database, options: argparse.Namespace) -> int:
    clip_store = ClipStore(database)
    try:
        mapping, words = parse_mapping(options.map, ROLES), parse_words(options.label)
    except ValueError as error:
        raise StorageError(str(error)) from None
    chosen: dict[str, Any] = {"source": options.source, "format": options.format, "videos": options.videos}
    chosen |= {"mapping": mapping, "words": words}
    with _bar() as progress:
        if options.dry_run:
            done: Any = plan_import(database, options.path, **chosen, progress=progress)
        else:
            done = run_import(clip_store, database, options.path, **chosen, progress=progress)
    problems = done.problems if isinstance(done, ImportPlan) else ()
    if options.json:
        print(_json(done))
    else:
        _print_problems((*problems, *(Problem(one.file, one.line, f"note: {one.message}") for one in done.notes)))
        _print_problems([Problem(done.file, None, f"note: {sentence}") for sentence in _columns(done.columns)])
        print(_planned(done) if isinstance(done, ImportPlan) else _imported(done))
    return _REFUSED if problems else 0


def _columns(use: ColumnUse) -> list[str]:
    """Say what the columns were taken for, and how to take them for something else."""
    first = {role: column for column, role in reversed(tuple(use.guesses.items()))}  # two columns may speak for one role
    hints = [f"name it by --map {','.join(f'{role}={column}' for role, column in first.items())}"] if first else []
    return [*use.sentences(), *hints]


def _planned(plan: ImportPlan) -> str:
    return (
        f"{plan.file} ({plan.format}) would bring {plan.pairs_new} pairs ({plan.pairs_known} are known), {plan.labels_new} "
        f"labels ({plan.labels_known} known), {plan.thoughts_new} thoughts, {plan.videos_new} videos "
        f"({plan.videos_known} known) from {plan.source}"
        + (f"; it has {len(plan.problems)} problems and would be refused" if plan.problems else "")
    )


def _imported(report: Any) -> str:
    return (
        f"{report.file} ({report.format}) brought {report.pairs_added} pairs, {report.labels_added} labels, "
        f"{report.thoughts_added} thoughts, {report.videos_added} videos from {report.source}"
    )


def _export(database: Database, options: argparse.Namespace) -> int:
    with _bar() as progress:
        report = export(
            database,
            options.out,
            options.format,
            source=options.source,
            campaign_id=None if options.campaign is None else _campaign_id(database, options.campaign),
            labels=options.labels,
            copy_videos=options.copy_videos,
            progress=progress,
        )
    if options.json:
        print(_json(report))
        return 0
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    tables = ", ".join(report.files)
    print(f"{report.rows} rows of {report.pairs} pairs in {tables}, and {report.videos} videos, in {report.folder}")
    return 0


def _campaign_id(database: Database, name: str) -> int:
    with database.read() as session:
        campaigns = [*list_campaigns(session), *list_campaigns(session, "import")]
    for campaign in campaigns:
        if campaign.config.name == name:
            return campaign.id
    known = ", ".join(sorted(campaign.config.name for campaign in campaigns)) or "none"
    raise StorageError(f"there is no campaign {name!r}; there are: {known}")


@contextmanager
def _bar() -> Iterator[Progress]:
    """Show a progress bar on stderr for each stage; none where stderr is no terminal."""
    bars: dict[str, tqdm[Any]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        bar = bars.setdefault(stage, tqdm(total=total, desc=stage, unit="file", disable=None, leave=False))
        bar.update(done - bar.n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()


def _print_problems(problems: Sequence[Problem]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)


def _json(done: Any) -> str:
    fields = asdict(done)
    for name in ("problems", "notes"):
        if name in fields:
            fields[name] = [str(one) for one in getattr(done, name)]
    return json.dumps(fields, ensure_ascii=False, default=str)


if __name__ == "__main__":
    sys.exit(main())
