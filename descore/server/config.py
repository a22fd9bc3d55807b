"""Settings of a server, and the rules about who may reach it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from descore.engines.engine import EngineName
from descore.errors import EngineError

PORT = 8000
MB, GB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class ServerConfig:
    """What a server serves, to whom, and how much of everything it takes.

    Attributes:
        checkpoint: folder, Hub id or "bundled".
        engine: who thinks.
        host, port: where it listens; port 0 is any free one.
        token: that every request but `GET /health` has to bring; None for nobody's, on this machine alone.
        store: folder of the uploaded videos; None for one of its own that goes with the server.
        store_bytes: of all videos together; the least recently used ones go.
        file_bytes: of one video.
        body_bytes: of a request that is no video.
        rows: videos of one request.
        thoughts: of one video in mode k.
        at_once: requests that are judged at a time; None for what suits the engine.
        waiting: requests that wait for their turn; more are refused.
        uploads: videos that arrive at the same time; more are refused.
        cached_results: finished judgements that are kept in memory.
        clip_bytes: of the decoded frames that are kept in memory.
        stall_seconds: an upload without a byte for so long is ended.
    """

    checkpoint: str = "bundled"
    engine: EngineName = "auto"
    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = None
    store: Path | None = None
    store_bytes: int = 20 * GB
    file_bytes: int = 512 * MB
    body_bytes: int = 4 * MB
    rows: int = 256
    thoughts: int = 32
    at_once: int | None = None
    waiting: int = 64
    uploads: int = 16
    cached_results: int = 10_000
    clip_bytes: int = 256 * MB
    stall_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise EngineError(
                f"{self.host} can be reached by others: give --token-file FILE with a token that they have to bring"
            )
        if self.file_bytes > self.store_bytes:
            raise EngineError("the store must have room for one video of the largest size: raise --store-gb")


def is_loopback(host: str) -> bool:
    """Tell whether an address is of this machine alone, such as 127.0.0.1, ::1 or localhost."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def read_token(path: Path | None) -> str | None:
    """Read a bearer token from the first line of a file; None without a file.

    Raises:
        EngineError: the file can't be read, or holds no token that a header can carry.
    """
    if path is None:
        return None
    try:
        lines = path.read_text("utf-8").split("\n", 1)
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"the token file {path.name} can't be read; check its path and rights") from error
    token = lines[0].strip()
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise EngineError(f"the first line of {path.name} is no token: write 16 or more printable characters without spaces")
    return token
