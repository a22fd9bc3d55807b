"""A real HTTP server with the chat endpoint of a teacher: it answers from a script and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """One HTTP answer. content: of the chat message; None for a body that is not a chat answer."""

    status: int = 200
    content: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    tokens: tuple[int, int] = (1000, 100)


@dataclass
class TeacherServer:
    """Where it listens, and the requests so far: their headers and JSON bodies."""

    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def teacher_server(script: Callable[[int, dict[str, Any]], Answer]) -> Iterator[TeacherServer]:
    """Run the server for the length of the block.

    Args:
        script: the answer to the request of that number, counted from 0, and that body.
    """
    server, lock = TeacherServer(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.bodies)
                server.bodies.append(body)
                server.headers.append(dict(self.headers))
            answer = script(number, body) if self.path == "/v1/chat/completions" else Answer(404)
            text = json.dumps(_chat(answer)) if answer.content is not None else '{"error": "as told"}'
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        server.url = f"http://127.0.0.1:{listening.server_address[1]}/v1"
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def _chat(answer: Answer) -> dict[str, Any]:
    usage = {"prompt_tokens": answer.tokens[0], "completion_tokens": answer.tokens[1]}
    return {"choices": [{"message": {"role": "assistant", "content": answer.content}}], "usage": usage}
