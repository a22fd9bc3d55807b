"""Care of the store from the command line; the app may be running.

    python -m storage backup backups/ [--videos]     a consistent copy, checked
    python -m storage restore backups/FILE           a new store from it, where there is none
    python -m storage check [--videos]               every violated rule, by name; exit code 1 if there is one
    python -m storage invite --role lead             a one-time link, for a lead who is locked out

The store is the one of the app: DATABASE_URL, else a SQLite file in DESCORE_HOME.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from storage.accounts.invitations import invite
from storage.accounts.users import find_user
from storage.database import open_database
from storage.errors import StorageError
from storage.maintenance.backup import back_up, restore
from storage.maintenance.integrity import check_store
from storage.schema import Role


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 all well, 1 something is wrong with the store, 2 it could not be done."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except StorageError as error:
        print(f"storage: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m storage", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    backup = commands.add_parser("backup", help="copy the store while the app runs")
    backup.add_argument("target", type=Path, help="a folder, or the name of a new file")
    backup.add_argument("--videos", action="store_true", help="copy the video files too, into videos/ beside the copy")
    backup.set_defaults(run=_backup)
    again = commands.add_parser("restore", help="make a store from a backup, where there is none")
    again.add_argument("copy", type=Path, help="the backup; its videos are taken from videos/ beside it")
    again.set_defaults(run=_restore)
    check = commands.add_parser("check", help="find every violated rule")
    check.add_argument("--videos", action="store_true", help="read every video file and compare its sha256")
    check.set_defaults(run=_check)
    for command in (backup, check):
        command.add_argument("--json", action="store_true", help="print one line of JSON")
    link = commands.add_parser("invite", help="print a one-time link")
    link.add_argument("--role", choices=get_args(Role), default="lead", help="of the new account (default: lead)")
    link.add_argument("--name", help="somebody who has an account: the link sets a new password for it")
    link.set_defaults(run=_invite)
    return parser


def _backup(options: argparse.Namespace) -> int:
    database = open_database(as_is=True)
    try:
        copy = back_up(database, options.target, videos=options.videos)
    finally:
        database.close()
    if options.json:
        print(json.dumps({**vars(copy), "path": str(copy.path)}))
    else:
        rows = ", ".join(f"{count} {table}" for table, count in copy.rows.items())
        print(f"{copy.path}: {copy.size / 1e6:.1f} MB in {copy.seconds:.1f} s{'; ' + rows if rows else ''}")
        if options.videos:
            print(f"{copy.videos} videos in {copy.path.parent / 'videos'}")
    return _report_problems(copy.problems)


def _restore(options: argparse.Namespace) -> int:
    database, problems = restore(options.copy)
    print(f"the store is at {database.engine.url.render_as_string()}, its videos in {database.home / 'videos'}")
    database.close()
    return _report_problems(problems)


def _report_problems(problems: Sequence[str]) -> int:
    for problem in problems:
        print(f"storage: video {problem}", file=sys.stderr)
    return 1 if problems else 0


def _check(options: argparse.Namespace) -> int:
    database = open_database(as_is=True)
    try:
        violations = check_store(database, videos=options.videos)
    finally:
        database.close()
    if options.json:
        print(json.dumps({"violations": [vars(violation) for violation in violations]}))
    else:
        for violation in violations:
            print(violation)
        print(f"{len(violations)} violations" if violations else "all is well")
    return 1 if violations else 0


def _invite(options: argparse.Namespace) -> int:
    database = open_database()
    try:
        with database.write() as session:
            person = find_user(session, options.name) if options.name else None
            if options.name and person is None:
                raise StorageError(f"nobody is called {options.name}; without --name the link makes a new account")
            token = invite(session, options.role, created_by=None, user_id=person.id if person else None)
    finally:
        database.close()
    print(f"/invite/{token}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
