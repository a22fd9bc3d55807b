"""Calling the handlers of a page as its own script does, but by hand: what a curious person could do with a browser."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from tests.helpers.studios import Running


def handlers(running: Running, page: str) -> dict[int, str]:
    """All handlers of a page by number, with the id of the element that triggers them, "" for those without one."""
    blocks = running.studio.blocks
    found = {}
    for number, function in blocks.fns.items():
        if function.page == page:
            targets = [blocks.blocks[target] for target, _ in function.targets if target in blocks.blocks]
            found[number] = str(getattr(targets[0], "elem_id", None) or "") if targets else ""
    return found


def call(
    client: httpx.Client, number: int, data: list[Any], event: dict[str, Any] | None = None, session: str | None = None
) -> dict[str, Any]:
    """Call a handler through the queue; the last message about it, with the outputs under "output".

    session: of the tab; handlers of the same tab share their state.
    """
    session = session or secrets.token_hex(8)
    body = {"fn_index": number, "data": data, "session_hash": session, "event_data": event, "trigger_id": None}
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return {"msg": "refused", "output": {"error": joined.text}}
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}, timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                message: dict[str, Any] = json.loads(line[5:])
                if message["msg"] in ("process_completed", "unexpected_error"):
                    return message
    raise AssertionError("the queue ended without an answer")
