"""Judging a pair and voting on it, as plain functions, for the handlers of the Judge page and for programs.

    client = gradio_client.Client(address)
    client.predict("pair-01", "think", 8, api_name="/judge_bundled")

The endpoints are `gallery`, `judge_bundled`, `judge` (two uploaded files) and `vote`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import gradio as gr

from app.clip_store import ClipStore
from app.judge.access import JudgingAccess
from app.judge.gallery import BundledPair
from app.serving.answer import Answer
from app.serving.cached_judge import stream_answer
from app.serving.judging_queue import Visitor
from app.serving.serving import Serving
from app.web.auth import AuthError
from app.web.client_signal import ClientSignal
from app.web.plain_errors import JUDGING_ERRORS, judging_error_text
from app.web.uploads import WAIT_SECONDS, Admission
from descore.judgement import Mode
from descore.prompt import check_prompt
from descore.video import Lane, VideoError, VideoMissingError
from storage import Database, StorageError
from storage.pairs import Pair, Video, add_pair, find_pair
from storage.schema import Choice
from storage.votes import save_vote

MODES: list[tuple[str, Mode]] = [("Think", "think"), ("Quick, no thought", "quick"), ("Several thoughts", "k")]
# Who judges next is decided by `JudgingQueue`, so Gradio lets all of them in.
MODEL_QUEUE: dict[str, Any] = {"concurrency_limit": None}
# Pairs of uploads that are checked or wait for it. A visitor has one decoding process anyway; each more would only hold a
# thread that others need.
CHECKS_OF_ORIGIN, CHECKS_IN_ALL = 2, 24
MOST_THOUGHTS = 16
LARGEST_ID = 2**31 - 1  # of the columns that hold ids
VOTER = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Selection:
    """The two videos on the page, by public id."""

    a: str
    b: str
    bundled: str | None = None  # the id in the gallery of a pair from there


class JudgeApi:
    """The functions behind the Judge page, and the endpoints for programs."""

    def __init__(
        self,
        serving: Serving,
        database: Database,
        clip_store: ClipStore,
        bundled: Sequence[BundledPair],
        access: JudgingAccess,
    ) -> None:
        self.serving, self.database, self.clip_store, self.access = serving, database, clip_store, access
        self.bundled = {pair.id: pair for pair in bundled}
        self._checks = Admission(CHECKS_OF_ORIGIN, CHECKS_IN_ALL)

    def connect(self) -> None:
        """Add the endpoints for programs, besides the page's own handlers."""
        gr.api(self.list_gallery, api_name="gallery")
        gr.api(self.judge_bundled, api_name="judge_bundled", **MODEL_QUEUE)
        gr.api(self.save_vote, api_name="vote")
        # A button that nobody sees: only component inputs let a client upload its files.
        files = [upload_box(label, visible=False) for label in ("Video A", "Video B")]
        texts = [gr.Textbox(visible=False), gr.Radio(MODES, value="think", visible=False), gr.Number(8, visible=False)]
        inputs, output = [*files, *texts], gr.JSON(visible=False)
        hidden = gr.Button(visible=False)
        hidden.click(self.judge_files, inputs, output, api_name="judge", show_progress="hidden", **MODEL_QUEUE)

    def pair_of(self, selection: Selection | None, prompt: str) -> Pair:
        """Return the stored pair of the page's videos and prompt.

        Raises:
            ValueError: there is no video yet.
            PromptError: there is no prompt yet, or one that can't be used.
        """
        if selection is None:
            raise ValueError("Choose a pair, or upload two videos first.")
        check_prompt(prompt)
        a, b = self.clip_store.by_id(selection.a), self.clip_store.by_id(selection.b)
        with self.database.read() as session:  # a pair that is known can be judged while nothing can be written
            known = find_pair(session, a, b, prompt)
        if known is not None:
            return known
        with self.database.write() as session:
            return add_pair(session, a, b, prompt, source="bundled" if selection.bundled else "judge page")

    def admit(self, selection: Selection | None, prompt: str, request: Any) -> tuple[Pair, Visitor]:
        """Return the stored pair and who asks about it, if they may have it judged.

        Raises:
            As `pair_of` and `JudgingAccess`.
        """
        visitor = self.access.visitor(request)
        pair = self.pair_of(selection, prompt)
        self.access.refuse_blind(request, (pair.video_a, pair.video_b))
        return pair, visitor

    def answers(self, pair: Pair, mode: Mode, k: int, cancel: threading.Event, visitor: Visitor) -> Iterator[Answer]:
        """Yield the growing answer about a pair, see `stream_answer`."""
        return stream_answer(self.serving, self.database, self.clip_store, pair, mode, k, cancel, visitor)

    def take_in_pair(self, path_a: str | None, path_b: str | None, visitor: Visitor) -> tuple[Video, Video]:
        """Keep two uploaded files.

        Raises:
            ValueError: one is missing, or no video that can be used, or too many are being checked already.
            StorageError: the store can't be written, or has no room for them.
        """
        with self._checks.of(visitor.origin):
            return self._take_in(path_a, "Video A", visitor), self._take_in(path_b, "Video B", visitor)

    def _take_in(self, path: str | None, label: str, visitor: Visitor) -> Video:
        if path is None:
            raise ValueError(f"{label} is missing: upload or record it first.")
        anonymous = visitor.origin if visitor.person is None else None
        try:
            return self.clip_store.take_in(Path(path), Lane("uploads", visitor.origin), anonymous)
        except VideoMissingError:
            hours = f"{WAIT_SECONDS / 3600:.0f} h"
            raise ValueError(f"{label} is not here any more: uploads wait {hours} for their use. Upload it again.") from None
        except VideoError as error:
            raise ValueError(f"{label} can't be used: {error.reason}") from error

    def shown_pairs(self, request: Any) -> list[BundledPair]:
        """Return the bundled pairs without those that are being labelled blind, unless a lead asks."""
        hidden = self.access.hidden(request, [video for pair in self.bundled.values() for video in (pair.a, pair.b)])
        return [pair for pair in self.bundled.values() if not {pair.a.id, pair.b.id} & hidden]

    def list_gallery(self, request: gr.Request) -> list[dict[str, str]]:
        """List the bundled pairs: id and prompt."""
        return [{"id": pair.id, "prompt": pair.prompt} for pair in self.shown_pairs(request)]

    def judge_bundled(self, pair: str, request: gr.Request, mode: str = "think", k: int = 8) -> dict[str, Any]:
        """Judge a bundled pair; the result is that of the command line, with the pair's id and whether it was stored."""
        if not isinstance(pair, str) or pair not in self.bundled:
            raise gr.Error(f"There is no bundled pair {str(pair)[:80]!r}.", print_exception=False)
        bundled = self.bundled[pair]
        return self._judgement_of(
            Selection(bundled.a.public_id, bundled.b.public_id, pair), bundled.prompt, mode, k, request
        )

    def judge_files(
        self, path_a: str | None, path_b: str | None, prompt: str, mode: str, k: float, request: gr.Request
    ) -> dict[str, Any]:
        """Judge two uploaded videos of one prompt; as `judge_bundled`."""
        try:
            visitor = self.access.visitor(request)
            self.serving.now.check_prompt(prompt or "")  # before a video is decoded
            a, b = self.take_in_pair(path_a, path_b, visitor)
        except JUDGING_ERRORS as error:
            raise gr.Error(str(error), print_exception=False) from error
        return self._judgement_of(Selection(a.public_id, b.public_id), prompt or "", mode, k, request)

    def save_vote(
        self, pair: int, choice: str, token: str, voter: str, request: gr.Request, note: str = ""
    ) -> dict[str, Any]:
        """Save a vote (A, tie, B, both_bad) on a pair; the same token again saves nothing."""
        texts = all(isinstance(text, str) for text in (choice, token, voter, note))
        if not texts or choice not in get_args(Choice) or not VOTER.fullmatch(voter):
            raise gr.Error(
                "A vote is A, tie, B or both_bad, from a voter id of 32 hex digits.",
                print_exception=False,
            )
        try:
            pair_id = whole_number(pair, "pair", 1, LARGEST_ID)
            self.access.visitor(request)
            with self.database.write() as session:
                saved = save_vote(
                    session,
                    pair_id=pair_id,
                    choice=cast("Choice", choice),
                    voter=voter,
                    token=token,
                    note=note,
                )
        except (StorageError, AuthError, ValueError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        return {"pair": saved.vote.pair_id, "choice": saved.vote.choice, "note": saved.vote.note, "is_new": saved.is_new}

    def _judgement_of(self, selection: Selection, prompt: str, mode: Any, k: Any, request: gr.Request) -> dict[str, Any]:
        try:
            if mode not in [value for _, value in MODES]:
                raise ValueError(f"A mode is think, quick or k (got {str(mode)[:80]!r}).")
            k = whole_number(k, "k, the number of thoughts,", 2, MOST_THOUGHTS)
            pair, visitor = self.admit(selection, prompt, request)
            *_, answer = self.answers(pair, mode, k, ClientSignal(), visitor)
        except JUDGING_ERRORS as error:
            raise gr.Error(judging_error_text(error), print_exception=False) from error
        if answer.comparison is None:
            raise gr.Error("The client left before the answer was there; nothing was kept.", print_exception=False)
        result = answer.comparison.to_json_dict()
        for video, public_id in zip(result["videos"], (selection.a, selection.b), strict=True):
            # Clients take anything with a "path" for a file to download.
            del video["path"]
            video["id"] = public_id
        return result | {"pair": pair.id, "from_store": answer.from_store, "kept": answer.kept}


def whole_number(value: Any, name: str, low: int, high: int) -> int:
    """Return a whole number of a request.

    Raises:
        ValueError: it is none, or out of range.
    """
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} has to be a whole number from {low} to {high} (got {str(value)[:40]!r}).")
    return int(value)


def upload_box(label: str, visible: bool = True) -> gr.Video:
    """Build a place to upload or record one video."""
    # include_audio, no format, no mirror: anything else would call ffmpeg, which need not be there.
    return gr.Video(
        label=label,
        sources=["upload", "webcam"],
        include_audio=True,
        webcam_options=gr.WebcamOptions(mirror=False),
        height=280,
        visible=visible,
        elem_classes=["own-video", "side-a" if label.endswith("A") else "side-b"],
    )
