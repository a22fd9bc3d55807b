"""What travels between `descore serve` and its clients: events and finished thoughts as JSON, and server-sent events.

    event: thought
    data: {"index": 0, "text": "The prompt asks"}

`thought`, `judged` and `verdict` are the events of `descore.judgement`; `finished` has the thoughts of all rows, for
engines; `error` ends a stream. Imports neither torch nor a web framework.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from descore.engines.engine import FinishedThought
from descore.judgement import Event, Judged, ThoughtDelta

# A line that says nothing, so that a client has something to read while the model does not speak.
HEARTBEAT = ": \n\n"
HEARTBEAT_SECONDS = 0.25


def event_text(name: str, data: Mapping[str, Any]) -> str:
    """Return one server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n"


def event_of(event: Event) -> tuple[str, dict[str, Any]]:
    """Return name and data of an event of judging."""
    name = "thought" if isinstance(event, ThoughtDelta) else "judged" if isinstance(event, Judged) else "verdict"
    return name, asdict(event)


def finished_to_json(rows: Sequence[Sequence[FinishedThought]]) -> dict[str, Any]:
    """Return the thoughts of all rows as plain JSON values."""
    return {"rows": [[asdict(thought) for thought in row] for row in rows]}


def finished_from_json(data: Mapping[str, Any]) -> list[list[FinishedThought]]:
    """Return the thoughts that `finished_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: it wrote something else.
    """
    return [
        [
            FinishedThought(
                text=str(thought["text"]),
                truncated=bool(thought["truncated"]),
                reward=None if thought["reward"] is None else float(thought["reward"]),
                log_probs=tuple(float(value) for value in thought["log_probs"]),
                # A server of an earlier version does not know it.
                distance=None if thought.get("distance") is None else float(thought["distance"]),
            )
            for thought in row
        ]
        for row in data["rows"]
    ]


def read_events(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]] | None]:
    """Yield name and data of each server-sent event, and None for a heartbeat."""
    name = ""
    for line in lines:
        if line.startswith(":"):
            yield None
        elif line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))
