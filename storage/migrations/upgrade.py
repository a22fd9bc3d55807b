"""Migration of the tables to the version of this program, by the Alembic scripts in `storage/migrations`.

A new version of the tables: change `schema.py`, then add the next numbered file in `migrations/versions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from storage.errors import StorageError

_SCRIPTS = Path(__file__).parent
# Any constant will do, as long as every version of this program uses the same.
_POSTGRESQL_LOCK = 720_551


def upgrade(engine: Engine) -> None:
    """Create or update the tables; nothing happens when they are up to date.

    One transaction under the database's write lock, so of several processes that start together one does the
    work and the others find it done, and a migration that fails leaves the tables as they were.

    Raises:
        StorageError: the tables come from a newer version of this program, or data broke a new foreign key.
    """
    config = _config()
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        if _is_current(connection, scripts):
            return
    with _exclusive(engine) as connection:
        if _is_current(connection, scripts):
            return
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def table_versions(connection: Connection) -> tuple[str, str]:
    """Return the version of the tables ("" without any), and the newest one that this program knows."""
    heads = MigrationContext.configure(connection).get_current_heads()
    return ", ".join(sorted(heads)), ", ".join(ScriptDirectory.from_config(_config()).get_heads())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


def _is_current(connection: Connection, scripts: ScriptDirectory) -> bool:
    heads = set(MigrationContext.configure(connection).get_current_heads())
    known_revisions = {script.revision for script in scripts.walk_revisions()}
    if not heads <= known_revisions:
        newer, newest = ", ".join(sorted(heads - known_revisions)), ", ".join(scripts.get_heads())
        raise StorageError(
            f"the store was written by a newer version of this program (tables {newer}, the newest known "
            f"here are {newest}): update the program, or set DESCORE_HOME or DATABASE_URL to another store"
        )
    return heads == set(scripts.get_heads())


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    """Open a connection in a transaction that no other migration shares."""
    with engine.connect().execution_options(storage_writes=True) as connection:
        if connection.dialect.name != "sqlite":
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRESQL_LOCK})
                yield connection
            return
        # SQLite alters a table by building a new one. With foreign keys on, dropping the old one would delete
        # from it first; the switch only works outside a transaction, which SQLAlchemy's own calls would open.
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
                if broken is not None:
                    raise StorageError(f"the update would leave a row of {broken[0]} without its {broken[2]}")
        finally:
            driver.execute("PRAGMA foreign_keys = ON")
