"""Pairs that open by a link: a bundled one by its name, one's own videos by a link that somebody made.

    shares = SharedPairs(serving, database, clip_store, access)
    token = shares.make(pair, "think", 0, browser_id, visitor)     # /judge?share=TOKEN
    shared = shares.open(token, request)                           # ShareError once the link has ended
    shares.answer(shared)                                          # what the model said when it was shared

A link of the second kind grants the two clips of its pair, under addresses that hold its token, and nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from app.clip_store import ClipStore
from app.judge.access import JudgingAccess
from app.serving.answer import Answer
from app.serving.cached_judge import Recall, recalled_answer, stored_answer
from app.serving.judging_queue import Visitor
from app.serving.serving import Serving
from app.web.auth import NotAllowedError
from descore.calibration import ModeCalibration, probability_source
from descore.judgement import Judgement, Mode, Verdict
from storage import Database, NotInStoreError
from storage.errors import ShareError
from storage.labelling.blind import blind_videos
from storage.pairs import OWN_SOURCE, Pair, Video, get_pair, sources_of
from storage.shares import Share, SharedVerdict, end_shares, make_share, open_share, own_share
from storage.uploads import origin_key

JUDGE_PATH = "/judge"
LONGEST_TOKEN = 64
_PARAMETERS = ("pair", "share")
_NOT_KEPT = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True)
class SharedPair:
    """An open link and the pair that it shows."""

    token: str
    share: Share
    pair: Pair


class SharedPairs:
    """The links of one app."""

    def __init__(self, serving: Serving, database: Database, clip_store: ClipStore, access: JudgingAccess) -> None:
        self._serving, self._database, self._clip_store, self._access = serving, database, clip_store, access

    def make(self, pair: Pair, mode: Mode, k: int, browser: str, visitor: Visitor) -> str:
        """Make a link to a pair of one's own videos and what the store has about it; return its token.

        Args:
            browser: the random id of the browser, which may end the link.

        Raises:
            ShareError: it was not judged, these are no videos of one's own, or too many links were made.
            NotAllowedError: the pair is being labelled blind.
            StorageError: the store can't be written.
        """
        served = self._serving.now
        answer = stored_answer(served, self._database, pair, mode, k)
        if answer is None or answer.comparison is None:
            raise ShareError("Judge this pair first, then share it.")
        outcome = {
            "checkpoint": answer.comparison.checkpoint,
            "p_first_preferred": answer.comparison.p_first_preferred,
            "verdict": answer.comparison.verdict,
            "scale": None if answer.scale is None else asdict(answer.scale),
        }
        shown = SharedVerdict(pair.id, mode, k if mode == "k" else 0, served.fingerprint, outcome)
        origin = origin_key(visitor.origin, self._database.home)
        videos = {video.id for video in pair.videos}
        with self._database.write() as session:
            if blind_videos(session, videos):
                raise NotAllowedError("This pair is being labelled blind: until its campaign is closed it can't be shared.")
            if sources_of(session, videos) - {OWN_SOURCE}:
                raise ShareError("Only videos that were brought to this page can be shared, not imported or bundled ones.")
            return make_share(session, shown, maker=browser, origin=origin)

    def open(self, token: str, request: Any) -> SharedPair:
        """Return the pair behind a link.

        Raises:
            ShareError: the link is unknown or has ended.
            NotAllowedError: the pair is being labelled blind, and no lead asks.
            StorageError: the store can't be read.
        """
        with self._database.read() as session:
            share = open_share(session, token[: LONGEST_TOKEN + 1])
            pair = get_pair(session, share.shown.pair_id)
        if self._access.hidden(request, pair.videos):
            raise NotAllowedError("This pair is being labelled blind: until its campaign is closed only leads may open it.")
        return SharedPair(token, share, pair)

    def own(self, pair: Pair, browser: str) -> Share | None:
        """Return the open link to a pair that this browser made."""
        with self._database.read() as session:
            return own_share(session, pair.id, browser)

    def end(self, pair: Pair, browser: str) -> int:
        """End the links to a pair that this browser made; return how many."""
        with self._database.write() as session:
            return end_shares(session, pair.id, browser)

    def answer(self, shared: SharedPair) -> Answer | None:
        """Return the answer that was shared, from the checkpoint that gave it; None if the store has lost it."""
        shown = shared.share.shown
        outcome, kept = shown.verdict, shown.verdict["scale"]
        scale = None if kept is None else ModeCalibration(**kept)

        def compare(judged: tuple[Judgement, ...]) -> Verdict:
            # Earlier versions gave a P without a calibration too.
            p, source = (None if scale is None else outcome["p_first_preferred"]), probability_source(scale)
            return Verdict(outcome["checkpoint"], shown.mode, shared.pair.prompt, judged, p, outcome["verdict"], source)

        recall = Recall(shown.fingerprint, shown.mode, shown.k, scale, compare)
        return recalled_answer(self._database, shared.pair, recall)

    def view(self, shared: SharedPair) -> dict[str, Any]:
        """Return the value of the pair player, with addresses that end with the link."""
        sides = zip(("a", "b"), shared.pair.videos, strict=True)
        return {side: self._clip_store.view(video) | {"url": f"./shared/{shared.token}/{side}"} for side, video in sides}

    def routes(self) -> list[BaseRoute]:
        """Return the web routes: the address of links, and the clips of shared pairs."""
        return [
            Route(JUDGE_PATH, _to_judge_page, methods=["GET"]),
            Route("/shared/{token}/{side}", self._clip, methods=["GET"]),
        ]

    def _clip(self, request: Request) -> Response:
        try:
            shared = self.open(request.path_params["token"], request)
            video: Video = dict(zip(("a", "b"), shared.pair.videos, strict=True))[request.path_params["side"]]
            answer = self._clip_store.serve(video)
        except NotAllowedError as error:
            return PlainTextResponse(str(error), error.status, headers=_NOT_KEPT)
        except ShareError as error:
            return PlainTextResponse(str(error), 410, headers=_NOT_KEPT)
        except (KeyError, NotInStoreError):
            return PlainTextResponse("no such video", 404, headers=_NOT_KEPT)
        answer.headers.update(_NOT_KEPT)
        return answer


def _to_judge_page(request: Request) -> Response:
    """Go to the Judge page, which stands at the app's root; the address is relative, for proxies with a prefix."""
    query = urlencode([(name, request.query_params[name]) for name in _PARAMETERS if name in request.query_params])
    return RedirectResponse(f"./?{query}" if query else "./", 307, headers={"Cache-Control": "no-store"})
