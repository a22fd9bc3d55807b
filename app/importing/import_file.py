"""Import of a file of pairs and labels, with its videos checked.

    plan = plan_import(database, Path("pairs.csv"), source="winter models")      # a dry run
    plan.pairs_new, plan.labels_new, plan.problems, plan.columns.unused
    report = run_import(clip_store, database, Path("pairs.csv"), source="winter models", created_by=lead.id)

An import decodes every new video once in full before anything is kept, copies the videos into the managed folder, re-encodes
those that a browser can't play, and writes all rows in one transaction. Stopped in between, it leaves no row behind; the
next import finds the copied files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.clip_store import ClipStore
from descore.video import IMPORTS, VideoError, VideoInfo, content_hash, probe
from descore.video.worker_pool import PROCESSES
from storage import Database
from storage.exchange.column_use import ColumnUse
from storage.exchange.exporting.stored_pairs import DIGITS
from storage.exchange.formats.detect import read_file
from storage.exchange.importing.dry_run import compare, video_by_prefix, video_ids
from storage.exchange.importing.insert import ImportCounts, insert_import
from storage.exchange.importing.resolve import ResolvedImport, clean_source
from storage.exchange.parsed import Clip, ExchangeError, ImportRefusedError, ParsedFile, ParsedPair, Problem
from storage.pairs import NewVideo
from storage.uploads import keep_for_good

Progress = Callable[[str, int, int], None]
_LONGEST_NAME = 300  # characters of a video's name in a message
_EXPORTED_NAME = re.compile(rf"[0-9a-f]{{{DIGITS}}}")


class ImportCancelledError(ExchangeError):
    """The import was stopped; nothing was imported."""


@dataclass(frozen=True)
class ImportPlan:
    """A dry run: what an import would do.

    Attributes:
        file, format, source: of the import.
        pairs_new, pairs_known: pairs.
        labels_new, labels_known: revisions of labels.
        thoughts_new: thoughts.
        videos_new, videos_known: videos.
        annotators: the names on the labels.
        problems: with any of them the import is refused.
        notes: messages that do not stop it.
        columns: what the columns of its table are taken for.
    """

    file: str
    format: str
    source: str
    pairs_new: int
    pairs_known: int
    labels_new: int
    labels_known: int
    thoughts_new: int
    videos_new: int
    videos_known: int
    annotators: tuple[str, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    columns: ColumnUse


@dataclass(frozen=True)
class ImportReport:
    """The counts of an import, and what the columns of its table were taken for."""

    file: str
    format: str
    source: str
    pairs_added: int
    labels_added: int
    thoughts_added: int
    videos_added: int
    notes: tuple[Problem, ...]
    columns: ColumnUse


@dataclass(frozen=True)
class _ReadFile:
    """A file that was read, and its videos.

    Attributes:
        new: by sha256, the videos that the store does not have.
    """

    format: str
    resolved: ResolvedImport
    new: Mapping[str, tuple[Path, Clip, ParsedPair]]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Callbacks:
    """The caller's functions: one receives the progress, the other says whether to stop."""

    progress: Progress | None
    cancelled: Callable[[], bool] | None

    def step(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)
        if self.cancelled is not None and self.cancelled():
            raise ImportCancelledError("The import was stopped. Nothing was imported.")


