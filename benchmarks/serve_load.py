"""Many clients of one `descore serve` at the same time, who judge and score; some of them leave half-way.

    python -m benchmarks.serve_load [--engine transformers] [--clients 200] [--requests 3]

The server is a process of its own with the bundled checkpoint. Each client asks one thing after another: the events of a
pair in mode think or quick, or the scores of four rows. Every fifth request leaves half-way, and is about a prompt of its
own, so that it leaves work and not a kept result; the others are about `--questions` pairs and prompts. A refused client
comes again after the seconds that it is told. All answers are compared with the transformers engine's in this process.

The last line is JSON. The exit code is 1 if an answer was wrong, a request failed, or work was left behind. Targets: none
wrong, no request without an end, and memory that does not grow with the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import httpx

from benchmarks.helpers.process_tree import MemoryWatch
from benchmarks.helpers.running_app import ROOT
from benchmarks.helpers.running_server import RunningServer
from benchmarks.helpers.summary import summary
from descore.engines.server_wire import read_events
from descore.judge import DeScore

Kind = Literal["judge think", "judge quick", "score"]
KINDS: tuple[Kind, ...] = ("judge think", "judge quick", "score")
GALLERY = ROOT / "app" / "gallery"
CLOSE = 1e-3
LEAVES_EVERY = 5
LONGEST_PAUSE = 3.0  # seconds that a refused client waits at most
END_SECONDS = 3600.0


@dataclass(frozen=True)
class Question:
    """Videos of one prompt, by their places in the gallery."""

    videos: tuple[str, ...]
    prompt: str


@dataclass
class Seen:
    """What the clients saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    refused: int = 0
    left: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)


