"""The engine of judging servers: `descore serve` on other machines thinks, over HTTP.

A video is named by the hash of its content and sent to a server once. Each call goes to the server with the fewest open
requests; one that is down is left out for a while and named where no other answers.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descore.checkpoints.manifest import Manifest
from descore.engines.engine import Cancel, Engine, FinishedThought, Thinking
from descore.engines.server_client import (
    CheckpointChangedError,
    JudgingClient,
    ServerBusyError,
    ServerDownError,
    VideoNotThereError,
)
from descore.engines.server_wire import finished_from_json
from descore.errors import EngineError, PromptError
from descore.judgement import Mode, ThoughtDelta
from descore.prompt import check_prompt
from descore.video import JUDGING, Lane, VideoTooLargeError, content_hash

# How long a server that did not answer is left out, and how long a call waits for servers whose queues are full.
_DOWN_SECONDS, _FULL_SECONDS = 5.0, 600.0
_LONGEST_PAUSE, _CANCEL_CHECK = 5.0, 0.1
_MOST_FAILURES = 8  # of one call, full queues aside
_NEVER = (0.0, "")
_AT_ONCE_EACH = 8  # calls at a time for each server: those have queues of their own


@dataclass(frozen=True)
class ServerClip:
    """A video that servers know, or can be sent.

    Attributes:
        video: SHA-256 of its content.
        path: where it lies here.
    """

    video: str
    path: Path


@dataclass(frozen=True)
class ServerRow:
    """A video and what it was made from."""

    clip: ServerClip
    prompt: str


class ServerEngine(Engine):
    """One or more servers with the same checkpoint. Threads may share it.

    Attributes:
        description: what the servers say of their checkpoint, as `GET /v1/checkpoint` returns it.
        fingerprint: of their checkpoint.
    """

    def __init__(self, urls: str | Sequence[str], token: str | None = None, fingerprint: str | None = None) -> None:
        """Ask the servers what they serve. Those that are down may come later.

        Args:
            urls: their addresses, such as "http://gpu-box:8000"; commas in a text separate several.
            token: their bearer token.
            fingerprint: of the checkpoint that has to answer; by default that of the first server that does.

        Raises:
            EngineError: no server is named, none answers, or one serves another checkpoint.
        """
        self._clients = [JudgingClient(url, token) for url in server_urls(urls)]
        self._down: dict[str, tuple[float, str]] = {}  # name -> until when it is left out, and why
        self._full: dict[str, float] = {}  # name -> until when its queue is taken to be full
        self._turns: Counter[str] = Counter()  # name -> how often it was chosen
        self._lock = threading.Lock()
        try:
            self.description = self._agree(fingerprint)
        except BaseException:
            self.close()
            raise
        self.fingerprint: str = self.description["fingerprint"]
        self.manifest = Manifest.from_dict(self.description["manifest"])
        self.has_reward = bool(self.description["has_reward"])
        more = len(self._clients) - 1
        names = self._clients[0].name + (f" and {more} more" if more else "")
        self.at_once = _AT_ONCE_EACH * len(self._clients)
        self.label = f"server {names}, {self.description['engine']}"

    @property
    def prompt_tokens(self) -> int | None:
        """How many tokens a prompt may have beside the largest video; None where the backbone does not say."""
        tokens = self.description["limits"]["prompt_tokens"]
        return None if tokens is None else int(tokens)

    @property
    def down(self) -> dict[str, str]:
        """Which servers did not answer when they were asked last: their names, and a sentence on each."""
        with self._lock:
            return {name: reason for name, (_, reason) in self._down.items()}

    def check_prompt(self, prompt: str) -> None:
        """Refuse what can't be a prompt, or holds a special token; its tokens are counted by the server that judges.

        Raises:
            PromptError: as said.
        """
        check_prompt(prompt)
        for token in self.description["special_tokens"]:
            if token in prompt:
                raise PromptError(f"the prompt holds the control token {token}; remove it")

    def look(self) -> dict[str, str]:
        """Ask each server whether it answers, and serves this checkpoint; returns `down` after that."""
        for client in self._clients:
            with suppress(EngineError):
                self._describe(client, self.fingerprint)
        return self.down

    def read(self, video: str | Path, lane: Lane = JUDGING) -> ServerClip:
        """Hash a file, and send it to a server that lacks it, which decodes it: a broken one is found before any batch.

        Args:
            lane: of no use here: servers have decoders of their own.

        Raises:
            VideoError: it can't be used.
            EngineError: no server answers.
        """
        del lane
        path = Path(video)
        clip = ServerClip(content_hash(path), path)
        limit = int(self.description["limits"]["file_bytes"])
        if (size := path.stat().st_size) > limit:
            raise VideoTooLargeError(path, f"it has {size:,} bytes; the server takes {limit:,}: make it shorter or smaller")
        attempts = _Attempts(None)
        while True:
            client = self._next([clip.video])
            try:
                client.ensure(clip.video, clip.path)
                return clip
            except (ServerDownError, ServerBusyError) as error:
                self._note(client, error)
                attempts.failed(error, self._seconds_until_free())

    def encode(self, clip: ServerClip, prompt: str) -> ServerRow:
        """Put a video and its prompt together."""
        return ServerRow(clip, prompt)

    def think(
        self, rows: Sequence[ServerRow], mode: Mode, k: int = 8, seed: int = 0, cancel: Cancel | None = None
    ) -> Thinking:
        """Have a server think about rows together, and pass on what it says as it comes.

        A cancellation is seen at each event, and a few times a second where there is none; it closes the connection.

        Raises:
            EngineError: no server answers, or one was lost while it spoke.
            PromptError, VideoError, RewardError: as the server's own engine.
        """
        body: dict[str, Any] = {
            "videos": [row.clip.video for row in rows],
            "prompt": [row.prompt for row in rows],
            "mode": mode,
            "seed": seed,
            "fingerprint": self.fingerprint,
            "thoughts": True,
            **({"k": k} if mode == "k" else {}),
        }
        attempts = _Attempts(cancel)
        while attempts.may_go_on():
            client, spoken = self._next(body["videos"]), False
            try:
                for row in rows:
                    client.ensure(row.clip.video, row.clip.path)
                with closing(self._events(client, body, cancel)) as events:
                    for event in events:
                        if not isinstance(event, ThoughtDelta):
                            self._up(client)
                            return event
                        spoken = True
                        yield event
            except (ServerDownError, CheckpointChangedError, ServerBusyError, VideoNotThereError) as error:
                self._note(client, error)
                if spoken:
                    raise
                attempts.failed(error, self._seconds_until_free())
        return None

    @staticmethod
    def _events(
        client: JudgingClient, body: dict[str, Any], cancel: Cancel | None
    ) -> Generator[ThoughtDelta | list[list[FinishedThought]] | None, None, None]:
        """Yield the texts of a stream and at last the thoughts; None once cancelled."""
        with client.judging(body) as events:
            for event in events:
                if cancel is not None and cancel.is_set():
                    yield None
                    return
                if event is None:
                    continue
                name, data = event
                if name == "thought":
                    yield ThoughtDelta(int(data["index"]), str(data["text"]))
                elif name == "finished":
                    yield finished_from_json(data)
                    return
                elif name == "error":
                    client.raise_error(data["error"])
        raise ServerDownError(f"{client.name} broke off before the judgement was done; ask again")

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    # ---- which server ----------------------------------------------------------------------------------------------

    def _agree(self, fingerprint: str | None) -> dict[str, Any]:
        """Return the description of the checkpoint that the servers serve; those with another one are left out."""
        agreed: dict[str, Any] | None = None
        for client in self._clients:
            with suppress(ServerDownError, CheckpointChangedError):
                agreed = self._describe(client, fingerprint or (agreed["fingerprint"] if agreed else None))
        if agreed is None:
            raise ServerDownError("; ".join(self.down.values()))
        return agreed

    def _describe(self, client: JudgingClient, fingerprint: str | None) -> dict[str, Any]:
        """Return what a server says of its checkpoint, and note whether it can be used.

        Raises:
            ServerDownError: it does not answer.
            CheckpointChangedError: it serves another checkpoint than that of the fingerprint.
            EngineError: it does not take the token.
        """
        try:
            described = client.checkpoint()
            if fingerprint is not None and described["fingerprint"] != fingerprint:
                raise CheckpointChangedError(
                    f"{client.name} serves {described['name']}, another checkpoint than is wanted here; load that one there"
                )
        except EngineError as error:
            self._note(client, error)
            raise
        self._up(client)
        return described

    def _next(self, videos: Sequence[str]) -> JudgingClient:
        """Return the server with the fewest open requests, of those that are not left out; full ones come last.

        Of equals it is the one that has most of the videos, and of those the one that was chosen least often.

        Raises:
            ServerDownError: all are left out.
        """
        now = time.monotonic()
        with self._lock:
            up = [client for client in self._clients if self._down.get(client.name, _NEVER)[0] <= now]
            if not up:
                raise ServerDownError("; ".join(reason for _, reason in self._down.values()))

            def rank(client: JudgingClient) -> tuple[bool, int, int, int]:
                is_full = self._full.get(client.name, 0.0) > now
                return is_full, client.outstanding, -client.count(videos), self._turns[client.name]

            chosen = min(up, key=rank)
            self._turns[chosen.name] += 1
            return chosen

    def _seconds_until_free(self) -> float:
        """Return the seconds until a server that answers may have room; 0 where one may have it now."""
        now = time.monotonic()
        with self._lock:
            up = [client.name for client in self._clients if self._down.get(client.name, _NEVER)[0] <= now]
            return max(0.0, min((self._full.get(name, 0.0) - now for name in up), default=0.0))

    def _note(self, client: JudgingClient, error: EngineError) -> None:
        """Remember what came of asking a server."""
        now = time.monotonic()
        with self._lock:
            if isinstance(error, ServerBusyError):
                self._full[client.name] = now + min(error.seconds, _LONGEST_PAUSE)
            elif isinstance(error, VideoNotThereError):
                client.forget_videos()
            else:
                self._down[client.name] = now + _DOWN_SECONDS, str(error)

    def _up(self, client: JudgingClient) -> None:
        with self._lock:
            self._down.pop(client.name, None)
            self._full.pop(client.name, None)


class _Attempts:
    """How often and how long a call is tried again."""

    def __init__(self, cancel: Cancel | None) -> None:
        self._cancel, self._failures = cancel, 0
        self._ends = time.monotonic() + _FULL_SECONDS

    def may_go_on(self) -> bool:
        """Tell whether nobody has cancelled the call."""
        return self._cancel is None or not self._cancel.is_set()

    def failed(self, error: EngineError, pause: float) -> None:
        """Count a failure, and wait before the next attempt; raise the error where there was enough of it."""
        if not isinstance(error, ServerBusyError):
            self._failures += 1
        if self._failures > _MOST_FAILURES or time.monotonic() > self._ends:
            raise error
        ends = time.monotonic() + pause
        while time.monotonic() < ends and self.may_go_on():
            time.sleep(_CANCEL_CHECK)


def server_urls(urls: str | Sequence[str]) -> list[str]:
    """Return the addresses in a text or a list, in which commas separate several too.

    Raises:
        EngineError: there is none.
    """
    texts = [urls] if isinstance(urls, str) else list(urls)
    addresses = [url.strip() for text in texts for url in text.split(",") if url.strip()]
    if not addresses:
        raise EngineError("no server is named: give an address such as http://gpu-box:8000")
    return list(dict.fromkeys(addresses))
