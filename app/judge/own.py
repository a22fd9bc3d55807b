"""Two videos of one's own: a box for each, dropped together or one after the other, and replaced one by one.

    panel = own_panel()                                    # the component; it triggers `take` with a and b
    own_view(clip_store, None, None, {"b": "too short"})   # its value: nothing is there, and a file was of no use

The browser uploads the files itself and names each side by the path that the upload was given, or by the id of a video that
is here already. So two files that come at about the same time can't undo each other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.clip_store import ClipStore
from app.judge.api import JudgeApi
from app.ui.assets import mount_script, read_static
from app.web.plain_errors import JUDGING_ERRORS, judging_error_text
from app.web.uploads import uploaded_file
from storage import StorageError
from storage.pairs import Video
from storage.uploads import KEPT_FOR

log = logging.getLogger(__name__)

# Leads see the pairs of all sources, and can put them into a campaign; annotators see those of their campaigns.
KEPT = (
    f"Without an account, the videos that you use here are deleted after {KEPT_FOR.days} days, unless somebody votes on "
    "them, they are put up for labelling, or a link to them is open. The people who run this app can see them and show them "
    "to annotators. Of your address only a hash is kept, to share the room fairly."
)
PLACE_OF_NOTE = "<!-- what is kept -->"
CLOSED: dict[str, Any] = {"open": False, "a": None, "b": None, "errors": {}, "turn": 0}
NOTHING: Mapping[str, str] = {}


def own_view(
    clip_store: ClipStore, a: Video | None, b: Video | None, errors: Mapping[str, str] = NOTHING, turn: int = 0
) -> dict[str, Any]:
    """Return the value of the open panel.

    Args:
        a, b: the videos that are there.
        errors: why a file could not be used, by side.
        turn: of the event that this answers; the browser counts them.
    """
    sides = {side: None if video is None else _side(clip_store, video) for side, video in (("a", a), ("b", b))}
    return {"open": True, **sides, "errors": dict(errors), "turn": turn}


def _side(clip_store: ClipStore, video: Video) -> dict[str, Any]:
    facts = f"{video.duration:.1f} s, {video.width} \N{MULTIPLICATION SIGN} {video.height}"
    return {"id": video.public_id, "poster": clip_store.poster_url(video), "facts": facts}


def own_panel(elem_id: str = "own") -> gr.HTML:
    """Build the component.

    Its events: `begin` opens the panel, `take` names a and b, each {"path": ...}, {"id": ...} or None; both have a turn.
    """
    return gr.HTML(
        CLOSED,
        html_template=read_static("judge/own.html").replace(PLACE_OF_NOTE, KEPT),
        js_on_load=mount_script("judge/own.js", ["begin", "take"]),
        apply_default_css=False,
        elem_id=elem_id,
    )


def own_video(
    api: JudgeApi, side: str, named: Mapping[str, Any], errors: dict[str, str], request: gr.Request
) -> Video | None:
    """Return the video that a browser names: a new file, else the one that was there; note why a file is of no use."""
    if "path" in named:
        try:
            path = str(uploaded_file(named["path"]))
            return api.take_in(path, api.access.visitor(request), f"Video {side.upper()}")
        except JUDGING_ERRORS as error:
            errors[side] = judging_error_text(error)
        except Exception:
            log.exception("a video could not be taken in")
            errors[side] = "This did not work. The app's log says why."
    try:
        return api.clip_store.by_id(str(named["id"])) if "id" in named else None
    except StorageError as error:
        errors.setdefault(side, judging_error_text(error))
        return None
