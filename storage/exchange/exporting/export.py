"""Pairs and labels of the store into a folder.

    report = export(database, Path("out"), "hf-dataset", source="winter models", labels="consensus", copy_videos=True)

Tables name a video by its content, as `videos/3f79c0ffee00aa11.mp4`, relative to the folder; with `copy_videos` the files
are there. A file appears under its name only when it is complete.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from storage.exchange.exporting.stored_pairs import Labels, Selection, StoredPairs, clip_name, selected_videos
from storage.exchange.format_writer import replacing
from storage.exchange.formats.detect import COMPLETE, EXPORTS, write_folder
from storage.exchange.parsed import ExchangeError
from storage.video_files import video_path

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.database import Database

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        files: names in the folder, without the videos.
        rows: number of rows of the table.
        notes: what the format can't hold, and how often.
    """

    folder: Path
    format: str
    files: tuple[str, ...]
    pairs: int
    rows: int
    videos: int
    notes: tuple[str, ...]


def export(
    database: Database,
    folder: Path,
    format: str,
    *,
    source: str | None = None,
    campaign_id: int | None = None,
    labels: Labels = "raw",
    copy_videos: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the pairs of a source, of a campaign, or all.

    Args:
        labels: "raw" for what each person said, "consensus" for the common answer of each pair by majority, "weighted" for
            the one by the annotators' reliability.
        copy_videos: the video files as well.
        progress: gets what is being done, how much of it is done, and how much there is.

    Raises:
        ExchangeError: nothing to export, unknown format, or the folder can't be written.
        NotInStoreError: a video file was removed by hand.
    """
    if format not in EXPORTS:
        raise ExchangeError(f"can't export as {format!r}; known are {', '.join(EXPORTS)}")
    if labels not in get_args(Labels):
        raise ExchangeError(f"labels are {', '.join(get_args(Labels))}, not {labels!r}")
    selection = Selection(source, campaign_id)
    with database.read() as session:
        pairs = StoredPairs(session, selection, labels, revisions=format in COMPLETE)
        if not len(pairs):
            raise ExchangeError("there are no pairs to export")
        written = write_folder(pairs, format, folder)
        videos = _copy_videos(session, database, pairs, folder, progress) if copy_videos else 0
    return ExportReport(
        folder=folder,
        format=format,
        files=tuple(written.files),
        pairs=len(pairs),
        rows=written.rows,
        videos=videos,
        notes=tuple(f"{number} {what}" for what, number in sorted(written.left_out.items())),
    )


def _copy_videos(session: Session, database: Database, pairs: StoredPairs, folder: Path, progress: Progress | None) -> int:
    """Put the original files into the folder; those that are there already stay. Returns how many there are."""
    videos = selected_videos(session, pairs)
    for done, (sha256, file) in enumerate(videos, start=1):
        original, target = video_path(file, database.home), folder / clip_name(sha256, file)
        if not target.is_file() or target.stat().st_size != original.stat().st_size:
            with replacing(target) as temporary:
                shutil.copyfile(original, temporary)
        if progress is not None:
            progress("videos", done, len(videos))
    return len(videos)
