"""The Judge page: choose or upload two videos, ask the model, see why, vote.

Handlers are thin: typed input, a call into `serving`, `clip_store` or `storage`, a view. The page keeps its selection in the
browser too, so that a reload comes back to the same pair and to the vote that this browser gave.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from app.judge.api import (
    MODEL_QUEUE,
    MODES,
    MOST_THOUGHTS,
    VOTER,
    JudgeApi,
    Selection,
    upload_box,
)
from app.judge.gallery import gallery_strip, gallery_view
from app.serving.answer import Answer
from app.ui.answer_panel import answer_panel, answer_view
from app.ui.synced_pair import synced_pair
from app.ui.vote import vote_bar, vote_view
from app.web.auth import NotAllowedError
from app.web.client_signal import ClientSignal
from app.web.plain_errors import JUDGING_ERRORS, judging_error_text, plainly
from descore.judgement import Mode
from descore.prompt import PROMPT_CHARACTERS, prompt_problem
from storage import StorageError
from storage.pairs import Video
from storage.uploads import KEPT_FOR
from storage.votes import current_vote

log = logging.getLogger(__name__)

_SAVED = ("voter", "a", "b", "bundled")  # and the prompt
_LONGEST_ID = 100
# Leads see the pairs of all sources, and can put them into a campaign; annotators see those of their campaigns.
KEPT = (
    f"Without an account, the videos that you use here are deleted after {KEPT_FOR.days} days, unless somebody votes on "
    "them or they are put up for labelling. The people who run this app can see them and show them to annotators. Of your "
    "address only a hash is kept, to share the room fairly."
)


class JudgePage:
    """Builds the page inside the current `gr.Blocks` and holds what its handlers need."""

    def __init__(self, api: JudgeApi) -> None:
        self.api, self.bundled = api, api.bundled
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
                label="Prompt",
                placeholder="What were both videos asked to show?",
                max_lines=4,
                max_length=PROMPT_CHARACTERS,
                elem_id="prompt",
            )
            self.player = synced_pair()
            self._build_controls()
            self.panel = answer_panel()
            self.votes = vote_bar()
        self._connect(blocks)

    def _build_own(self) -> None:
        with gr.Accordion("Two videos of your own", open=False, elem_id="own") as self.own:
            with gr.Row():
                self.own_a, self.own_b = (upload_box(label) for label in ("Video A", "Video B"))
            gr.HTML(f'<p class="ds-hint">{KEPT}</p>', elem_id="own-kept", apply_default_css=False)
            self.use_own = gr.Button("Use these two videos", size="sm", elem_id="use-own")
            self.own_error = gr.HTML(visible=False, elem_id="own-error", apply_default_css=False)

    def _build_controls(self) -> None:
        with gr.Row(elem_id="ask"):
            self.mode = gr.Radio(MODES, value="think", label="How to ask", show_label=False, container=False, elem_id="mode")
            self.k = gr.Slider(2, MOST_THOUGHTS, 8, step=1, label="thoughts", visible=False, container=False, elem_id="k")
            self.judge = gr.Button("Judge", variant="primary", elem_id="judge")
            self.cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")

    def _connect(self, blocks: gr.Blocks) -> None:
        page = [self.selection, self.strip, self.player, self.prompt, self.panel, self.votes, self.saved]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        blocks.load(plainly(self._restore), self.saved, page, **quiet)
        self.strip.select(plainly(self._choose), self.saved, page, **quiet)
        self.use_own.click(
            plainly(self._take_own),
            [self.own_a, self.own_b, self.prompt, self.saved],
            [*page, self.own_a, self.own_b, self.own, self.own_error],
            show_progress="minimal",
            api_visibility="private",
            **MODEL_QUEUE,
        )
        # An answer belongs to the prompt that was judged; clearing it takes no round trip, so it can't come late.
        self.prompt.input(None, None, self.panel, js=f"() => ({json.dumps(answer_view(Answer()))})", **quiet)
        # On blur, so also before a click on Judge: another prompt is another pair, with another vote.
        self.prompt.blur(plainly(self._reword), [self.selection, self.prompt, self.saved], [self.votes, self.saved], **quiet)
        self.mode.change(lambda mode: gr.Slider(visible=mode == "k"), self.mode, self.k, queue=False, **quiet)
        self.judge.click(
            self._judge,
            [self.selection, self.prompt, self.mode, self.k],
            [self.panel, self.judge, self.cancel],
            **MODEL_QUEUE,
            **quiet,
        )
        self.cancel.click(self._cancel, queue=False, **quiet)
        self.votes.vote(plainly(self._vote), [self.selection, self.prompt, self.saved], self.votes, **quiet)

    # ---- choosing a pair -----------------------------------------------------------------------------------------

    def _restore(self, saved: dict[str, Any] | None, request: gr.Request) -> tuple[Any, ...]:
        """Show, on load, the pair that this browser looked at last, else the first of the gallery."""
        saved = _checked_state(saved)
        saved.setdefault("voter", secrets.token_hex(16))
        try:
            a, b = (self.api.clip_store.by_id(saved.get(side, "")) for side in ("a", "b"))
            self.api.access.refuse_blind(request, (a, b))
            return self._page(a, b, saved.get("prompt", ""), saved.get("bundled"), saved, request)
        except (StorageError, NotAllowedError):
            first = next(iter(self.api.shown_pairs(request)), None)
        if first is None:
            return None, gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(), saved
        return self._page(first.a, first.b, first.prompt, first.id, saved, request)

    def _choose(self, saved: dict[str, Any], event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        self._abandon(request.session_hash)
        pair = self.bundled.get(str(event.id))
        if pair is None:
            raise gr.Error("This pair is no longer in the gallery. Reload the page.", print_exception=False)
        self.api.access.refuse_blind(request, (pair.a, pair.b))
        return self._page(pair.a, pair.b, pair.prompt, pair.id, saved, request)

    def _take_own(
        self, path_a: str | None, path_b: str | None, prompt: str, saved: dict[str, Any], request: gr.Request
    ) -> tuple[Any, ...]:
        try:
            a, b = self.api.take_in_pair(path_a, path_b, self.api.access.visitor(request))
            self.api.access.refuse_blind(request, (a, b))
        except JUDGING_ERRORS as error:
            # The saved state is given back as it is: a browser state can't skip an update.
            same = [gr.skip()] * 6
            return *same, _checked_state(saved), *same[:3], gr.HTML(_error_line(str(error)), visible=True)
        self._abandon(request.session_hash)
        page = self._page(a, b, prompt, None, saved, request)
        return *page, None, None, gr.Accordion(open=False), gr.HTML(visible=False)

    def _page(
        self, a: Video, b: Video, prompt: str, bundled: Any, saved: dict[str, Any], request: gr.Request
    ) -> tuple[Any, ...]:
        """Return all outputs that depend on the pair, in the order of `page` in `_connect`."""
        selection = Selection(a.public_id, b.public_id, str(bundled) if bundled in self.bundled else None)
        shown = {"a": a.public_id, "b": b.public_id, "prompt": prompt, "bundled": selection.bundled}
        saved = _checked_state(_checked_state(saved) | shown)
        return (
            selection,
            gallery_view(self.api.shown_pairs(request), self.api.clip_store, selection.bundled),
            {"a": self.api.clip_store.view(a), "b": self.api.clip_store.view(b)},
            prompt,
            answer_view(Answer()),
            self._vote_view(selection, prompt, saved),
            saved,
        )

    def _reword(self, selection: Selection | None, prompt: str, saved: dict[str, Any]) -> tuple[Any, ...]:
        return self._vote_view(selection, prompt, saved), _checked_state(_checked_state(saved) | {"prompt": prompt})

    # ---- asking the model ----------------------------------------------------------------------------------------

    def _judge(
        self,
        selection: Selection | None,
        prompt: str,
        mode: Mode,
        k: int,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Stream the answer for both videos; end cleanly when it is cancelled or the page goes away."""
        cancel = self._begin(request.session_hash)
        answer = Answer(phase="running", mode=mode)
        buttons = gr.Button(interactive=False), gr.Button(interactive=True)
        try:
            pair, visitor = self.api.admit(selection, prompt, request)
            for answer in self.api.answers(pair, mode, int(k), cancel, visitor):
                yield answer_view(answer), *buttons
                buttons = gr.skip(), gr.skip()
        except JUDGING_ERRORS as error:
            answer = replace(answer, phase="error", status=judging_error_text(error))
        except Exception:
            log.exception("judging failed")
            answer = replace(answer, phase="error", status="The model failed. The app's log says why.")
        finally:
            cancel.set()
            current = self._running.get(request.session_hash or "") is cancel
            if current:
                del self._running[request.session_hash or ""]
        if not current:  # the page shows another pair by now
            answer = Answer()
        yield answer_view(answer), gr.Button(interactive=True), gr.Button(interactive=False)

    def _begin(self, session: str | None) -> threading.Event:
        """Return the stop signal of a tab's new question, after stopping an older question of the same tab."""
        self._abandon(session)
        cancel = self._running[session or ""] = ClientSignal()
        return cancel

    def _abandon(self, session: str | None) -> None:
        """Stop a tab's question and forget it: nobody needs its answer."""
        running = self._running.pop(session or "", None)
        if running is not None:
            running.set()

    def _cancel(self, request: gr.Request) -> None:
        """Stop a tab's question; its last answer says so."""
        running = self._running.get(request.session_hash or "")
        if running is not None:
            running.set()

    # ---- voting --------------------------------------------------------------------------------------------------

    def _vote(
        self, selection: Selection | None, prompt: str, saved: dict[str, Any], event: gr.EventData, request: gr.Request
    ) -> Any:
        saved = _checked_state(saved)
        try:
            pair = self.api.pair_of(selection, prompt)
            voter = str(saved.get("voter", ""))
            self.api.save_vote(pair.id, str(event.choice), str(event.token), voter, str(event.note), request)
        except JUDGING_ERRORS as error:
            return self._vote_view(selection, prompt, saved) | {"status": f"not saved: {error}"}
        return self._vote_view(selection, prompt, saved)

    def _vote_view(self, selection: Selection | None, prompt: str, saved: dict[str, Any]) -> dict[str, Any]:
        if selection is None:
            return vote_view(None, None)
        problem = prompt_problem(prompt)
        if problem is not None:
            return vote_view(
                None, None, f"a vote needs the prompt; this one {problem}" if prompt else "a vote needs the prompt"
            )
        pair = self.api.pair_of(selection, prompt)
        with self.api.database.read() as session:
            return vote_view(pair.id, current_vote(session, pair.id, str(saved.get("voter", ""))))


def _checked_state(saved: Any) -> dict[str, Any]:
    """Return what may be kept of a browser's state, which anybody can send: nothing unknown, nothing endless."""
    state = saved if isinstance(saved, dict) else {}
    texts = {name: value for name in _SAVED if isinstance(value := state.get(name), str)}
    kept = {name: value for name, value in texts.items() if len(value) <= _LONGEST_ID}
    if "voter" in kept and not VOTER.fullmatch(kept["voter"]):
        del kept["voter"]
    prompt = state.get("prompt")
    if isinstance(prompt, str) and prompt_problem(prompt) is None:
        kept["prompt"] = prompt
    return kept


def _error_line(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<p class="error-line" role="alert">{escaped}</p>'
