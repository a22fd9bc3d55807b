"""Files of pairs and labels into the store, with their videos checked.

    plan = plan_import(clip_store, database, Path("pairs.csv"), source="winter models")      # a dry run
    plan.pairs_new, plan.labels_new, plan.problems
    report = run_import(clip_store, database, Path("pairs.csv"), source="winter models", created_by=lead.id)

The run decodes every new video once in full before anything is kept, copies them into the managed folder, re-encodes for the
browser what it can't play, and then writes all rows in one transaction. Stopped in between, it leaves no row behind; copied
files are found again by the next run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from app.clip_store import ClipStore
from descore.video import PROCESSES, VideoError, VideoInfo, content_hash, probe
from storage import Database
from storage.exchange.exporting.stored_pairs import DIGITS
from storage.exchange.formats.detect import read_file
from storage.exchange.importing.dry_run import compare, video_by_prefix, video_ids
from storage.exchange.importing.insert import ImportCounts, insert_import
from storage.exchange.importing.resolve import ResolvedImport, clean_source
from storage.exchange.parsed import Clip, ExchangeError, ImportRefusedError, ParsedFile, ParsedPair, Problem
from storage.pairs import NewVideo

Progress = Callable[[str, int, int], None]
_EXPORTED_NAME = re.compile(rf"[0-9a-f]{{{DIGITS}}}")


class ImportCancelledError(ExchangeError):
    """The import was stopped; nothing was taken in."""


@dataclass(frozen=True)
class ImportPlan:
    """What an import would do. With `problems` it would be refused; `notes` are worth knowing and do not stop it.

    labels_new, labels_known: revisions of labels. annotators: whose labels they are.
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


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    file: str
    format: str
    source: str
    pairs_added: int
    labels_added: int
    thoughts_added: int
    videos_added: int
    notes: tuple[Problem, ...]


@dataclass(frozen=True)
class _Found:
    """What reading a file and looking for its videos has found. new: files that the store does not have, by content."""

    format: str
    resolved: ResolvedImport
    new: Mapping[str, tuple[Path, Clip, ParsedPair]]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Watch:
    """Who is told how far the work is, and who is asked whether it should stop."""

    progress: Progress | None
    cancelled: Callable[[], bool] | None

    def step(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)
        if self.cancelled is not None and self.cancelled():
            raise ImportCancelledError("the import was stopped; nothing was taken in")


