"""Videos and pairs. Adding what is there already returns what is there."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, or_, select

from descore.prompt import prompt_problem
from storage.errors import NotInStoreError, TextError
from storage.schema import PairRow, VideoRow, text_hash
from storage.sql import insert_or_get

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

OWN_SOURCE = "judge page"  # of pairs that somebody put together there


@dataclass(frozen=True)
class Video:
    """A stored video.

    Attributes:
        public_id: random and url-safe, the name under which a browser gets it.
        file: relative to the managed folder, see `storage.video_files.video_path`.
        original_name: may tell which generator made it; never show it before a label is saved.
        duration: in seconds.
    """

    id: int
    public_id: str
    sha256: str
    file: str
    original_name: str
    width: int
    height: int
    fps: float
    duration: float
    created_at: datetime


@dataclass(frozen=True)
class NewVideo:
    """What the store keeps of a file that was checked and copied into the managed folder; see `Video`."""

    sha256: str
    file: str
    original_name: str
    width: int
    height: int
    fps: float
    duration: float


@dataclass(frozen=True)
class Pair:
    """Two videos of one prompt, in the order in which they came.

    Attributes:
        generator_a, generator_b: which model made each video, where a file said so: never show them before a label is saved.
        extra_columns: other columns of the imported file, by name, to be given back on export.
    """

    id: int
    video_a: Video
    video_b: Video
    prompt: str
    source: str
    created_at: datetime
    generator_a: str | None = None
    generator_b: str | None = None
    extra_columns: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def videos(self) -> tuple[Video, ...]:
        """Video A and video B."""
        return self.video_a, self.video_b


def add_video(
    session: Session,
    *,
    sha256: str,
    file: str,
    original_name: str,
    width: int,
    height: int,
    fps: float,
    duration: float,
) -> Video:
    """Add a video of the managed folder; one of the same content keeps its id and its first name."""
    row = VideoRow(
        public_id=secrets.token_urlsafe(16),
        sha256=sha256,
        file=file,
        original_name=original_name,
        width=width,
        height=height,
        fps=fps,
        duration=duration,
    )
    return _video(insert_or_get(session, row, select(VideoRow).where(VideoRow.sha256 == sha256)))


def add_new_video(session: Session, video: NewVideo) -> Video:
    """`add_video` for a file that was prepared before the transaction began."""
    return add_video(session, **asdict(video))


def find_video(session: Session, sha256: str) -> Video | None:
    """Return the video with this content."""
    row = session.scalars(select(VideoRow).where(VideoRow.sha256 == sha256)).one_or_none()
    return None if row is None else _video(row)


def video_by_public_id(session: Session, public_id: str) -> Video:
    """Return the video that a browser asks for.

    Raises:
        NotInStoreError: there is none.
    """
    row = session.scalars(select(VideoRow).where(VideoRow.public_id == public_id)).one_or_none()
    if row is None:
        raise NotInStoreError("no video under this id")
    return _video(row)


def add_pair(
    session: Session,
    video_a: Video,
    video_b: Video,
    prompt: str,
    source: str,
    *,
    generator_a: str | None = None,
    generator_b: str | None = None,
    extra_columns: Mapping[str, Any] | None = None,
) -> Pair:
    """Add a pair, or return the one with the same videos in this order and the same prompt, unchanged.

    Raises:
        TextError: a prompt that is empty, too long or holds control characters, see `descore.prompt`.
    """
    problem = prompt_problem(prompt)
    if problem is not None:
        raise TextError(f"the prompt {problem}")
    prompt = prompt.strip()
    row = PairRow(
        video_a_id=video_a.id,
        video_b_id=video_b.id,
        prompt=prompt,
        prompt_hash=text_hash(prompt),
        source=source,
        generator_a=generator_a,
        generator_b=generator_b,
        facts=dict(extra_columns or {}),
    )
    return _pair(insert_or_get(session, row, _same(row.video_a_id, row.video_b_id, row.prompt_hash)))


def find_pair(session: Session, video_a: Video, video_b: Video, prompt: str) -> Pair | None:
    """Return the pair of these videos in this order and this prompt."""
    row = session.scalars(_same(video_a.id, video_b.id, text_hash(prompt))).one_or_none()
    return None if row is None else _pair(row)


def get_pair(session: Session, pair_id: int) -> Pair:
    """Return a pair by its id.

    Raises:
        NotInStoreError: there is none.
    """
    row = session.get(PairRow, pair_id)
    if row is None:
        raise NotInStoreError(f"there is no pair {pair_id}")
    return _pair(row)


def sources_of(session: Session, video_ids: Collection[int]) -> set[str]:
    """Return the sources of all pairs in which one of these videos stands."""
    of_videos = or_(PairRow.video_a_id.in_(video_ids), PairRow.video_b_id.in_(video_ids))
    return set(session.scalars(select(PairRow.source).where(of_videos).distinct()))


def list_pairs(session: Session, source: str) -> tuple[Pair, ...]:
    """List the pairs of one source, oldest first."""
    rows = session.scalars(select(PairRow).where(PairRow.source == source).order_by(PairRow.id))
    return tuple(_pair(row) for row in rows)


def _same(video_a_id: int, video_b_id: int, prompt_hash: str) -> Select[Any]:
    return select(PairRow).where(
        PairRow.video_a_id == video_a_id, PairRow.video_b_id == video_b_id, PairRow.prompt_hash == prompt_hash
    )


def _video(row: VideoRow) -> Video:
    return Video(
        id=row.id,
        public_id=row.public_id,
        sha256=row.sha256,
        file=row.file,
        original_name=row.original_name,
        width=row.width,
        height=row.height,
        fps=row.fps,
        duration=row.duration,
        created_at=row.created_at,
    )


def _pair(row: PairRow) -> Pair:
    return Pair(
        id=row.id,
        video_a=_video(row.video_a),
        video_b=_video(row.video_b),
        prompt=row.prompt,
        source=row.source,
        created_at=row.created_at,
        generator_a=row.generator_a,
        generator_b=row.generator_b,
        extra_columns=row.facts,
    )
