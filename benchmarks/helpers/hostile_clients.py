"""Visitors who mean harm, as programs: each does one thing again and again, from an address of its own.

long prompts       the longest that is allowed, of a hundred kilobytes, of a megabyte
pixel bombs        a small GIF over the bound on pixels, and one just below it, which decodes until it is stopped
half uploads       requests that begin an upload and never end it
leaving            questions that think for long, left at their first word
many at once       forty questions at the same time
"""

from __future__ import annotations

import asyncio
import random
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.helpers.judge_clients import API, RefusedError, ask, call, client_at, gallery_files, upload
from benchmarks.helpers.tiny_bombs import write_gif

AT_ONCE, HALF_UPLOADS, HELD_SECONDS = 40, 20, 20.0
# (side, frames): 54 billion pixels, and 39.9, of 40 that are allowed.
OVER, BELOW = (3000, 6000), (3000, 4430)
# Words of the app's sentences, and what is counted under them.
REASONS = {
    "wait already": "queue full",
    "characters": "prompt too long",
    "tokens": "prompt too long",
    "billion pixels": "too many pixels",
    "was stopped": "decoding stopped",
    "Your earlier uploads": "too many uploads at a time",
    "busy with uploads": "too many uploads in all",
    "uploaded": "too many bytes",
}


@dataclass
class Heard:
    """What all of them heard, by what they did: how often they tried, were answered, and were refused for which reason."""

    tried: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Counter[str]] = field(default_factory=dict)

    def refuse(self, what: str, words: str) -> None:
        """Count a refusal under its reason."""
        reason = next((reason for part, reason in REASONS.items() if part in words), words[:80])
        self.refused.setdefault(what, Counter())[reason] += 1


class HostileVisitor:
    """One of them; what it does follows from its number."""

    def __init__(self, url: str, number: int) -> None:
        self._url, self._random = url, random.Random(number)
        self._address = f"127.1.0.{1 + number}"
        self._client = client_at(url, self._address)
        ways: list[tuple[str, Callable[[Heard], Awaitable[None]]]] = [
            ("long prompts", self._long_prompt),
            ("pixel bombs", self._bomb),
            ("half uploads", self._half_uploads),
            ("leaving", self._leave),
            ("many at once", self._many),
        ]
        self._name, self._way = ways[number % len(ways)]
        self._gallery = gallery_files()

    async def attack_until(self, deadline: float, heard: Heard) -> None:
        """Go on until a moment of time.monotonic(); what is under way then is left."""
        async with self._client:
            while (left := deadline - time.monotonic()) > 0:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._once(heard), left)

    async def _once(self, heard: Heard) -> None:
        try:
            await self._way(heard)
        except RefusedError as error:
            heard.refuse(self._name, str(error))
        except (httpx.HTTPError, OSError) as error:
            heard.refuse(self._name, type(error).__name__)
        await asyncio.sleep(0.1)

    async def _clips(self) -> tuple[str, list[dict[str, Any]]]:
        """Upload a bundled pair; return its prompt, made new, and both files."""
        prompt, files = self._random.choice(self._gallery)
        return f"{prompt} {secrets.token_hex(4)}", await upload(self._client, files)

    async def _long_prompt(self, heard: Heard) -> None:
        _, clips = await self._clips()
        length = self._random.choice((1_500, 4_000, 100_000, 1_000_000))
        prompt = (secrets.token_hex(4) + " a red circle bounces on a checkerboard" * (length // 38 + 1))[:length]
        heard.tried[self._name] += 1
        await call(self._client, "judge", [*clips, prompt, "k", 16])
        heard.answered[self._name] += 1

    async def _bomb(self, heard: Heard) -> None:
        side, frames = self._random.choice((OVER, BELOW))
        with tempfile.TemporaryDirectory() as folder:
            # Another number of frames is another content, which was not looked at before.
            bomb = write_gif(Path(folder) / "bomb.gif", side, frames - self._random.randrange(20)).read_bytes()
        clips = await upload(self._client, [("a.gif", bomb), self._gallery[0][1][0]])
        heard.tried[self._name] += 1
        await call(self._client, "judge", [*clips, "A square.", "quick", 8])
        heard.answered[self._name] += 1

    async def _half_uploads(self, heard: Heard) -> None:
        await asyncio.gather(*(self._half_upload(heard) for _ in range(HALF_UPLOADS)))

    async def _half_upload(self, heard: Heard) -> None:
        address = urlsplit(self._url)
        heard.tried[self._name] += 1
        reader, writer = await asyncio.open_connection(address.hostname, address.port, local_addr=(self._address, 0))
        try:
            head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
            writer.write(
                f"POST {API}/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 90000000\r\n".encode()
                + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
                + head
                + bytes(1_000_000)
            )
            answer = await asyncio.wait_for(reader.read(2000), HELD_SECONDS)
            heard.refuse(self._name, answer.rpartition(b"\r\n")[2].decode("utf-8", "replace") or "connection closed")
        except asyncio.TimeoutError:
            heard.answered[self._name] += 1  # it was held open as long as its client wanted
        except OSError as error:
            heard.refuse(self._name, type(error).__name__)
        finally:
            writer.close()

    async def _leave(self, heard: Heard) -> None:
        prompt, clips = await self._clips()
        heard.tried[self._name] += 1
        event = await ask(self._client, "judge", [*clips, prompt, "k", 16])
        async with self._client.stream("GET", f"{API}/call/judge/{event}") as answer:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(anext(answer.aiter_lines()), self._random.uniform(0.1, 1.0))

    async def _many(self, heard: Heard) -> None:
        prompt, clips = await self._clips()

        async def one(number: int) -> None:
            heard.tried[self._name] += 1
            try:
                await call(self._client, "judge", [*clips, f"{prompt} {number}", "k", 16])
                heard.answered[self._name] += 1
            except RefusedError as error:
                heard.refuse(self._name, str(error))

        await asyncio.gather(*(one(number) for number in range(AT_ONCE)))
