"""Judging and voting as plain functions with typed errors, behind the Judge page and its endpoints for programs.

api = JudgeApi(serving, database, clip_store, bundled, access)
pair, visitor = api.admit(Selection(a.public_id, b.public_id), prompt, request)
*_, answer = api.answers(pair, "think", 8, ClientSignal(), visitor)
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from app.clip_store import ClipStore
from app.judge.access import JudgingAccess
from app.judge.gallery import BundledPair
from app.judge.shares import SharedPairs
from app.serving.answer import Answer
from app.serving.cached_judge import Subject, stored_answer, stream_answer
from app.serving.judging_queue import Visitor
from app.serving.serving import Serving
from app.web.uploads import WAIT_SECONDS, Admission
from descore.judgement import Mode
from descore.prompt import check_prompt
from descore.video import Lane, VideoError, VideoMissingError
from storage import Database, NotInStoreError
from storage.pairs import OWN_SOURCE, Pair, Video, add_pair, find_pair, get_pair
from storage.schema import Choice
from storage.votes import SavedVote, Seen, Vote, current_vote, save_vote

MODES: list[tuple[str, Mode]] = [("Think", "think"), ("Quick, no thought", "quick"), ("Several thoughts", "k")]
# Who judges next is decided by `JudgingQueue`, so Gradio lets all of them in.
MODEL_QUEUE: dict[str, Any] = {"concurrency_limit": None}
# Pairs of uploads that are checked or wait for it. A visitor has one decoding process anyway; each more would only hold a
# thread that others need.
CHECKS_OF_ORIGIN, CHECKS_IN_ALL = 2, 24
MOST_THOUGHTS = 16
VOTER = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Selection:
    """The two videos on the page, by public id."""

    a: str
    b: str
    bundled: str | None = None  # the id in the gallery of a pair from there
    share: str | None = None  # the token of the link that the pair came by


class JudgeApi:
    """The functions behind the Judge page and the endpoints."""

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
        self.shares = SharedPairs(serving, database, clip_store, access)
        self._checks = Admission(CHECKS_OF_ORIGIN, CHECKS_IN_ALL)

    def pair_of(self, selection: Selection | None, prompt: str, request: Any) -> Pair:
        """Return the stored pair of the page's videos and prompt.

        Raises:
            ValueError: there is no video yet, or another prompt than that of a shared pair.
            PromptError: there is no prompt yet, or one that can't be used.
            ShareError: the pair came by a link that has ended.
            NotAllowedError: it came by a link, and is being labelled blind.
        """
        if selection is None:
            raise ValueError("Choose a pair, or upload two videos first.")
        check_prompt(prompt)
        if selection.share is not None:
            pair = self.shares.open(selection.share, request).pair
            if prompt.strip() != pair.prompt.strip():
                raise ValueError("This link is for its own prompt. Upload the videos yourself to ask about another.")
            return pair
        a, b = self.clip_store.by_id(selection.a), self.clip_store.by_id(selection.b)
        with self.database.read() as session:  # a pair that is known can be judged while nothing can be written
            known = find_pair(session, a, b, prompt)
        if known is not None:
            return known
        source = "bundled" if self.as_bundled(selection) else OWN_SOURCE
        with self.database.write() as session:
            return add_pair(session, a, b, prompt, source=source)

    def as_bundled(self, selection: Selection) -> bool:
        """Whether these are the videos of a pair of the gallery in its own order, not swapped."""
        pair = self.bundled.get(selection.bundled or "")
        return pair is not None and (pair.a.public_id, pair.b.public_id) == (selection.a, selection.b)

    def admit(self, selection: Selection | None, prompt: str, request: Any) -> tuple[Pair, Visitor]:
        """Return the stored pair and who asks about it, if they may have it judged.

        Raises:
            As `pair_of` and `JudgingAccess`.
        """
        visitor = self.access.visitor(request)
        pair = self.pair_of(selection, prompt, request)
        self.access.refuse_blind(request, (pair.video_a, pair.video_b))
        return pair, visitor

    def answers(self, subject: Subject, mode: Mode, k: int, cancel: threading.Event, visitor: Visitor) -> Iterator[Answer]:
        """Yield the growing answer about a pair or a video, see `stream_answer`."""
        return stream_answer(self.serving, self.database, self.clip_store, subject, mode, k, cancel, visitor)

    def take_in_pair(self, path_a: str | None, path_b: str | None, visitor: Visitor) -> tuple[Video, Video]:
        """Keep two uploaded files.

        Raises:
            ValueError: one is missing, or no video that can be used, or too many are being checked already.
            StorageError: the store can't be written, or has no room for them.
        """
        with self._checks.of(visitor.origin):
            return self._take_in(path_a, "Video A", visitor), self._take_in(path_b, "Video B", visitor)

    def take_in(self, path: str | None, visitor: Visitor, label: str = "The video") -> Video:
        """Keep one uploaded file, with the errors of `take_in_pair`; they call it by its label."""
        with self._checks.of(visitor.origin):
            return self._take_in(path, label, visitor)

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

    def save_vote(
        self, pair_id: int, choice: Any, token: Any, voter: Any, note: Any, request: Any, shown: Seen = "unknown"
    ) -> SavedVote:
        """Save a vote (A, tie, B, both_bad) on a pair; the same token again saves nothing.

        Args:
            shown: the model's answer that stood on the page; of a program's vote nobody knows.

        Raises:
            ValueError: no such choice, or no voter of 32 hex digits.
            AuthError: who asks may not vote.
            StorageError: no such pair, or the store can't be written.
        """
        texts = all(isinstance(text, str) for text in (choice, token, voter, note))
        if not texts or choice not in get_args(Choice) or not VOTER.fullmatch(voter):
            raise ValueError("A vote is A, tie, B or both_bad, from a voter id of 32 hex digits.")
        user_id = self.access.visitor(request).person
        vote = {"pair_id": pair_id, "choice": choice, "voter": voter, "token": token, "note": note, "user_id": user_id}
        with self.database.write() as session:
            return save_vote(session, **vote, shown=shown)

    def current_vote(self, pair: Pair, voter: str, request: Any) -> Vote | None:
        """Return the vote of the person, else of the browser, on a pair."""
        person = self.access.person(request)
        with self.database.read() as session:
            return current_vote(session, pair.id, voter, None if person is None else person.id)

    def answer_in_store(self, pair: Pair, mode: Mode = "think", k: int = 0) -> Answer | None:
        """Return the serving checkpoint's answer about a pair if the store has one.

        Args:
            mode, k: how it should have been asked for; else it is the answer with a thought, else the one without.
        """
        served = self.serving.now
        modes: list[tuple[Mode, int]] = [(mode, k), ("think", 0), ("quick", 0)]
        answers = (stored_answer(served, self.database, pair, mode, k) for mode, k in modes)
        return next((answer for answer in answers if answer is not None), None)

    def linked_pair(self, name: str, request: Any) -> tuple[Pair, str | None]:
        """Return the pair that a link names, with its id in the gallery if it is from there.

        Args:
            name: an id of the gallery, or the number of a pair: one that is from there, or any if a lead asks.

        Raises:
            NotInStoreError: there is none, or not for everybody.
            NotAllowedError: it is being labelled blind, and no lead asks.
        """
        missing = NotInStoreError("There is no pair under this link that everybody may see.")
        by_videos = {(pair.a.id, pair.b.id): pair for pair in self.bundled.values()}
        with self.database.read() as session:
            if name in self.bundled:
                bundled = self.bundled[name]
                pair = find_pair(session, bundled.a, bundled.b, bundled.prompt)
            elif name.isascii() and name.isdigit() and len(name) < 10:
                pair = get_pair(session, int(name))
            else:
                raise missing
        if pair is None:
            raise missing
        known = by_videos.get((pair.video_a.id, pair.video_b.id))
        if known is not None and known.prompt.strip() != pair.prompt.strip():
            known = None
        person = self.access.person(request)
        if known is None and (person is None or person.role != "lead"):
            raise missing
        self.access.refuse_blind(request, pair.videos)
        return pair, None if known is None else known.id
