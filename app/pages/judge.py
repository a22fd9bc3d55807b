"""The Judge page: choose or bring two videos, ask the model, see why, vote.

Handlers are thin: typed input, a call into `serving`, `clips` or `storage`, a view. The page keeps its selection in the
browser too, so that a reload comes back to the same pair and to the vote that this browser gave.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from app.clips import ClipShelf
from app.components.synced_pair import synced_pair
from app.components.verdict import Said, verdict_panel, verdict_view
from app.components.vote import vote_bar, vote_view
from app.gallery import BundledPair, gallery_strip, gallery_view
from app.serving import Served, answer
from descore.errors import CheckpointError, RewardError
from descore.events import Mode
from descore.video import VideoError
from storage import Database, NotInStore, StorageError
from storage.pairs import Pair, Video, add_pair
from storage.schema import Choice
from storage.votes import current_vote, save_vote

MODES: list[tuple[str, Mode]] = [("Think", "think"), ("Quick, no thought", "quick"), ("Several thoughts", "k")]
PLAIN_ERRORS = (VideoError, ValueError, StorageError, RewardError, CheckpointError)
QUESTIONS_AT_ONCE = 4  # on all pages together; single model calls take turns anyway
NOTE_LENGTH = 1000
_VOTER = re.compile(r"[0-9a-f]{32}")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """The two videos on the page, by public id; `bundled` is the gallery's id where they come from there."""

    a: str
    b: str
    bundled: str | None = None


