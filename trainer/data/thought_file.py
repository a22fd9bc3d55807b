"""The JSON Lines file of collected thoughts: one line a pair, appended as they come.

with ThoughtFile(path) as file:                  # a line that was cut off by a crash is taken away
    file.add(PairThoughts(pair.identity, pair.contents, by="teacher gpt-x", thoughts=thoughts))
read_thoughts(path)[pair.identity].about(pair.contents)

{"identity": ..., "contents": [sha256 A, sha256 B], "by": "teacher gpt-x", "thoughts": ["<think>...", "<think>..."],
 "whole": true, "prompt_tokens": 3120, "completion_tokens": 911, "seconds": 8.1}
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from storage.errors import StorageError


@dataclass(frozen=True)
class PairThoughts:
    """Thoughts about the two videos of a pair.

    Attributes:
        contents: sha256 of the videos, in the order of the thoughts.
        by: the model that wrote them.
        whole: neither was cut off at the limit.
        prompt_tokens: of both requests, failed attempts included.
        completion_tokens: likewise.
        seconds: likewise.
    """

    identity: str
    contents: tuple[str, str]
    by: str
    thoughts: tuple[str, str]
    whole: bool = True
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def about(self, contents: tuple[str, str]) -> tuple[str, str]:
        """Return the thoughts in the order of these videos."""
        return self.thoughts if contents == self.contents else self.thoughts[::-1]


class ThoughtFile:
    """A file to append thoughts to.

    Attributes:
        known: the thoughts that it held when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, and cut off an unfinished last line.

        Raises:
            StorageError: it can't be written, or holds something else than thoughts.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            written = path.read_bytes() if path.exists() else b""
            whole = written[: written.rfind(b"\n") + 1]
            self.known = _parsed(path, whole)
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(len(whole))
            self._file.seek(len(whole))
        except OSError as error:
            raise StorageError(f"can't write the thoughts to {path}: {error.strerror or error}") from error

    def add(self, thoughts: PairThoughts) -> None:
        """Append one line; it is on the disk when this returns."""
        self._file.write((json.dumps(asdict(thoughts), ensure_ascii=False) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> ThoughtFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def read_thoughts(path: Path) -> dict[str, PairThoughts]:
    """Read the whole thoughts by identity of their pair; the last line of a pair counts.

    Raises:
        StorageError: the file can't be read, or holds something else.
    """
    return {thoughts.identity: thoughts for thoughts in read_lines(path) if thoughts.whole}


def read_lines(path: Path) -> list[PairThoughts]:
    """Read all thoughts of a file, those that were cut off at the limit too; an unfinished last line is passed over.

    Raises:
        StorageError: as `read_thoughts`.
    """
    try:
        written = path.read_bytes()
    except OSError as error:
        raise StorageError(f"can't read the thoughts in {path}: {error.strerror or error}") from error
    return _parsed(path, written[: written.rfind(b"\n") + 1])


def _parsed(path: Path, written: bytes) -> list[PairThoughts]:
    thoughts = []
    for number, line in enumerate(written.splitlines(), start=1):
        try:
            values = json.loads(line)
            a, b = values.pop("thoughts")
            first, second = values.pop("contents")
            thoughts.append(PairThoughts(thoughts=(a, b), contents=(first, second), **values))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(f"{path.name}:{number} is no line of thoughts: {error}") from error
    return thoughts
