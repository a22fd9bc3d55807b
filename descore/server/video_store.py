"""Uploaded videos on disk, under the hash of their content; the least recently used ones go when the room is needed."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from descore.server.errors import ServerError, missing_videos

_HASH = re.compile(r"[0-9a-f]{64}")
_PART = ".part"


class VideoStore:
    """A folder of videos, with a bound on all of them together. Threads may share it; processes may not."""

    def __init__(self, folder: Path, most_bytes: int, file_bytes: int) -> None:
        """Take over the videos that an earlier server left in the folder; what it had half received is removed."""
        self.folder, self._most, self.file_bytes = folder, most_bytes, file_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._sizes: OrderedDict[str, int] = OrderedDict()  # the least recently used one is first
        self._held: Counter[str] = Counter()
        self._arriving = 0  # bytes of uploads that are not kept yet
        for path in folder.glob(f"*{_PART}"):
            path.unlink(missing_ok=True)
        videos = [path for path in folder.iterdir() if _HASH.fullmatch(path.name)]
        for path in sorted(videos, key=lambda path: path.stat().st_mtime):
            self._sizes[path.name] = path.stat().st_size
        self._make_room(0)

    @property
    def bytes(self) -> int:
        """Of all videos, with those that are arriving."""
        with self._lock:
            return sum(self._sizes.values()) + self._arriving

    def size(self, video: str) -> int | None:
        """Return the bytes of a video, which counts as a use of it; None for one that is not here."""
        with self._lock:
            return self._use(video)

    @contextmanager
    def hold(self, videos: Sequence[str]) -> Iterator[list[Path]]:
        """Keep videos on disk for the length of the block; gives their paths.

        Raises:
            ServerError: some are not here; it names all of them.
        """
        with self._lock:
            missing = [video for video in dict.fromkeys(videos) if self._use(video) is None]
            if missing:
                raise missing_videos(missing)
            self._held.update(videos)
        try:
            yield [self.folder / video for video in videos]
        finally:
            with self._lock:
                self._held.subtract(videos)
                self._held += Counter()  # forgets those that nobody holds

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        """Open a place for a video that arrives; what is not kept by the end of the block is removed."""
        handle, name = tempfile.mkstemp(suffix=_PART, dir=self.folder)
        upload = Upload(self, Path(name), os.fdopen(handle, "wb"))
        try:
            yield upload
        finally:
            upload.close()

    def remove(self, video: str) -> None:
        """Remove a video that turned out to be of no use, unless somebody holds it."""
        with self._lock:
            if video in self._sizes and not self._held[video]:
                self._drop(video)

    # ---- called by uploads, and with the lock held -----------------------------------------------------------------

    def reserve(self, size: int) -> None:
        """Make room for so many more bytes of an upload.

        Raises:
            ServerError: all videos that could go are being judged.
        """
        with self._lock:
            self._make_room(size)
            self._arriving += size

    def release(self, size: int) -> None:
        """Give the room of an upload back."""
        with self._lock:
            self._arriving -= size

    def put(self, part: Path, video: str, size: int) -> None:
        """Take a received file in under its hash."""
        with self._lock:
            if self._use(video) is None:
                part.replace(self.folder / video)
                self._sizes[video] = size

    def _use(self, video: str) -> int | None:
        size = self._sizes.get(video)
        if size is None:
            return None
        try:
            os.utime(self.folder / video)  # a later server finds the order by it
        except FileNotFoundError:  # removed by hand
            del self._sizes[video]
            return None
        self._sizes.move_to_end(video)
        return size

    def _make_room(self, size: int) -> None:
        total = sum(self._sizes.values()) + self._arriving + size
        for video in [video for video in self._sizes if not self._held[video]]:
            if total <= self._most:
                return
            total -= self._sizes[video]
            self._drop(video)
        if total > self._most:
            raise ServerError(507, "full", "the store of videos is full of those that are being judged; try again later")

    def _drop(self, video: str) -> None:
        del self._sizes[video]
        (self.folder / video).unlink(missing_ok=True)


class Upload:
    """One video that arrives, piece by piece."""

    def __init__(self, store: VideoStore, path: Path, file: BinaryIO) -> None:
        self._store, self.path, self._file = store, path, file
        self._digest, self.size = hashlib.sha256(), 0

    def write(self, piece: bytes) -> None:
        """Write a piece to disk.

        Raises:
            ServerError: the video is larger than one may be, or the store is full.
        """
        if self.size + len(piece) > self._store.file_bytes:
            raise too_large(self._store.file_bytes)
        self._store.reserve(len(piece))
        self.size += len(piece)
        self._digest.update(piece)
        self._file.write(piece)

    def finish(self, expected: str | None = None) -> str:
        """Return the hash of what arrived.

        Raises:
            ServerError: nothing arrived, or another content than expected.
        """
        self._file.close()
        video = self._digest.hexdigest()
        if not self.size:
            raise ServerError(422, "video", "the video is empty: send its bytes as the body", reason="VideoEmptyError")
        if expected is not None and video != expected:
            raise ServerError(422, "hash", f"the bytes that came have the hash {video}: send the file again")
        return video

    def keep(self, video: str) -> None:
        """Take the video into the store, under the hash that `finish` returned."""
        self._store.put(self.path, video, self.size)

    def close(self) -> None:
        """Remove what was not kept."""
        self._store.release(self.size)
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)


def check_hash(video: str) -> str:
    """Return a hash as it is.

    Raises:
        ServerError: it is none.
    """
    if not _HASH.fullmatch(video):
        raise ServerError(422, "bad_request", "a video is named by the SHA-256 of its bytes, 64 digits of 0-9 and a-f")
    return video


def too_large(limit: int) -> ServerError:
    """Make the refusal of a video with more bytes than one may have."""
    return ServerError(413, "too_large", f"the video has more than {limit:,} bytes; send a shorter or smaller one")