class Answers:
    """The right answers, from the transformers engine, each thought about once."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._judge = DeScore.from_pretrained("bundled", device="cpu", dtype="float32")
        self._files = files
        self._known: dict[tuple[str, str, str], tuple[str, float | None]] = {}

    def learn(self, questions: Sequence[Question]) -> None:
        """Judge all questions in both modes."""
        rows = list(dict.fromkeys((video, question.prompt) for question in questions for video in question.videos))
        for mode in ("quick", "think"):
            paths, prompts = [str(self._files[video]) for video, _ in rows], [prompt for _, prompt in rows]
            judged = self._judge.score(paths, prompts, mode)  # type: ignore[arg-type]
            for (video, prompt), judgement in zip(rows, judged, strict=True):
                self._known[video, prompt, mode] = judgement.thought, judgement.reward

    def wrong(self, video: str, prompt: str, judgement: dict[str, Any]) -> str | None:
        """Say what is wrong with a judgement; None for a right one."""
        thought, reward = self._known[video, prompt, judgement["mode"]]
        if judgement["thought"] != thought:
            return f"another thought about {video} ({prompt!r})"
        if reward is None or abs(judgement["reward"] - reward) > CLOSE:
            return f"reward {judgement['reward']} and not {reward} of {video} ({prompt!r})"
        return None


@dataclass
class Client:
    """One client, with a connection of its own."""

    number: int
    url: str
    hashes: dict[str, str]
    questions: Sequence[Question]
    answers: Answers
    seen: Seen

    async def ask(self, requests: int) -> None:
        """Ask one thing after another."""
        async with httpx.AsyncClient(base_url=self.url, timeout=httpx.Timeout(END_SECONDS, connect=60.0)) as http:
            for number in range(requests):
                turn = self.number + number * 7
                kind, question = KINDS[turn % len(KINDS)], self.questions[turn % len(self.questions)]
                leaves = turn % LEAVES_EVERY == 0
                try:
                    await self._until_taken(http, kind, question, leaves)
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    self.seen.failed[f"{kind}: {type(error).__name__}"] += 1

    async def _until_taken(self, http: httpx.AsyncClient, kind: Kind, question: Question, leaves: bool) -> None:
        begun = time.monotonic()
        while (pause := await self._once(http, kind, question, leaves)) is not None:
            self.seen.refused += 1
            await asyncio.sleep(min(pause, LONGEST_PAUSE))
        if not leaves:
            self.seen.seconds[kind].append(time.monotonic() - begun)

    async def _once(self, http: httpx.AsyncClient, kind: Kind, question: Question, leaves: bool) -> float | None:
        """Ask once; returns the seconds after which a refused client may come again."""
        prompt = f"{question.prompt} {self.number}" if leaves else question.prompt
        videos = [self.hashes[video] for video in question.videos]
        if kind == "score":
            body: dict[str, Any] = {"rows": [{"video": v, "prompt": prompt} for v in videos] * 2, "mode": "quick"}
        else:
            body = {"videos": videos, "prompt": prompt, "mode": kind.split()[1]}
        async with http.stream("POST", f"/v1/{kind.split()[0]}", json=body) as answer:
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                return float(answer.headers["Retry-After"])
            answer.raise_for_status()
            if leaves:
                await anext(answer.aiter_lines(), None)
                self.seen.left += 1
                return None
            text = (await answer.aread()).decode()
        if kind == "score":
            results = [row["judgement"] for row in json.loads(text)["results"]]
            self._compare(question, list(question.videos) * 2, results)
            return None
        events = [event for event in read_events(text.splitlines()) if event is not None]
        if events[-1][0] != "verdict":
            raise ValueError(f"the stream ended with {events[-1]}")
        self._compare(question, question.videos, events[-1][1]["videos"])
        return None

    def _compare(self, question: Question, videos: Sequence[str], judgements: Sequence[dict[str, Any]]) -> None:
        for video, judgement in zip(videos, judgements, strict=True):
            wrong = self.answers.wrong(video, question.prompt, judgement)
            if wrong is not None:
                self.seen.wrong.append(wrong)


def questions_of(pairs: Sequence[dict[str, str]], number: int) -> Iterator[Question]:
    """Yield pairs of the gallery under their own prompts, then under those of the others."""
    for index in range(number):
        pair, prompt = pairs[index % len(pairs)], pairs[(index + index // len(pairs)) % len(pairs)]["prompt"]
        yield Question((pair["a"], pair["b"]), prompt)


async def load(clients: Sequence[Client], requests: int) -> None:
    """Let all clients ask at the same time."""
    await asyncio.wait_for(asyncio.gather(*(client.ask(requests) for client in clients)), END_SECONDS)


def figures_of(url: str) -> dict[str, float]:
    """Read the server's own figures."""
    lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def work_left(url: str) -> float:
    """Return how many requests the server still judges or holds, a moment after the last client is gone."""
    left = 1.0
    for _ in range(100):
        figures = figures_of(url)
        left = figures["descore_queue_running"] + figures["descore_queue_waiting"]
        if not left:
            break
        time.sleep(0.1)
    return left


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Start a server, load it, stop it; the figures to print."""
    pairs = json.loads((GALLERY / "pairs.json").read_text("utf-8"))
    questions, seen = list(questions_of(pairs, options.questions)), Seen()
    files = {pair[side]: GALLERY / pair[side] for pair in pairs for side in ("a", "b")}
    answers = Answers(files)
    answers.learn(questions)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with RunningServer(log, "--engine", options.engine, "--waiting", str(options.waiting)) as server:
            hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
            for name, path in files.items():
                httpx.post(
                    f"{server.url}/v1/videos", params={"sha256": hashes[name]}, content=path.read_bytes(), timeout=120
                )
            clients = [Client(n, server.url, hashes, questions, answers, seen) for n in range(options.clients)]
            asyncio.run(load(clients[:1], 1))  # what only the first one waits for is in no figure
            seen = Seen()
            clients = [replace(client, seen=seen) for client in clients]
            with MemoryWatch(server.pid) as memory:
                begun = time.monotonic()
                asyncio.run(load(clients, options.requests))
                seconds = time.monotonic() - begun
                left = work_left(server.url)
                figures = figures_of(server.url)
            answer = httpx.get(f"{server.url}/v1/checkpoint", timeout=60).json()
        said = server.said()
    asked = options.clients * options.requests
    return {
        "engine": answer["engine"],
        "clients": options.clients,
        "requests": asked,
        "seconds": round(seconds, 1),
        "requests_a_second": round(asked / seconds, 2),
        "ms": {kind: summary(values) for kind, values in seen.seconds.items() if values},
        "told_429": seen.refused,
        "left_half_way": seen.left,
        "wrong": len(seen.wrong),
        "first_wrong": seen.wrong[:3],
        "failed": dict(seen.failed),
        "work_left_behind": left,
        "tokens": figures["descore_tokens_total"],
        "tokens_a_second": round(figures["descore_tokens_total"] / seconds, 1),
        "cache_hits": figures.get('descore_cache_total{result="hit"}', 0.0),
        "memory_mb": {"start": memory.first >> 20, "highest": memory.highest >> 20},
        "tracebacks_in_log": said.count("Traceback (most recent call last)"),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 0 if nothing was wrong, failed or left behind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("transformers", "vllm", "auto"), default="auto")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=3, help="of each client, one after another")
    parser.add_argument("--questions", type=int, default=36, help="different pairs and prompts")
    parser.add_argument("--waiting", type=int, default=64, help="requests that the server lets wait")
    figures = run(parser.parse_args(arguments))
    print(json.dumps(figures))
    good = not (figures["wrong"] or figures["failed"] or figures["work_left_behind"] or figures["tracebacks_in_log"])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
