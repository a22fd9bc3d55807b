"""Annotators as programs: each labels through the endpoints of the Label page, as its page would, mishaps included.

A submission that got no answer, because the app was killed, is sent again with the same token until it is answered.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from app.web.auth import COOKIE
from descore.answer import DIMENSIONS, SUB_SCORES

RETRY_SECONDS = 0.25
NO_ANSWER = (httpx.TransportError,)
# How often somebody does what, besides labelling.
DRAFT, CLIP, SKIP, DOUBLE_CLICK, TWO_TABS, UNDO = 0.25, 0.2, 0.03, 0.05, 0.03, 0.03
FIRST_BYTES = "bytes=0-65535"


@dataclass
class Record:
    """What all clients saw. answered: by submission, the person's name and what they said; withdrawn: of undos."""

    answered: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    retries: int = 0


class Annotator:
    """One signed-in person with a browser."""

    def __init__(self, url: str, name: str, cookie: str, campaign_id: int, pause: float, record: Record) -> None:
        self._name, self._campaign, self._pause, self._record = name, campaign_id, pause, record
        self._random = random.Random(name)
        self._client = httpx.AsyncClient(base_url=url, cookies={COOKIE: cookie}, timeout=30)

    async def label_until(self, deadline: float) -> None:
        """Label until a moment of time.monotonic()."""
        async with self._client:
            await asyncio.sleep(self._random.random() * self._pause)
            turn: dict[str, Any] | None = None
            while time.monotonic() < deadline:
                if turn is None:
                    found = await self._ask("next", {"campaign": self._campaign})
                    turn = found.get("turn")
                if turn is None:
                    await asyncio.sleep(self._pause)
                    continue
                await self._look_at(turn)
                turn = await self._finish(turn)

    async def _look_at(self, turn: dict[str, Any]) -> None:
        """Watch and think; now and then the page loads a clip or keeps a draft."""
        if self._random.random() < CLIP:
            await self._load_clip(turn[self._random.choice(("left", "right"))]["url"])
        await asyncio.sleep(self._random.expovariate(1 / self._pause) if self._pause else 0)
        if self._random.random() < DRAFT:
            await self._ask("draft", {"turn": turn["turn"], "draft": {"note": "so far", "seconds": 2.0}})

    async def _finish(self, turn: dict[str, Any]) -> dict[str, Any] | None:
        """Submit, with the mishaps of real browsers; returns the next turn, or None to ask for it."""
        answer, submission = self._answer(turn), secrets.token_urlsafe(12)
        sent = self._submit(turn, answer, submission)
        mishap = self._random.random()
        if mishap < DOUBLE_CLICK:
            said, _ = await asyncio.gather(sent, self._submit(turn, answer, submission))
        elif mishap < DOUBLE_CLICK + TWO_TABS:
            # Another tab has the same turn, asks for the next one and sends an answer of its own: one of them counts.
            other = self._submit(turn, self._answer(turn), secrets.token_urlsafe(12))
            await asyncio.gather(sent, self._ask("next", {"campaign": self._campaign}), other)
            return None
        else:
            said = await sent
        if self._random.random() < UNDO:
            undo = secrets.token_urlsafe(12)
            said = await self._ask("undo", {"campaign": self._campaign, "submission": undo}, undo)
        turn_after: dict[str, Any] | None = said.get("turn")
        return turn_after

    async def _submit(self, turn: dict[str, Any], answer: dict[str, Any], submission: str) -> dict[str, Any]:
        return await self._ask("submit", {"turn": turn["turn"], "submission": submission, "answer": answer}, submission)

    async def _ask(self, name: str, fields: dict[str, Any], submission: str | None = None) -> dict[str, Any]:
        """POST until there is an answer; {} for a refusal, which is counted."""
        record = self._record
        if submission:
            record.unanswered.add(submission)
        while True:
            begun = time.perf_counter()
            try:
                response = await self._client.post(f"/api/label/{name}", json=fields)
            except NO_ANSWER:
                record.retries += 1
                await asyncio.sleep(RETRY_SECONDS)
                continue
            break
        record.seconds.setdefault(name, []).append(time.perf_counter() - begun)
        if submission:
            record.unanswered.discard(submission)
        said: dict[str, Any] = response.json()
        if response.status_code != 200:
            code = str(said.get("error", {}).get("code", response.status_code))
            # Another tab of the same person was quicker, or others took the pair of an undone skip.
            (record.refused if code in ("lease_lost", "bad_answer") and name != "next" else record.errors)[code] += 1
            return {}
        if submission and name == "submit":
            record.answered[submission] = (self._name, fields)
        elif submission and said.get("turn") is not None:
            record.withdrawn.add(submission)
        return said

    async def _load_clip(self, address: str) -> None:
        begun = time.perf_counter()
        try:
            response = await self._client.get(address.removeprefix("."), headers={"Range": FIRST_BYTES})
        except NO_ANSWER:
            self._record.retries += 1
            return
        self._record.seconds.setdefault("clip", []).append(time.perf_counter() - begun)
        if response.status_code != 206:
            self._record.errors[f"clip {response.status_code}"] += 1

    def _answer(self, turn: dict[str, Any]) -> dict[str, Any]:
        """Make the answer that the page would send."""
        playback = {side: {"watched": 1.0, "plays": 2} for side in ("left", "right")}
        common = {"seconds": round(self._random.lognormvariate(3, 0.5), 1), "playback": playback}
        if self._random.random() < SKIP:
            return {"action": "skip", "reason": "can't tell", **common}
        choice = self._random.choice(("left", "left", "right", "tie", "both_bad"))
        scores = {
            side: {name: self._random.choice(SUB_SCORES) for name in turn["dimensions"] or DIMENSIONS}
            for side in ("left", "right")
        }
        strength = self._random.choice(("slightly", "clearly")) if choice in ("left", "right") else None
        marks = [{"side": "left", "time": 0.5}] if self._random.random() < 0.1 else []
        return {"action": "label", "choice": choice, "strength": strength, "sub_scores": scores, "marks": marks, **common}
