"""Staging of uploaded files for an import: one private folder, archives unpacked.

    staged = stage([Path("pairs.zip")], database.home, owner=lead.id)
    plan_import(database, staged.path, source="winter models")
    staged.discard()

An upload is moved out of Gradio's own folder, which anybody who knows a file's address could read from.
"""

from __future__ import annotations

import lzma
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.data_home import ensure_folder
from storage.exchange.parsed import ExchangeError

INCOMING, IMPORTS = "incoming", "imports"
TABLES = (".csv", ".json", ".jsonl", ".parquet")
LARGEST_UNPACKED = 32 << 30  # bytes
MOST_FILES = 200_000
_LONGEST_REASON = 300  # characters


@dataclass(frozen=True)
class Staged:
    """Uploaded files in a private folder."""

    folder: Path
    path: Path  # the table or folder to import
    names: tuple[str, ...]  # of the uploaded files

    def discard(self) -> None:
        """Remove the files; imported videos are copies."""
        shutil.rmtree(self.folder, ignore_errors=True)


def stage(files: Sequence[Path], home: Path, owner: int) -> Staged:
    """Move uploaded files into a folder of their own; remove earlier uploads of the same person.

    Raises:
        ExchangeError: a file can't be read or unpacked, two have the same name, or there are several tables.
    """
    incoming = ensure_folder(home / INCOMING)
    for earlier in incoming.glob(f"{owner}-*"):
        shutil.rmtree(earlier, ignore_errors=True)
    folder = ensure_folder(incoming / f"{owner}-{secrets.token_hex(8)}")
    try:
        for file in files:
            _take(file, folder)
        return Staged(folder, table_in(folder), tuple(file.name for file in files))
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise ExchangeError(f"The upload can't be stored: {error.strerror or error}.") from error
        raise


def table_in(folder: Path) -> Path:
    """Return the path to import: the one table in a folder, else the folder itself.

    Raises:
        ExchangeError: there are several tables.
    """
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    if len(inside) == 1 and inside[0].is_dir():
        return table_in(inside[0])
    tables = [path for path in inside if path.suffix.lower() in TABLES and path.name != "prompts.csv"]
    if len(tables) > 1:
        names = ", ".join(sorted(path.name for path in tables))
        raise ExchangeError(f"Upload one table at a time (got {names}).")
    return tables[0] if tables else folder


def import_folders(home: Path) -> tuple[str, ...]:
    """List the tables and folders in the folder for imports; archives are left out."""
    folder = ensure_folder(home / IMPORTS)
    importable = (path for path in folder.iterdir() if path.is_dir() or path.suffix.lower() in TABLES)
    return tuple(sorted(path.name for path in importable if not path.name.startswith(".")))


def import_path(home: Path, name: str) -> Path:
    """Return the table or folder of that name in the folder for imports.

    Raises:
        ExchangeError: there is none.
    """
    if name not in import_folders(home):
        raise ExchangeError(f"{name!r} is no longer in the folder {IMPORTS}. Reload the page.")
    path = home / IMPORTS / name
    return table_in(path) if path.is_dir() else path


def _take(file: Path, folder: Path) -> None:
    if file.suffix.lower() == ".zip":
        _unpack(file, folder)
        file.unlink()
        return
    target = folder / file.name
    if target.exists():
        raise ExchangeError(f"Two files are named {file.name}.")
    shutil.move(file, target)


def _unpack(file: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > MOST_FILES or sum(member.file_size for member in members) > LARGEST_UNPACKED:
                raise ExchangeError(
                    f"{file.name} is too large when unpacked. Put its files into the folder {IMPORTS} of the data folder."
                )
            archive.extractall(folder)  # keeps all members below the folder, and makes no links
    # Damaged archives raise whatever their inner readers raise, zlib, lzma and bz2 (an OSError without a number), and
    # names that are not UTF-8 (a ValueError) or empty (an IndexError).
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        OSError,
    ) as error:
        if isinstance(error, ExchangeError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        reason = str(error)[:_LONGEST_REASON] or type(error).__name__  # it may repeat a name of kilobytes
        raise ExchangeError(f"{file.name} can't be unpacked: {reason}") from error
