"""Answers of a run in a file that only grows: one line of JSON a batch, so that a batch is there whole or not at all.

    with ResultsFile(Path("scores.csv.judgements.jsonl")) as results:
        results.append([Answer(key="0" * 64, video="f" * 64, prompt="a star", judgement=None, error="it is no video")])
        results.get("0" * 64).error

After a SIGKILL the last line may be torn; it is cut off when the file is opened. Only keys are kept in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from descore.judgement import Judgement

_HEADER = {"format": "descore-judgements", "version": 1}
_LINES_KEPT = 64
_NOT_OURS = "was not written by this command, or is damaged; move it away, or choose another --out"


@dataclass(frozen=True)
class Answer:
    """The answer to one question.

    Attributes:
        key: of the question.
        video: SHA-256 of the video, or its path where it can't be read.
        prompt: of the question.
        judgement: None where there is an error.
        error: why there is no judgement.
    """

    key: str
    video: str
    prompt: str
    judgement: Judgement | None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values. Path and seconds of a judgement belong to a call, not to the question, and are left out."""
        values: dict[str, Any] = {
            "key": self.key,
            "video": self.video,
            "prompt": self.prompt,
            "error": self.error,
            "judgement": None,
        }
        if self.judgement is not None:
            judgement = asdict(self.judgement)
            del judgement["path"], judgement["seconds"]
            values["judgement"] = judgement
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Answer:
        """Read what `to_dict` wrote."""
        judgement = values["judgement"]
        if judgement is not None:
            known = {field.name: judgement.get(field.name) for field in fields(Judgement)}
            judgement = Judgement(**{**known, "path": values["video"], "seconds": 0.0})
        return cls(values["key"], values["video"], values["prompt"], judgement, values["error"])


class ResultsFile:
    """The answers of one or more runs, by key. One process at a time may write a file."""

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        """Open a file and cut off what a crash tore.

        Args:
            path: where answers are appended; made where it does not exist.
            others: files whose answers are known too.

        Raises:
            ValueError: a file is no such file or damaged, or another process writes it.
        """
        self.path = path
        self._resources = ExitStack()
        # Where an answer stands: file, offset of its line, place in the line.
        self._places: dict[bytes, tuple[int, int, int]] = {}
        self._failed: set[bytes] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._resources.enter_context(path.open("a+b"))
        self._files: list[BinaryIO] = [self._file]
        self._lines = lru_cache(_LINES_KEPT)(self._read_line)
        try:
            _lock(self._file.fileno(), path)
            for other in others:
                self._files.append(self._resources.enter_context(other.open("rb")))
                self._index(len(self._files) - 1, other)
            whole = self._index(0, path)
            if whole == 0 and not json.dumps(_HEADER).encode().startswith(path.read_bytes()):
                raise ValueError(f"{path} {_NOT_OURS}")
            if whole < path.stat().st_size:
                os.truncate(path, whole)
            if whole == 0:
                self._write(_HEADER)
        except BaseException:
            self._resources.close()
            raise

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def has_failed(self, key: str) -> bool:
        """Whether the newest answer to a question is an error."""
        return bytes.fromhex(key) in self._failed

    def get(self, key: str) -> Answer:
        """Read an answer.

        Raises:
            KeyError: the question has none.
        """
        file, offset, index = self._places[bytes.fromhex(key)]
        return Answer.from_dict(self._lines(file, offset)[index])

    def append(self, answers: Sequence[Answer]) -> None:
        """Keep answers; they are on the disk, all or none, when this returns. Later ones replace earlier ones."""
        if answers:
            line = {"answers": [answer.to_dict() for answer in answers]}
            offset = self._write(line)
            self._note(0, offset, line["answers"])

    def take_over(self) -> None:
        """Copy the answers of the other files into this one, where they are the ones in force."""
        for number in range(1, len(self._files)):
            for offset, data in list(self._whole_lines(number))[1:]:
                answers = json.loads(data.decode("utf-8", errors="surrogatepass"))["answers"]
                places = [(number, offset, index) for index in range(len(answers))]
                keep = [
                    Answer.from_dict(answer)
                    for answer, place in zip(answers, places, strict=True)
                    if self._places[bytes.fromhex(answer["key"])] == place
                ]
                self.append(keep)

    def _write(self, line: dict[str, Any]) -> int:
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", errors="surrogatepass") + b"\n"
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())
        return offset

    def _note(self, file: int, offset: int, answers: Sequence[dict[str, Any]]) -> None:
        for index, answer in enumerate(answers):
            key, has_failed = bytes.fromhex(answer["key"]), answer["error"] is not None
            if has_failed and key in self._places and key not in self._failed:
                continue  # another shard's failure takes no answer away
            self._places[key] = file, offset, index
            (self._failed.add if has_failed else self._failed.discard)(key)

    def _index(self, number: int, path: Path) -> int:
        """Note all answers of a file; return where its whole lines end."""
        whole = 0
        for offset, data in self._whole_lines(number):
            is_last = offset + len(data) >= path.stat().st_size
            try:
                line = json.loads(data.decode("utf-8", errors="surrogatepass"))
                if offset == 0 and line != _HEADER:
                    raise ValueError("another header")
                self._note(number, offset, line["answers"] if offset else [])
            except (ValueError, KeyError, TypeError) as error:
                if is_last and offset:
                    break  # torn by a crash of the machine, which may leave zeros
                raise ValueError(f"{path} {_NOT_OURS}") from error
            whole = offset + len(data)
        return whole

    def _whole_lines(self, number: int) -> Iterator[tuple[int, bytes]]:
        file, offset = self._files[number], 0
        file.seek(0)
        for data in file:
            if data.endswith(b"\n"):
                yield offset, data
            offset += len(data)

    def _read_line(self, file: int, offset: int) -> list[dict[str, Any]]:
        self._files[file].seek(offset)
        line = json.loads(self._files[file].readline().decode("utf-8", errors="surrogatepass"))
        answers: list[dict[str, Any]] = line["answers"]
        return answers


def _lock(descriptor: int, path: Path) -> None:
    """Hold the file until it is closed or the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing keeps a second writer out there
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ValueError(f"another process writes {path}; wait for it, or choose another --out") from error
