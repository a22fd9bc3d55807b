"""A client that leaves in the middle of a judgement: the work ends within one step, and the model is free for others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from storage.schema import JudgementRow
from tests.helpers.studios import LONG_THOUGHT, Running, make_clip, running_studio, talkative_checkpoint
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.slow
SECONDS = 120.0  # until a test gives up; nothing is measured in seconds


class Held:
    """A function of the model that counts its calls and rests in one of them until the test lets it go on."""

    def __init__(self, function: Callable[..., Any], rest_in: int) -> None:
        self.function, self.rest_in = function, rest_in
        self.calls = 0
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.calls == self.rest_in:
            self.reached.set()
            assert self.go_on.wait(SECONDS)
        return self.function(*args, **kwargs)


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("leaving")
    with running_studio(folder, talkative_checkpoint(folder / "checkpoint", thought_tokens=LONG_THOUGHT)) as app:
        yield app


def uploaded(app: Running, path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (name,) = httpx.post(f"{app.url}/gradio_api/upload", files={"files": (path.name, file)}).json()
    return {"path": name, "meta": {"_type": "gradio.FileData"}}


def leave_in_the_middle(app: Running, endpoint: str, data: list[Any], held: Held) -> None:
    """Ask, begin to listen, and go once the model has reached the call that is held; return when the work has ended."""
    queue = app.studio.blocks._queue
    address = f"{app.url}/gradio_api/call/{endpoint}"
    event_id = httpx.post(address, json={"data": data}).json()["event_id"]
    event = queue.event_ids_to_events[event_id]
    with httpx.stream("GET", f"{address}/{event_id}", timeout=SECONDS) as answer:
        assert answer.status_code == 200
        assert held.reached.wait(SECONDS)
        assert event.alive
    wait_until(lambda: not event.alive, "the server has noticed that the client left")
    held.go_on.set()
    wait_until(lambda: event_id not in queue.event_ids_to_events, "the work has ended")


def judgements(app: Running) -> int:
    with app.studio.database.read() as session:
        return session.scalar(select(func.count()).select_from(JudgementRow)) or 0


def test_the_thought_ends_within_a_token(talkative: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = talkative.studio.serving.now.require_model()
    held = Held(judge.model._append_tokens, rest_in=3)
    monkeypatch.setattr(judge.model, "_append_tokens", held)
    before = judgements(talkative)
    leave_in_the_middle(talkative, "judge_bundled", ["red", "think", 8], held)
    assert held.calls == 3
    assert judgements(talkative) == before


def test_the_reading_of_a_long_prompt_ends_within_a_piece(
    talkative: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = talkative.studio.serving.now.require_model()
    held = Held(judge.model.backbone.forward, rest_in=2)
    monkeypatch.setattr(judge.model.backbone, "forward", held)
    clips = [uploaded(talkative, make_clip(tmp_path / f"{name}.mp4", (9, 99, n))) for n, name in enumerate("ab")]
    leave_in_the_middle(talkative, "judge", [*clips, "a red circle bounces " * 100, "quick", 8], held)
    assert held.calls == 2
    with judge.engine.lock:  # free for the next one
        pass