def plan_import(
    clip_store: ClipStore,
    database: Database,
    path: Path,
    *,
    source: str,
    format: str | None = None,
    videos: Path | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ImportPlan:
    """What `run_import` would do; nothing is written. New videos are hashed and probed here, and not yet decoded in full.

    Raises:
        ExchangeError: the file can't be opened, its format is not known, or the source is no name.
        ImportCancelledError: `cancelled` said so.
    """
    watch = _Watch(progress, cancelled)
    found = _look(database, path, source, format, videos, watch)
    _, problems = _each(probe, found, "probing videos", watch)
    with database.read() as session:
        changes = compare(session, found.resolved)
    return ImportPlan(
        file=found.resolved.parsed.file,
        format=found.format,
        source=found.resolved.source,
        pairs_new=len(changes.new_pairs),
        pairs_known=changes.pairs_known,
        labels_new=changes.labels_new,
        labels_known=changes.labels_known,
        thoughts_new=len(changes.thoughts),
        videos_new=len(changes.new_videos),
        videos_known=changes.videos_known,
        annotators=changes.annotators,
        problems=_in_order([*changes.problems, *found.problems, *problems]),
        notes=_in_order(changes.notes),
    )


def run_import(
    clip_store: ClipStore,
    database: Database,
    path: Path,
    *,
    source: str,
    format: str | None = None,
    videos: Path | None = None,
    created_by: int | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ImportReport:
    """Take a file in, all of it or nothing.

    Args:
        source: names where the pairs come from; their labels go into the campaign "imported: SOURCE".
        format: one of `storage.exchange.formats.detect.FORMATS`, found out by default.
        videos: the folder that paths in the file start from, by default the file's own. Only with it may they be absolute.
        progress: gets what is being done, how much of it is done, and how much there is.
        cancelled: asked between videos; the import stops when it says yes.

    Raises:
        ImportRefusedError: something is wrong with the file, its videos or its labels; `problems` has all of it.
        ExchangeError: the file can't be opened, its format is not known, or the source is no name.
        ImportCancelledError: `cancelled` said so.
        StorageError: the store can't be written.
    """
    watch = _Watch(progress, cancelled)
    found = _look(database, path, source, format, videos, watch)
    checked, problems = _each(clip_store.check, found, "decoding videos", watch)
    with database.read() as session:
        changes = compare(session, found.resolved)
    problems = [*changes.problems, *found.problems, *problems]
    if problems:
        raise ImportRefusedError(_in_order(problems))
    kept = _keep(clip_store, found, checked, watch)
    with database.write() as session:
        taken = insert_import(session, found.resolved, kept, created_by=created_by)
    return _report(found, taken)


def _report(found: _Found, taken: ImportCounts) -> ImportReport:
    return ImportReport(
        file=found.resolved.parsed.file,
        format=found.format,
        source=found.resolved.source,
        pairs_added=taken.pairs,
        labels_added=taken.labels,
        thoughts_added=taken.thoughts,
        videos_added=taken.videos,
        notes=_in_order(taken.notes),
    )


def _look(database: Database, path: Path, source: str, format: str | None, videos: Path | None, watch: _Watch) -> _Found:
    """Read the file, and find each of its videos on the disk or in the store."""
    source = clean_source(source)
    name, parsed = read_file(path, format, videos)
    firsts = {clip.path: (clip, pair) for clip, pair in _clips(parsed) if clip.path is not None}
    hashes: dict[Path, str] = {}
    problems: list[Problem] = []
    for done, (file, (clip, pair)) in enumerate(firsts.items(), start=1):
        try:
            hashes[file] = _content(database, file, clip)
        except ValueError as error:
            problems.append(_video_problem(parsed, pair, clip, str(error)))
        watch.step("reading videos", done, len(firsts))
    whole = content_hash(path) if path.is_file() else hashlib.sha256("".join(sorted(hashes.values())).encode()).hexdigest()
    with database.read() as session:
        known = video_ids(session, hashes.values())
    new = {sha256: (file, *firsts[file]) for file, sha256 in hashes.items() if sha256 not in known}
    return _Found(name, ResolvedImport(parsed, source, name, whole, hashes), new, tuple(problems))


def _clips(parsed: ParsedFile) -> Iterator[tuple[Clip, ParsedPair]]:
    for pair in parsed.pairs:
        yield pair.a, pair
        yield pair.b, pair


def _content(database: Database, file: Path, clip: Clip) -> str:
    """sha256 of a video, from its file; without a file, from the store, if the table names the content of one there.

    Raises:
        ValueError: there is no such video, or it is not the one that the table means; the message says so.
    """
    if not file.is_file():
        with database.read() as session:
            if clip.sha256 is not None:
                found = clip.sha256 if video_ids(session, [clip.sha256]) else None
            else:
                found = video_by_prefix(session, file.stem) if _EXPORTED_NAME.fullmatch(file.stem) else None
        if found is None:
            raise ValueError("not found; is the folder of the videos right?")
        return found
    try:
        sha256 = content_hash(file)
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror or error}") from None
    if clip.sha256 not in (None, sha256):
        raise ValueError("its content is not the one that the table names")
    return sha256


def _each(
    work: Callable[[Path], VideoInfo], found: _Found, stage: str, watch: _Watch
) -> tuple[dict[str, VideoInfo], list[Problem]]:
    """Look at each new video, as many at a time as there are decoding processes; problems are collected."""
    infos: dict[str, VideoInfo] = {}
    problems: list[Problem] = []
    with ThreadPoolExecutor(max_workers=PROCESSES) as threads:
        due = {threads.submit(work, file): sha256 for sha256, (file, _, _) in found.new.items()}
        try:
            for done, future in enumerate(as_completed(due), start=1):
                _, clip, pair = found.new[due[future]]
                try:
                    infos[due[future]] = future.result()
                except VideoError as error:
                    problems.append(_video_problem(found.resolved.parsed, pair, clip, error.reason))
                watch.step(stage, done, len(due))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return infos, problems


def _keep(clip_store: ClipStore, found: _Found, checked: Mapping[str, VideoInfo], watch: _Watch) -> dict[str, NewVideo]:
    """Copy the checked videos into the managed folder.

    Raises:
        ImportRefusedError: a file is no longer what was checked, or can't be re-encoded.
    """
    kept: dict[str, NewVideo] = {}
    problems: list[Problem] = []
    for done, (sha256, info) in enumerate(checked.items(), start=1):
        file, clip, pair = found.new[sha256]
        try:
            kept[sha256] = clip_store.keep(file, info)
            if kept[sha256].sha256 != sha256:
                problems.append(
                    _video_problem(found.resolved.parsed, pair, clip, "was changed during the import; try again")
                )
        except VideoError as error:
            problems.append(_video_problem(found.resolved.parsed, pair, clip, error.reason))
        watch.step("copying videos", done, len(checked))
    if problems:
        raise ImportRefusedError(_in_order(problems))
    return kept


def _video_problem(parsed: ParsedFile, pair: ParsedPair, clip: Clip, reason: str) -> Problem:
    return Problem(parsed.file, pair.line, f"video {clip.name}: {reason}")


def _in_order(problems: list[Problem] | tuple[Problem, ...]) -> tuple[Problem, ...]:
    """By place in the file, each once."""
    return tuple(dict.fromkeys(sorted(problems, key=lambda one: (one.file, one.line or 0))))
