"""Visitors as programs: each judges pairs through the app's endpoints as a person does, with time to look in between.

Each has an address of its own out of 127.0.0.0/8, all of which lead to this machine on Linux, so the app counts them as
people from as many networks.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from trainer.shapeworld.pairs import shape_pair

GALLERY = Path(__file__).parents[2] / "app" / "gallery"
API = "/gradio_api"
# What a person does: ask about a bundled pair, else about clips of their own; how they have it judged; whether they vote.
BUNDLED, QUICK, VOTE = 0.5, 0.4, 0.3
QUESTIONS, ROUNDS = 1000, 10  # of their own: each has so many in a round, and there are so many rounds
FULL = "wait already"  # in the sentence of a full queue
TRY_AGAIN_SECONDS = 5.0
FIRST_BYTES = "bytes=0-65535"
Answered = Literal["store", "model"]


class RefusedError(RuntimeError):
    """The app did not do what was asked; the message is its own sentence, or its status."""


@dataclass
class Seen:
    """What all visitors saw in one phase.

    Attributes:
        seconds: from the question to the verdict, by where the answer came from; tries at a full queue count as waiting.
        failed: judgements that ended without a verdict, by what was said.
        told_full: how often somebody was told that the queue is full, and tried again.
        others: requests for pages, clips and votes that failed.
    """

    seconds: dict[Answered, list[float]] = field(default_factory=lambda: {"store": [], "model": []})
    failed: Counter[str] = field(default_factory=Counter)
    told_full: int = 0
    others: Counter[str] = field(default_factory=Counter)


def client_at(url: str, address: str) -> httpx.AsyncClient:
    """Make a client whose requests come from an address of this machine."""
    transport = httpx.AsyncHTTPTransport(local_address=address, verify=False)
    return httpx.AsyncClient(base_url=url, transport=transport, timeout=httpx.Timeout(600, connect=60))


async def call(client: httpx.AsyncClient, endpoint: str, data: list[Any], session: str | None = None) -> Any:
    """Ask an endpoint and wait for its answer.

    Raises:
        RefusedError: it refused, or failed.
    """
    event = await ask(client, endpoint, data, session)
    kind = ""
    async with client.stream("GET", f"{API}/call/{endpoint}/{event}") as answer:
        async for line in answer.aiter_lines():
            name, _, content = line.partition(": ")
            if name == "event":
                kind = content
            elif name == "data" and kind == "complete":
                return json.loads(content)[0]
            elif name == "data" and kind == "error":
                said = json.loads(content)
                raise RefusedError(str(said.get("error") if isinstance(said, dict) else said))
    raise RefusedError("the answer broke off")


async def ask(client: httpx.AsyncClient, endpoint: str, data: list[Any], session: str | None = None) -> str:
    """Ask an endpoint; return the id under which its answer can be heard.

    Raises:
        RefusedError: it refused.
    """
    posted = await client.post(f"{API}/call/{endpoint}", json={"data": data, "session_hash": session})
    if posted.status_code != 200:
        raise RefusedError(f"{posted.status_code}: {posted.text[:200]}")
    return str(posted.json()["event_id"])


async def upload(client: httpx.AsyncClient, files: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """Upload files as the page does; return them as an endpoint takes them.

    Raises:
        RefusedError: they were refused.
    """
    answer = await client.post(f"{API}/upload", files=[("files", file) for file in files])
    if answer.status_code != 200:
        raise RefusedError(f"{answer.status_code}: {answer.text[:200]}")
    return [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in answer.json()]


def gallery_files() -> list[tuple[str, list[tuple[str, bytes]]]]:
    """Read the bundled pairs: the prompt and both clips, each with its name."""
    pairs = json.loads((GALLERY / "pairs.json").read_text("utf-8"))
    return [(pair["prompt"], [(pair[side], (GALLERY / pair[side]).read_bytes()) for side in ("a", "b")]) for pair in pairs]


class JudgingVisitor:
    """One person without an account.

    Args:
        number: decides the address and what the person does.
        pause: mean seconds between two judgements.
        round: in another round the same person asks new questions of their own.
    """

    def __init__(self, url: str, number: int, pause: float, round: int = 0) -> None:
        self._pause, self._question = pause, QUESTIONS * (ROUNDS * number + round)
        self._random = random.Random(number)
        self._client = client_at(url, f"127.0.{1 + number // 200}.{1 + number % 200}")
        self._session, self._voter = secrets.token_hex(6), secrets.token_hex(16)
        self._gallery = gallery_files()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def judge_until(self, deadline: float, seen: Seen) -> None:
        """Come to the page, and judge until a moment of time.monotonic()."""
        await asyncio.sleep(self._random.random() * self._pause)
        await self._get("/", seen)
        while time.monotonic() < deadline:
            verdict = await self._judge(seen)
            if verdict is not None:
                for video in verdict["videos"]:
                    await self._get(f"/clips/{video['id']}", seen, Range=FIRST_BYTES)
                if self._random.random() < VOTE:
                    await self._vote(verdict["pair"], seen)
            await asyncio.sleep(min(self._random.expovariate(1 / self._pause), max(0.0, deadline - time.monotonic())))

    async def _judge(self, seen: Seen) -> Any:
        """Have one pair judged; None where that failed."""
        mode = "quick" if self._random.random() < QUICK else "think"
        try:
            if self._random.random() < BUNDLED:
                index = self._random.randrange(len(self._gallery))
                return await self._patiently("judge_bundled", [f"pair-{index + 1:02}", mode, 8], seen)
            return await self.judge_own(mode, seen)
        except (RefusedError, httpx.HTTPError) as error:
            seen.failed[f"{type(error).__name__}: {error}"[:200]] += 1
            return None

    async def judge_own(self, mode: str, seen: Seen) -> Any:
        """Ask something that nobody has asked before, about two clips that are uploaded.

        Raises:
            RefusedError: it was refused, or failed.
        """
        self._question += 1
        clips = await upload(self._client, self._random.choice(self._gallery)[1])
        return await self._patiently("judge", [*clips, shape_pair("test", self._question).prompt, mode, 8], seen)

    async def _patiently(self, endpoint: str, data: list[Any], seen: Seen) -> Any:
        """Ask, again after some seconds where the queue is full."""
        begun = time.perf_counter()
        while True:
            try:
                verdict = await call(self._client, endpoint, data, self._session)
            except RefusedError as error:
                if FULL not in str(error):
                    raise
                seen.told_full += 1
                await asyncio.sleep(self._random.uniform(0.5, 1.5) * TRY_AGAIN_SECONDS)
                continue
            source: Answered = "store" if verdict["from_store"] else "model"
            seen.seconds[source].append(time.perf_counter() - begun)
            return verdict

    async def _vote(self, pair: int, seen: Seen) -> None:
        choice = self._random.choice(("A", "B", "tie", "both_bad"))
        try:
            await call(self._client, "vote", [pair, choice, secrets.token_hex(16), self._voter, ""], self._session)
        except (RefusedError, httpx.HTTPError) as error:
            seen.others[f"vote: {error}"[:200]] += 1

    async def _get(self, address: str, seen: Seen, **headers: str) -> None:
        try:
            answer = await self._client.get(address, headers=headers)
        except httpx.HTTPError as error:
            seen.others[f"{type(error).__name__}"] += 1
            return
        if answer.status_code not in (200, 206):
            seen.others[f"{address.rpartition('/')[0] or '/'}: {answer.status_code}"] += 1