class JudgePage:
    """Builds the page inside the current `gr.Blocks` and holds what its handlers need."""

    def __init__(self, served: Served, database: Database, shelf: ClipShelf, bundled: Sequence[BundledPair]) -> None:
        self.served, self.database, self.shelf = served, database, shelf
        self.bundled = {pair.id: pair for pair in bundled}
        self._running: dict[str, threading.Event] = {}

    # ---- layout --------------------------------------------------------------------------------------------------

    def build(self, blocks: gr.Blocks) -> None:
        """Lay the page out and connect its handlers."""
        # The voter's id is random and lives in this browser; nobody else can name it.
        self.saved = gr.BrowserState({}, storage_key="descore-judge", secret="descore-judge")
        self.selection = gr.State(None)
        with gr.Column(elem_id="judge-page"):
            self.strip = gallery_strip()
            self._build_own()
            self.prompt = gr.Textbox(
                label="Prompt", placeholder="What were both videos asked to show?", max_lines=4, elem_id="prompt"
            )
            self.player = synced_pair()
            self._build_controls()
            self.panel = verdict_panel()
            self.votes = vote_bar()
        self._connect(blocks)
        self._connect_api()

    def _build_own(self) -> None:
        with gr.Accordion("Two videos of your own", open=False, elem_id="own") as self.own:
            with gr.Row():
                self.own_a, self.own_b = (_upload(label) for label in ("Video A", "Video B"))
            self.use_own = gr.Button("Use these two videos", size="sm", elem_id="use-own")
            self.own_error = gr.HTML(visible=False, elem_id="own-error", apply_default_css=False)

    def _build_controls(self) -> None:
        with gr.Row(elem_id="ask"):
            self.mode = gr.Radio(MODES, value="think", label="How to ask", show_label=False, container=False, elem_id="mode")
            self.k = gr.Slider(2, 16, 8, step=1, label="thoughts", visible=False, container=False, elem_id="k")
            self.judge = gr.Button("Judge", variant="primary", elem_id="judge")
            self.cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")

    def _connect(self, blocks: gr.Blocks) -> None:
        page = [self.selection, self.strip, self.player, self.prompt, self.panel, self.votes, self.saved]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        blocks.load(self._restore, self.saved, page, **quiet)
        self.strip.select(self._choose, self.saved, page, **quiet)
        self.use_own.click(
            self._take_own,
            [self.own_a, self.own_b, self.prompt, self.saved],
            [*page, self.own_a, self.own_b, self.own, self.own_error],
            show_progress="minimal",
            api_visibility="private",
        )
        # A verdict belongs to the prompt that was judged; without a round trip, so that it can't overtake an answer.
        self.prompt.input(None, None, self.panel, js=f"() => ({json.dumps(verdict_view(Said()))})", **quiet)
        # On blur, so also before a click on Judge: another prompt is another pair, with another vote.
        self.prompt.blur(self._reword, [self.selection, self.prompt, self.saved], [self.votes, self.saved], **quiet)
        self.mode.change(lambda mode: gr.Slider(visible=mode == "k"), self.mode, self.k, queue=False, **quiet)
        self.judge.click(
            self._judge,
            [self.selection, self.prompt, self.mode, self.k],
            [self.panel, self.judge, self.cancel],
            concurrency_limit=QUESTIONS_AT_ONCE,
            concurrency_id="model",
            **quiet,
        )
        self.cancel.click(self._cancel, queue=False, **quiet)
        self.votes.vote(self._vote, [self.selection, self.prompt, self.saved], self.votes, **quiet)

    def _connect_api(self) -> None:
        """Endpoints for programs, besides the page's own handlers."""
        model: dict[str, Any] = {"concurrency_limit": QUESTIONS_AT_ONCE, "concurrency_id": "model"}
        gr.api(self.list_gallery, api_name="gallery")
        gr.api(self.judge_bundled, api_name="judge_bundled", **model)
        gr.api(self.save_vote, api_name="vote")
        # A button that nobody sees: only component inputs let a client upload its files.
        files = [_upload(label, visible=False) for label in ("Video A", "Video B")]
        texts = [gr.Textbox(visible=False), gr.Radio(MODES, value="think", visible=False), gr.Number(8, visible=False)]
        inputs, output = [*files, *texts], gr.JSON(visible=False)
        gr.Button(visible=False).click(self.judge_files, inputs, output, api_name="judge", show_progress="hidden", **model)

    # ---- choosing a pair -----------------------------------------------------------------------------------------

    def _restore(self, saved: dict[str, Any] | None) -> tuple[Any, ...]:
        """On load: the pair that this browser looked at last, else the first of the gallery."""
        saved = dict(saved or {})
        if not _VOTER.fullmatch(str(saved.get("voter"))):
            saved["voter"] = secrets.token_hex(16)
        try:
            a, b = (self.shelf.by_id(str(saved.get(side))) for side in ("a", "b"))
            return self._page(a, b, str(saved.get("prompt", "")), saved.get("bundled"), saved)
        except NotInStore:
            first = next(iter(self.bundled.values()), None)
        if first is None:
            return None, gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(), saved
        return self._page(first.a, first.b, first.prompt, first.id, saved)

    def _choose(self, saved: dict[str, Any], event: gr.EventData) -> tuple[Any, ...]:
        pair = self.bundled.get(str(event.id))
        if pair is None:
            raise gr.Error("This pair is not in the gallery any more; reload the page.", print_exception=False)
        return self._page(pair.a, pair.b, pair.prompt, pair.id, saved)

    def _take_own(self, path_a: str | None, path_b: str | None, prompt: str, saved: dict[str, Any]) -> tuple[Any, ...]:
        try:
            a, b = self._take_in(path_a, "Video A"), self._take_in(path_b, "Video B")
        except PLAIN_ERRORS as error:
            # The saved state is given back as it is: a browser state can't skip an update.
            same = [gr.skip()] * 6
            return *same, saved, *same[:3], gr.HTML(_error_line(str(error)), visible=True)
        page = self._page(a, b, prompt, None, saved)
        return *page, None, None, gr.Accordion(open=False), gr.HTML(visible=False)

    def _take_in(self, path: str | None, label: str) -> Video:
        if path is None:
            raise ValueError(f"{label} is missing: upload or record it first.")
        try:
            return self.shelf.take_in(Path(path))
        except VideoError as error:
            raise ValueError(f"{label} can't be used: {error.reason}") from error

    def _page(self, a: Video, b: Video, prompt: str, bundled: Any, saved: dict[str, Any]) -> tuple[Any, ...]:
        """All outputs that depend on the pair, in the order of `page` in `_connect`."""
        selection = Selection(a.public_id, b.public_id, str(bundled) if bundled in self.bundled else None)
        saved = saved | {"a": a.public_id, "b": b.public_id, "prompt": prompt, "bundled": selection.bundled}
        return (
            selection,
            gallery_view(list(self.bundled.values()), self.shelf, selection.bundled),
            {"a": self.shelf.view(a), "b": self.shelf.view(b)},
            prompt,
            verdict_view(Said()),
            self._vote_view(selection, prompt, saved),
            saved,
        )

    def _reword(self, selection: Selection | None, prompt: str, saved: dict[str, Any]) -> tuple[Any, ...]:
        return self._vote_view(selection, prompt, saved), saved | {"prompt": prompt}

    def _pair(self, selection: Selection | None, prompt: str) -> Pair:
        """The stored pair of the page's videos and prompt.

        Raises:
            ValueError: there is no video or no prompt yet.
        """
        if selection is None:
            raise ValueError("Choose a pair, or upload two videos first.")
        if not prompt.strip():
            raise ValueError("Write the prompt that both videos were made from.")
        a, b = self.shelf.by_id(selection.a), self.shelf.by_id(selection.b)
        with self.database.write() as session:
            return add_pair(session, a, b, prompt, source="bundled" if selection.bundled else "judge page")

    # ---- asking the model ----------------------------------------------------------------------------------------

    def _judge(
        self,
        selection: Selection | None,
        prompt: str,
        mode: Mode,
        k: int,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Stream the answer for both videos. Ends cleanly when it is cancelled or the page goes away."""
        cancel = self._begin(request.session_hash)
        said = Said(phase="running", mode=mode)
        buttons = gr.Button(interactive=False), gr.Button(interactive=True)
        try:
            pair = self._pair(selection, prompt)
            for said in answer(self.served, self.database, self.shelf, pair, mode, int(k), cancel):
                yield verdict_view(said), *buttons
                buttons = gr.skip(), gr.skip()
        except PLAIN_ERRORS as error:
            said = replace(said, phase="error", status=_plain(error))
        except Exception as error:
            log.exception("judging failed")
            said = replace(said, phase="error", status=f"The model failed: {type(error).__name__}: {error}")
        finally:
            cancel.set()
            self._end(request.session_hash, cancel)
        yield verdict_view(said), gr.Button(interactive=True), gr.Button(interactive=False)

    def _begin(self, session: str | None) -> threading.Event:
        """The stop signal of a tab's new question; an older question of the same tab is stopped."""
        cancel = threading.Event()
        before, self._running[session or ""] = self._running.get(session or ""), cancel
        if before is not None:
            before.set()
        return cancel

    def _end(self, session: str | None, cancel: threading.Event) -> None:
        if self._running.get(session or "") is cancel:
            del self._running[session or ""]

    def _cancel(self, request: gr.Request) -> None:
        running = self._running.get(request.session_hash or "")
        if running is not None:
            running.set()

    # ---- voting --------------------------------------------------------------------------------------------------

    def _vote(self, selection: Selection | None, prompt: str, saved: dict[str, Any], event: gr.EventData) -> Any:
        try:
            pair = self._pair(selection, prompt)
            self.save_vote(pair.id, str(event.choice), str(event.token), str(saved.get("voter", "")), str(event.note))
        except (*PLAIN_ERRORS, gr.Error) as error:
            return self._vote_view(selection, prompt, saved) | {"status": f"not saved: {error}"}
        return self._vote_view(selection, prompt, saved)

    def _vote_view(self, selection: Selection | None, prompt: str, saved: dict[str, Any]) -> dict[str, Any]:
        if selection is None:
            return vote_view(None, None)
        if not prompt.strip():
            return vote_view(None, None, "a vote needs the prompt")
        pair = self._pair(selection, prompt)
        with self.database.read() as session:
            return vote_view(pair.id, current_vote(session, pair.id, str(saved.get("voter", ""))))

    # ---- for programs --------------------------------------------------------------------------------------------

    def list_gallery(self) -> list[dict[str, str]]:
        """The bundled pairs: id and prompt."""
        return [{"id": pair.id, "prompt": pair.prompt} for pair in self.bundled.values()]

    def judge_bundled(self, pair: str, mode: str = "think", k: int = 8) -> dict[str, Any]:
        """Judge a bundled pair: the verdict as the command line gives it, the pair's id, whether it was stored."""
        if pair not in self.bundled:
            raise gr.Error(f"There is no bundled pair {pair!r}.", print_exception=False)
        chosen = self.bundled[pair]
        return self._verdict_of(Selection(chosen.a.public_id, chosen.b.public_id, pair), chosen.prompt, mode, k)

    def judge_files(self, path_a: str | None, path_b: str | None, prompt: str, mode: str, k: float) -> dict[str, Any]:
        """Judge two uploaded videos of one prompt; as `judge_bundled`."""
        try:
            a, b = self._take_in(path_a, "Video A"), self._take_in(path_b, "Video B")
        except PLAIN_ERRORS as error:
            raise gr.Error(str(error), print_exception=False) from error
        return self._verdict_of(Selection(a.public_id, b.public_id), prompt or "", mode, int(k))

    def save_vote(self, pair: int, choice: str, token: str, voter: str, note: str = "") -> dict[str, Any]:
        """Save a vote (A, tie, B, both_bad) on a pair; the same token again saves nothing."""
        if choice not in get_args(Choice) or not _VOTER.fullmatch(voter):
            raise gr.Error("A vote is A, tie, B or both_bad, from a voter id of 32 hex digits.", print_exception=False)
        try:
            with self.database.write() as session:
                kept = save_vote(
                    session, pair_id=int(pair), choice=choice, voter=voter, token=token, note=note[:NOTE_LENGTH]
                )
        except StorageError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return {"pair": kept.vote.pair_id, "choice": kept.vote.choice, "note": kept.vote.note, "is_new": kept.is_new}

    def _verdict_of(self, selection: Selection, prompt: str, mode: Any, k: int) -> dict[str, Any]:
        try:
            pair = self._pair(selection, prompt)
            *_, said = answer(self.served, self.database, self.shelf, pair, mode, k, threading.Event())
        except PLAIN_ERRORS as error:
            raise gr.Error(_plain(error), print_exception=False) from error
        assert said.verdict is not None
        result = said.verdict.to_json_dict()
        for video, public_id in zip(result["videos"], (selection.a, selection.b), strict=True):
            # Clients take anything with a "path" for a file to download.
            del video["path"]
            video["id"] = public_id
        return result | {"pair": pair.id, "from_store": said.from_store}


def _upload(label: str, visible: bool = True) -> gr.Video:
    # include_audio, no format, no mirror: anything else would call ffmpeg, which need not be there.
    return gr.Video(
        label=label,
        sources=["upload", "webcam"],
        include_audio=True,
        webcam_options=gr.WebcamOptions(mirror=False),
        height=220,
        visible=visible,
        elem_classes=["own-video", "side-a" if label.endswith("A") else "side-b"],
    )


def _plain(error: Exception) -> str:
    """A message without file names: they may tell which generator made a video."""
    if isinstance(error, VideoError):
        return f"A video can't be used: {error.reason}"
    if isinstance(error, NotInStore):
        return "A video of this pair is not here any more; choose or upload it again."
    return str(error)


def _error_line(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<p class="error-line" role="alert">{escaped}</p>'