def plan_import(
    database: Database,
    path: Path,
    *,
    source: str,
    format: str | None = None,
    videos: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    words: Mapping[str, int] | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ImportPlan:
    """Try an import without writing anything. New videos are hashed and probed here, and not decoded in full.

    Raises:
        ExchangeError: the file can't be opened, its format is not known, or the source is no name.
        ImportCancelledError: `cancelled` returned True.
    """
    callbacks = _Callbacks(progress, cancelled)
    read = _read(database, path, source, partial(read_file, path, format, videos, mapping, words), callbacks)
    _, problems = _check_videos(partial(probe, lane=IMPORTS), read, "probing videos", callbacks)
    with database.read() as session:
        changes = compare(session, read.resolved)
    return ImportPlan(
        file=read.resolved.parsed.file,
        format=read.format,
        source=read.resolved.source,
        pairs_new=len(changes.new_pairs),
        pairs_known=changes.pairs_known,
        labels_new=changes.labels_new,
        labels_known=changes.labels_known,
        thoughts_new=len(changes.thoughts),
        videos_new=len(changes.new_videos),
        videos_known=changes.videos_known,
        annotators=changes.annotators,
        problems=_in_order([*changes.problems, *read.problems, *problems]),
        notes=_in_order(changes.notes),
        columns=read.resolved.parsed.columns,
    )


def run_import(
    clip_store: ClipStore,
    database: Database,
    path: Path,
    *,
    source: str,
    format: str | None = None,
    videos: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    words: Mapping[str, int] | None = None,
    created_by: int | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ImportReport:
    """Import a file, all of it or nothing.

    Args:
        source: names where the pairs come from; their labels go into the campaign "imported: SOURCE".
        format: one of `storage.exchange.formats.detect.FORMATS`, detected by default.
        videos: the folder that paths in the file start from, by default the file's own. Only with it may they be absolute.
        mapping: which column has which role, where its name does not say so; `storage.exchange.column_use.ROLES`.
        words: meanings (+1 A, -1 B, 0 a tie) of further words in the column of labels.
        progress: called with the present stage, how much of it is done, and how much there is.
        cancelled: called between videos; the import stops when it returns True.

    Raises:
        ImportRefusedError: something is wrong with the file, its videos or its labels; `problems` has all of it.
        ExchangeError: the file can't be opened, its format is not known, or the source is no name.
        ImportCancelledError: `cancelled` returned True.
        StorageError: the store can't be written.
    """
    callbacks = _Callbacks(progress, cancelled)
    read = _read(database, path, source, partial(read_file, path, format, videos, mapping, words), callbacks)
    with database.write() as session:
        keep_for_good(session, read.resolved.hashes.values())
    checked, problems = _check_videos(partial(clip_store.check, lane=IMPORTS), read, "decoding videos", callbacks)
    with database.read() as session:
        changes = compare(session, read.resolved)
    problems = [*changes.problems, *read.problems, *problems]
    if problems:
        raise ImportRefusedError(_in_order(problems))
    kept = _keep(clip_store, read, checked, callbacks)
    with database.write() as session:
        taken = insert_import(session, read.resolved, kept, created_by=created_by)
    return _report(read, taken)


def _report(read: _ReadFile, taken: ImportCounts) -> ImportReport:
    return ImportReport(
        file=read.resolved.parsed.file,
        format=read.format,
        source=read.resolved.source,
        pairs_added=taken.pairs,
        labels_added=taken.labels,
        thoughts_added=taken.thoughts,
        videos_added=taken.videos,
        notes=_in_order(taken.notes),
        columns=read.resolved.parsed.columns,
    )


def _read(
    database: Database, path: Path, source: str, read_file: Callable[[], tuple[str, ParsedFile]], callbacks: _Callbacks
) -> _ReadFile:
    """Read the file, and find each of its videos on the disk or in the store."""
    source = clean_source(source)
    name, parsed = read_file()
    firsts = {clip.path: (clip, pair) for clip, pair in _clips(parsed) if clip.path is not None}
    hashes: dict[Path, str] = {}
    problems: list[Problem] = []
    for done, (file, (clip, pair)) in enumerate(firsts.items(), start=1):
        try:
            hashes[file] = _content(database, file, clip)
        except ValueError as error:
            problems.append(_video_problem(parsed, pair, clip, str(error)))
        callbacks.step("reading videos", done, len(firsts))
    whole = content_hash(path) if path.is_file() else hashlib.sha256("".join(sorted(hashes.values())).encode()).hexdigest()
    with database.read() as session:
        known = video_ids(session, hashes.values())
    new = {sha256: (file, *firsts[file]) for file, sha256 in hashes.items() if sha256 not in known}
    return _ReadFile(name, ResolvedImport(parsed, source, name, whole, hashes), new, tuple(problems))


def _clips(parsed: ParsedFile) -> Iterator[tuple[Clip, ParsedPair]]:
    for pair in parsed.pairs:
        yield pair.a, pair
        yield pair.b, pair


def _content(database: Database, file: Path, clip: Clip) -> str:
    """Return the sha256 of a video: of its file, else of the video in the store that the table names by its content.

    Raises:
        ValueError: there is no such video, or another one than the table names; the message says which.
    """
    try:
        is_there = file.is_file()
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise ValueError(f"can't be read: {error.strerror or error}") from None
    if not is_there:
        with database.read() as session:
            if clip.sha256 is not None:
                found = clip.sha256 if video_ids(session, [clip.sha256]) else None
            else:
                found = video_by_prefix(session, file.stem) if _EXPORTED_NAME.fullmatch(file.stem) else None
        if found is None:
            raise ValueError("not found; check the folder of the videos")
        return found
    try:
        sha256 = content_hash(file)
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror or error}") from None
    if clip.sha256 not in (None, sha256):
        raise ValueError("its content differs from the sha256 in the table")
    return sha256


def _check_videos(
    work: Callable[[Path], VideoInfo], read: _ReadFile, stage: str, callbacks: _Callbacks
) -> tuple[dict[str, VideoInfo], list[Problem]]:
    """Check each new video, as many at a time as there are decoding processes, and collect the problems."""
    infos: dict[str, VideoInfo] = {}
    problems: list[Problem] = []
    with ThreadPoolExecutor(max_workers=PROCESSES) as threads:
        due = {threads.submit(work, file): sha256 for sha256, (file, _, _) in read.new.items()}
        try:
            for done, future in enumerate(as_completed(due), start=1):
                _, clip, pair = read.new[due[future]]
                try:
                    infos[due[future]] = future.result()
                except VideoError as error:
                    problems.append(_video_problem(read.resolved.parsed, pair, clip, error.reason))
                callbacks.step(stage, done, len(due))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return infos, problems


def _keep(
    clip_store: ClipStore, read: _ReadFile, checked: Mapping[str, VideoInfo], callbacks: _Callbacks
) -> dict[str, NewVideo]:
    """Copy the checked videos into the managed folder.

    Raises:
        ImportRefusedError: a file is no longer what was checked, or can't be re-encoded.
    """
    kept: dict[str, NewVideo] = {}
    problems: list[Problem] = []
    for done, (sha256, info) in enumerate(checked.items(), start=1):
        file, clip, pair = read.new[sha256]
        try:
            kept[sha256] = clip_store.keep(file, info, IMPORTS)
            if kept[sha256].sha256 != sha256:
                problems.append(_video_problem(read.resolved.parsed, pair, clip, "was changed during the import; try again"))
        except VideoError as error:
            problems.append(_video_problem(read.resolved.parsed, pair, clip, error.reason))
        callbacks.step("copying videos", done, len(checked))
    if problems:
        raise ImportRefusedError(_in_order(problems))
    return kept


def _video_problem(parsed: ParsedFile, pair: ParsedPair, clip: Clip, reason: str) -> Problem:
    name = clip.name if len(clip.name) <= _LONGEST_NAME else f"{clip.name[:_LONGEST_NAME]}..."
    return Problem(parsed.file, pair.line, f"video {name}: {reason}")


def _in_order(problems: list[Problem] | tuple[Problem, ...]) -> tuple[Problem, ...]:
    """Sort by file and line, and drop repetitions."""
    return tuple(dict.fromkeys(sorted(problems, key=lambda problem: (problem.file, problem.line or 0))))
