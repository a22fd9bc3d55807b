"""Stats of a video, measured without a model: sharpness, brightness, motion, size.

save_video_stats(session, [VideoStats(video.id, sharpness=812.4, brightness=0.4, motion=0.03, frames=16, file_bytes=91_020)])
video_stats(session, [video.id])
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from storage.errors import StorageError
from storage.schema import VideoStatsRow
from storage.sql import VIDEO_STATS, for_dialect, upsert

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_AT_ONCE = 1000
_MEASURED = ("sharpness", "brightness", "motion", "frames", "file_bytes")
_SAVE = upsert(VIDEO_STATS, _MEASURED)


@dataclass(frozen=True)
class VideoStats:
    """Measured on the frames that a judge sees.

    Attributes:
        sharpness: variance of the Laplacian of luma (0..255), mean over frames.
        brightness: mean luma, 0..1.
        motion: mean absolute difference of luma between neighbouring frames, 0..1.
        frames: how many were measured.
        file_bytes: size of the file.
    """

    video_id: int
    sharpness: float
    brightness: float
    motion: float
    frames: int
    file_bytes: int


def save_video_stats(session: Session, stats: Iterable[VideoStats]) -> None:
    """Store the statistics of videos, over earlier ones.

    Raises:
        StorageError: a number is not finite.
    """
    rows = [asdict(measured) for measured in stats]
    for row in rows:
        if not all(math.isfinite(row[name]) for name in _MEASURED):
            raise StorageError(f"video {row['video_id']}: only finite numbers are stored")
    if rows:
        session.execute(for_dialect(session, _SAVE), rows)


def video_stats(session: Session, video_ids: Sequence[int]) -> dict[int, VideoStats]:
    """Return the statistics of these videos by id, without those that were never measured."""
    by_id = {}
    for start in range(0, len(video_ids), _AT_ONCE):
        statement = select(VideoStatsRow).where(VideoStatsRow.video_id.in_(video_ids[start : start + _AT_ONCE]))
        by_id.update({row.video_id: stats_of(row) for row in session.scalars(statement)})
    return by_id


def stats_of(row: VideoStatsRow) -> VideoStats:
    """Convert a row of the table."""
    return VideoStats(row.video_id, row.sharpness, row.brightness, row.motion, row.frames, row.file_bytes)
