"""The store's videos as a browser sees them: checked and kept, then served under opaque ids with HTTP Range.

    clip_store = ClipStore(database)
    video = clip_store.take_in(uploaded_path)     # decoded once, copied into the managed folder
    clip_store.original(video)                    # the path that the model reads
    clip_store.view(video)                        # for a page: an opaque address, frame rate, duration

A page never gets a path or a file name: they may tell which generator made a video.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from descore.video import (
    JUDGING,
    FramePolicy,
    Lane,
    VideoError,
    VideoInfo,
    content_hash,
    make_playable,
    probe,
    read_clip,
    validate_full,
)
from storage import Database, NotInStoreError, StorageError
from storage.accounts.users import User
from storage.labelling.blind import may_fetch
from storage.pairs import NewVideo, Pair, Video, add_new_video, video_by_public_id
from storage.uploads import QUOTA, UploadQuota, add_upload, discard_files, origin_key, require_room, upload_bytes, use_again
from storage.video_files import playable_path, store_video, video_path

ROUTE = "/clips"
BLIND = "This video is being labelled blind: until its campaign is closed only those who label it, leads and viewers see it."
POSTER_SIDE = 320  # pixels
_FEW_FRAMES = FramePolicy(min_frames=3, max_frames=3, max_pixels_per_frame=POSTER_SIDE**2)  # the second is the middle one
_PUBLIC_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_HEADERS = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}
_MEDIA_TYPES = {".webm": "video/webm", ".ogv": "video/ogg"}


class ClipStore:
    """The videos of one store."""

    def __init__(self, database: Database, quota: UploadQuota = QUOTA) -> None:
        """Set the bytes that people without an account may have in the store."""
        self._database, self._quota = database, quota

    def take_in(self, path: Path, lane: Lane = JUDGING, anonymous: str | None = None) -> Video:
        """Decode a file once in full and keep it by its content; the same content again is found and not copied.

        Args:
            path: the file.
            lane: whose processes decode it.
            anonymous: where somebody without an account sent it from; it counts against the quota of that origin, and is
                kept for a limited time.

        Raises:
            descore.video.VideoError: not a readable video; nothing of it is kept.
            UploadQuotaError: there is no room for it; nothing of it is kept.
            StorageError: the store can't be written.
        """
        sha256 = content_hash(path)
        known = use_again(self._database, sha256, has_account=anonymous is None)
        if known is not None:
            return known
        if anonymous is None:
            return self._add(self.keep(path, self.check(path, lane), lane))
        origin = origin_key(anonymous, self._database.home)
        with self._database.read() as session:
            require_room(session, origin, path.stat().st_size, self._quota)
        video = self.keep(path, self.check(path, lane), lane)
        try:
            with self._database.write() as session:
                # Counted again: the copy for the browser takes room, too, and others were quicker perhaps.
                return add_upload(session, video, origin, upload_bytes(video, self._database.home), self._quota)
        except StorageError:
            discard_files(self._database, video)
            raise

    def check(self, path: Path, lane: Lane = JUDGING) -> VideoInfo:
        """Probe a file and decode it once in full, in the processes of `lane`; nothing is kept.

        Raises:
            descore.video.VideoError: not a readable video.
        """
        info = probe(path, lane=lane)
        validate_full(path, lane=lane)
        return info

    def keep(self, path: Path, info: VideoInfo, lane: Lane = JUDGING) -> NewVideo:
        """Copy a checked file into the managed folder, with a copy for the browser where it needs one (made in `lane`).

        Raises:
            descore.video.VideoError: it can't be re-encoded.
            StorageError: the folder can't be written.
        """
        stored = store_video(path, self._database.home)
        video = NewVideo(
            sha256=stored.sha256,
            file=stored.file,
            original_name=path.name,
            width=info.width,
            height=info.height,
            fps=info.fps,
            duration=info.duration,
        )
        if not info.browser_playable:
            try:
                make_playable(stored.path, playable_path(stored.sha256, self._database.home), lane=lane)
            except VideoError:
                discard_files(self._database, video)
                raise
        return video

    def _add(self, video: NewVideo) -> Video:
        with self._database.write() as session:
            return add_new_video(session, video)

    def by_id(self, public_id: str) -> Video:
        """Return the video that a page names.

        Raises:
            NotInStoreError: there is no video with this id.
        """
        if not _PUBLIC_ID.fullmatch(public_id):  # what no column can hold must not reach the database
            raise NotInStoreError("no video under this id")
        with self._database.read() as session:
            return video_by_public_id(session, public_id)

    def original(self, video: Video) -> Path:
        """Return the file as it was uploaded or imported.

        Raises:
            NotInStoreError: the file was removed by hand.
        """
        return video_path(video.file, self._database.home)

    def shown(self, video: Video) -> Path:
        """Return the file that a browser can play: the re-encoded copy where there is one, else the original."""
        copy = playable_path(video.sha256, self._database.home)
        return copy if copy.is_file() else self.original(video)

    def view(self, video: Video) -> dict[str, Any]:
        """Return one side of the pair player's value."""
        return {"url": f".{ROUTE}/{video.public_id}", "fps": round(video.fps, 3), "duration": round(video.duration, 3)}

    def poster_url(self, video: Video) -> str:
        """Return the address of a still picture of the video's middle."""
        return f".{ROUTE}/{video.public_id}/poster"

    def pair_view(self, pair: Pair) -> dict[str, Any]:
        """Return the value of the pair player."""
        return {"a": self.view(pair.video_a), "b": self.view(pair.video_b)}

    def poster_urls(self, pairs: Iterable[Pair]) -> dict[int, tuple[str, str]]:
        """Return the addresses of both still pictures by pair id."""
        return {pair.id: (self.poster_url(pair.video_a), self.poster_url(pair.video_b)) for pair in pairs}

    def routes(self, person_of: Callable[[Request], User | None]) -> list[BaseRoute]:
        """Return the web routes for videos and posters, for the app that Gradio launches.

        Args:
            person_of: who is signed in. A clip of a blind campaign is for leads, viewers and those who got it to label.
        """

        def guarded(serve: Callable[[Video], Response]) -> Callable[[Request], Response]:
            def answer(request: Request) -> Response:
                try:
                    video = self.by_id(request.path_params["public_id"])
                    if not self._may_fetch(video, person_of(request)):
                        return PlainTextResponse(BLIND, status_code=403, headers={"Cache-Control": "no-store"})
                    return serve(video)
                except NotInStoreError:
                    return PlainTextResponse("no such video", status_code=404)

            return answer

        return [
            Route(f"{ROUTE}/{{public_id}}", guarded(self.serve), methods=["GET"]),
            Route(f"{ROUTE}/{{public_id}}/poster", guarded(self._serve_poster), methods=["GET"]),
        ]

    def _may_fetch(self, video: Video, person: User | None) -> bool:
        if person is not None and person.role in ("lead", "viewer"):  # who read all figures, and a viewer labels nothing
            return True
        with self._database.read() as session:
            return may_fetch(session, video.id, None if person is None else person.id)

    def serve(self, video: Video) -> Response:
        """Return the answer that holds a video, or the range of it that was asked for.

        Raises:
            NotInStoreError: its file was removed by hand.
        """
        path = self.shown(video)
        return FileResponse(path, media_type=_MEDIA_TYPES.get(path.suffix, "video/mp4"), headers=_HEADERS)

    def _serve_poster(self, video: Video) -> Response:
        try:
            picture = _poster(self.shown(video))
        except VideoError:
            return PlainTextResponse("no still picture", status_code=404, headers={"Cache-Control": "no-store"})
        return Response(picture, media_type="image/jpeg", headers=_HEADERS)


@lru_cache(maxsize=512)
def _poster(path: Path) -> bytes:
    """Return a JPEG of a video's middle frame; like every video it is decoded in a process of its own.

    Raises:
        descore.video.VideoError: the file can't be used.
    """
    frames = read_clip(path, _FEW_FRAMES).frames
    image = Image.fromarray(frames[len(frames) // 2])
    image.thumbnail((POSTER_SIDE, POSTER_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
