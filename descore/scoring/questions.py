"""What a table asks: each distinct video content and prompt once, whatever the number of rows and names of files.

    from concurrent.futures import ThreadPoolExecutor
    questions = Questions(read_pairs(Path("pairs.csv")), QuestionConfig("f" * 64, "quick"))
    with ThreadPoolExecutor() as threads:
        slots = list(questions.slots(threads))
    questions.of_row(0)                                     # the keys of both videos of the first row

A question's key is a hash of everything that its answer depends on: the video's bytes, the prompt, the checkpoint's content,
the mode, and in mode k number and seed of the thoughts. The name of a file or a checkpoint is no part of it.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from descore.judgement import Mode
from descore.scoring.read_ahead import read_ahead
from descore.video import VideoError, VideoMissingError, content_hash

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from descore.tables.pairs import PairTable

_HASHED_AHEAD = 64  # files


@dataclass(frozen=True)
class QuestionConfig:
    """The part of a question that all rows of a run share.

    Attributes:
        fingerprint: of the checkpoint's content, see `descore.checkpoints.folder.folder_fingerprint`.
        mode: how the videos are judged.
        k, seed: number and seed of the thoughts in mode k.
    """

    fingerprint: str
    mode: Mode
    k: int = 8
    seed: int = 0

    def key(self, video: str, prompt: str) -> str:
        """Return the question's key, 64 hexadecimal digits.

        Args:
            video: SHA-256 of the file, or its path where it can't be read.
            prompt: blanks around it don't matter, as for the model.
        """
        sampled = [self.k, self.seed] if self.mode == "k" else None
        content = json.dumps([video, prompt.strip(), self.fingerprint, self.mode, sampled])
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class VideoFile:
    """A file of the table.

    Attributes:
        path: where it is.
        sha256: of its bytes; None where it can't be read.
        signature: size and time of the last change when it was hashed.
        error: why it can't be read.
    """

    path: Path
    sha256: str | None
    signature: tuple[int, int]
    error: str | None = None

    @property
    def identity(self) -> str:
        """What stands for the video in a question."""
        return self.sha256 or f"path:{self.path}"

    @property
    def is_unchanged(self) -> bool:
        """Whether the file is still the one that was hashed."""
        try:
            return _signature(self.path) == self.signature
        except OSError:
            return False


@dataclass(frozen=True)
class Slot:
    """A distinct question in its place.

    Attributes:
        number: of the distinct question, from 0; the same in each run over the same files, whatever is known already.
        position: how many (path, prompt) of the table come before its first one.
        key: of the question.
        video: its file, the first one with that content.
        prompt: as the table has it.
    """

    number: int
    position: int
    key: str
    video: VideoFile
    prompt: str


class Questions:
    """The questions of a table, in the order in which its rows ask them.

    Attributes:
        table: the pairs.
        config: the part that all questions share.
    """

    def __init__(self, table: PairTable, config: QuestionConfig) -> None:
        self.table, self.config = table, config
        numbers: dict[tuple[str, str], int] = {}
        self._of_rows = array("q")  # two for each row
        for row in table.rows:
            for path in (row.path_a, row.path_b):
                self._of_rows.append(numbers.setdefault((path, row.prompt), len(numbers)))
        self._texts = list(numbers)
        self._keys: list[str] = []
        self._videos: dict[str, VideoFile] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def last_positions(self) -> list[int]:
        """Return for each row the position of the later one of its questions."""
        return [max(pair) for pair in zip(self._of_rows[::2], self._of_rows[1::2], strict=True)]

    def of_row(self, index: int) -> tuple[str, str]:
        """Return the keys of a row's two questions, once all slots have been walked through."""
        return self._keys[self._of_rows[2 * index]], self._keys[self._of_rows[2 * index + 1]]

    def videos_of_row(self, index: int) -> tuple[VideoFile, VideoFile]:
        """Return the files of a row, once all slots have been walked through."""
        row = self.table.rows[index]
        return self._videos[row.path_a], self._videos[row.path_b]

    def slots(self, threads: Executor) -> Iterator[Slot]:
        """Walk through the distinct questions; files are hashed ahead in `threads`."""
        self._keys.clear()
        self._videos.clear()
        folder, seen = self.table.folder, set[str]()
        paths = dict.fromkeys(path for path, _ in self._texts)
        hashed = read_ahead(threads, lambda path: hashed_file(folder / path), paths, _HASHED_AHEAD)
        for position, (path, prompt) in enumerate(self._texts):
            while path not in self._videos:
                name, video = next(hashed)
                self._videos[name] = video
            video = self._videos[path]
            key = self.config.key(video.identity, prompt)
            self._keys.append(key)
            if key not in seen:
                seen.add(key)
                yield Slot(len(seen) - 1, position, key, video, prompt)


def hashed_file(path: Path) -> VideoFile:
    """Hash a file; one that can't be read has an error in the place of its hash."""
    try:
        if not path.name or not path.is_file():
            raise VideoMissingError(path, "there is no such file; check the path")
        signature = _signature(path)
        return VideoFile(path, content_hash(path), signature)
    except (OSError, VideoError, ValueError) as error:  # ValueError: a zero byte in a name
        return VideoFile(path, None, (0, 0), str(error))


def _signature(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
