"""The managed folder of video files: each file once, named by the hash of its content.

    stored = store_video("upload.mp4", database.home)
    database.home / "videos" / "3f" / "3f79....mp4"

The folder lies outside anything that is served; pages get a video under its `public_id`, never under a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from storage.atomic import sha256_of
from storage.data_home import ensure_folder
from storage.errors import NotInStoreError, StorageError

_CHUNK = 1 << 20
_SUFFIX = re.compile(r"\.[a-z0-9]{1,5}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredFile:
    """A file of the managed folder. `file` is its name relative to `videos/`, as the table keeps it."""

    sha256: str
    file: str
    path: Path


def store_video(source: str | Path, home: Path) -> StoredFile:
    """Copy a file into the managed folder; the same content again is found and not copied twice.

    The copy appears under its name only when it is complete and on the disk, so a crash leaves no half file.

    Raises:
        StorageError: the source can't be read or the folder can't be written.
    """
    source = Path(source)
    folder = ensure_folder(home / "videos")
    try:
        with source.open("rb") as reader:
            handle, temporary = tempfile.mkstemp(prefix=".incoming-", dir=folder)
            try:
                with os.fdopen(handle, "wb") as writer:
                    sha256 = _copy(reader, writer)
                return _settle(Path(temporary), sha256, source.suffix.lower(), folder)
            finally:
                Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"can't store the video {source.name}: {error.strerror or error}") from error


def video_path(file: str, home: Path) -> Path:
    """Return the path of a stored file by its name in the table of videos.

    Raises:
        NotInStoreError: the file is gone, or the name leads out of the managed folder.
    """
    folder = (home / "videos").resolve()
    path = (folder / file).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise NotInStoreError(f"the video file {file} is not in the data folder: was it removed by hand?")
    return path


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's content.

    Raises:
        StorageError: it can't be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise StorageError(f"can't read {path.name}: {error.strerror or error}") from error


def playable_path(sha256: str, home: Path) -> Path:
    """Where the copy for the browser belongs, of a video that browsers can't play. The folder is created."""
    if not _HASH.fullmatch(sha256):
        raise StorageError(f"{sha256!r} is not the sha256 of a file")
    return ensure_folder(home / "playable" / sha256[:2]) / f"{sha256}.mp4"


def remove_files(file: str, sha256: str, home: Path) -> None:
    """Delete a video of the managed folder, by its name in the table of videos, and its copy for the browser.

    Raises:
        StorageError: a file can't be deleted.
    """
    try:
        with contextlib.suppress(NotInStoreError):
            video_path(file, home).unlink(missing_ok=True)
        playable_path(sha256, home).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"can't delete the video {file}: {error.strerror or error}") from error


def stored_bytes(file: str, sha256: str, home: Path) -> int:
    """Return the bytes of a video of the managed folder and of its copy for the browser."""
    copy = playable_path(sha256, home)
    return video_path(file, home).stat().st_size + (copy.stat().st_size if copy.is_file() else 0)


def _copy(reader: BinaryIO, writer: BinaryIO) -> str:
    """Copy to the disk, not only to its cache; returns the sha256 of what was copied."""
    digest = hashlib.sha256()
    while chunk := reader.read(_CHUNK):
        digest.update(chunk)
        writer.write(chunk)
    writer.flush()
    os.fsync(writer.fileno())
    return digest.hexdigest()


def _settle(temporary: Path, sha256: str, suffix: str, folder: Path) -> StoredFile:
    parent = ensure_folder(folder / sha256[:2])
    present = next(parent.glob(f"{sha256}*"), None)
    path = present or parent / (sha256 + (suffix if _SUFFIX.fullmatch(suffix) else ""))
    if present is None:
        temporary.replace(path)
    return StoredFile(sha256=sha256, file=path.relative_to(folder).as_posix(), path=path)
