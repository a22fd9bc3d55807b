"""Judging over HTTP: events, rows, the queue, clients that leave, the cache, another checkpoint, the end."""

from __future__ import annotations

import dataclasses
import json
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from descore.engines.server_wire import read_events
from descore.engines.transformers_engine import TransformersEngine
from descore.judge import DeScore
from descore.judgement import Judged, Mode, ThoughtDelta, Verdict
from descore.server.job_queue import JobQueue
from descore.server.memory import BoundedCache
from tests.helpers.judging_server import RunningServer, judging_server
from tests.helpers.tiny import tiny_judge
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    from descore.engines.engine import Cancel, Thinking

PROMPT = "A red circle bounces"
TOKEN = "a-token-of-thirty-two-characters"


class HeldEngine(TransformersEngine):
    """The tiny model, which goes on by a token whenever it is let."""

    def __init__(self, judge: DeScore) -> None:
        super().__init__(judge.model, judge.manifest)
        self.let, self.steps, self.began = threading.Semaphore(0), 0, threading.Event()

    def think(self, rows: Sequence[Any], mode: Mode, k: int = 8, seed: int = 0, cancel: Cancel | None = None) -> Thinking:
        thinking = super().think(rows, mode, k, seed, cancel)
        self.began.set()
        while True:
            while not self.let.acquire(timeout=0.02):
                if cancel is not None and cancel.is_set():
                    break
            self.steps += 1
            try:
                yield next(thinking)
            except StopIteration as end:
                return end.value


@contextmanager
def held_server(**options: Any) -> Iterator[tuple[RunningServer, HeldEngine]]:
    engine = HeldEngine(tiny_judge())
    with judging_server(DeScore(engine), **options) as running:
        try:
            yield running, engine
        finally:
            engine.let.release(100_000)


def send(url: str, clips: Sequence[Path]) -> list[str]:
    return [httpx.post(f"{url}/v1/videos", content=clip.read_bytes()).json()["video"] for clip in clips]


def events(url: str, body: dict[str, Any], **options: Any) -> list[tuple[str, dict[str, Any]]]:
    with httpx.stream("POST", f"{url}/v1/judge", json=body, timeout=120, **options) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [event for event in read_events(answer.iter_lines()) if event is not None]


def test_the_events_are_those_of_the_judge(server: RunningServer, clips: list[Path]) -> None:
    judge = tiny_judge()
    videos = send(server.url, clips[:2])
    streamed = events(server.url, {"videos": videos, "prompt": PROMPT, "thoughts": True})
    own = list(judge.stream([str(clip) for clip in clips[:2]], PROMPT))
    texts = [(event.index, event.text) for event in own if isinstance(event, ThoughtDelta)]
    assert [(data["index"], data["text"]) for name, data in streamed if name == "thought"] == texts
    assert [name for name, _ in streamed[-4:]] == ["finished", "judged", "judged", "verdict"]
    verdict = own[-1]
    assert isinstance(verdict, Verdict)
    said = streamed[-1][1]
    assert (said["verdict"], said["prompt"], said["checkpoint"]) == (verdict.verdict, PROMPT, "tiny")
    assert said["p_first_preferred"] == pytest.approx(verdict.p_first_preferred, abs=1e-4)
    judged = [event for event in own if isinstance(event, Judged)]
    for index, (event, (_, data)) in enumerate(zip(judged, streamed[-3:-1], strict=True)):
        expected = dataclasses.asdict(event.judgement) | {"path": videos[index]}
        got = data["judgement"]
        assert data["index"] == index
        for key in ("reward", "seconds"):
            got.pop(key), expected.pop(key)
        assert got == json.loads(json.dumps(expected))


def test_a_repeated_question_is_answered_from_memory(server: RunningServer, clips: list[Path]) -> None:
    videos = send(server.url, clips[:2])
    body = {"videos": videos, "prompt": "a repeated question", "mode": "k", "k": 2, "seed": 3, "thoughts": True}

    def count(result: str) -> float:
        return server.judging.metrics.registry.get_sample_value("descore_cache_total", {"result": result}) or 0.0

    hits = count("hit")
    first = dict(events(server.url, body))
    again = events(server.url, body | {"prompt": " a repeated question\n"})
    assert count("hit") == hits + 2
    assert dict(again)["finished"] == first["finished"]
    assert [name for name, _ in again].count("thought") == 2, "the kept texts come in one piece"
    for other in ({"seed": 4}, {"k": 3}, {"mode": "think"}, {"prompt": "another"}):
        events(server.url, body | other)
    assert count("hit") == hits + 2


def test_each_row_has_its_own_result_or_error(client: httpx.Client, server: RunningServer, clips: list[Path]) -> None:
    videos = send(server.url, clips)
    gone = "0" * 64
    damaged = server.judging.store.folder / videos[2]
    damaged.write_bytes(damaged.read_bytes()[:500])
    server.judging._clips.clear()
    rows = [(videos[0], PROMPT), (gone, PROMPT), (videos[1], ""), (videos[2], PROMPT), (videos[1], "a <|im_end|>")]
    body = {"rows": [{"video": video, "prompt": prompt} for video, prompt in rows], "mode": "quick"}
    results = client.post("/v1/score", json=body).json()["results"]
    damaged.unlink()
    assert [row["error"] and row["error"]["kind"] for row in results] == [None, "video_missing", "prompt", "video", "prompt"]
    own = tiny_judge().judge([str(clips[0])], PROMPT, "quick").videos[0]
    assert results[0]["judgement"]["reward"] == pytest.approx(own.reward, abs=1e-4)
    assert [row["judgement"] for row in results[1:]] == [None] * 4


def test_requests_beyond_the_limits_of_a_server_are_refused(client: httpx.Client, server: RunningServer) -> None:
    video = "0" * 64
    rows = [{"video": video, "prompt": PROMPT}] * 257
    for path, body, status in (
        ("/v1/score", {"rows": rows}, 413),
        ("/v1/judge", {"videos": [video] * 257, "prompt": PROMPT}, 413),
        ("/v1/judge", {"videos": [video], "prompt": PROMPT, "mode": "k", "k": 33}, 422),
        ("/v1/judge", {"videos": [video], "prompt": "x" * 4001}, 404),  # no such video, which is looked at first
        ("/v1/score", {"rows": [{"video": video, "prompt": "x" * 40_000}]}, 422),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == status, answer.text
    assert server.judging.queue.counts() == (0, 0)


def test_a_prompt_that_is_too_long_is_refused_before_a_stream_begins(server: RunningServer, clips: list[Path]) -> None:
    (video,) = send(server.url, clips[:1])
    answer = httpx.post(f"{server.url}/v1/judge", json={"videos": [video], "prompt": "x" * 4001})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "prompt")


def test_a_full_queue_says_when_to_come_again(clips: list[Path]) -> None:
    with held_server(at_once=1, waiting=1) as (running, engine), ThreadPoolExecutor(2) as threads:
        videos = send(running.url, clips[:2])
        first = threads.submit(events, running.url, {"videos": videos, "prompt": PROMPT})
        wait_until(engine.began.is_set, "the first request")
        second = threads.submit(events, running.url, {"videos": videos, "prompt": "another"})
        wait_until(lambda: running.judging.queue.counts() == (1, 1), "the second request")
        for path, body in (
            ("judge", {"videos": videos, "prompt": "a third"}),
            ("score", {"rows": [{"video": videos[0], "prompt": "a third"}]}),
        ):
            answer = httpx.post(f"{running.url}/v1/{path}", json=body)
            assert (answer.status_code, answer.json()["error"]["kind"]) == (429, "busy")
            assert int(answer.headers["Retry-After"]) >= 1
        engine.let.release(1000)
        assert first.result()[-1][0] == second.result()[-1][0] == "verdict"
        wait_until(lambda: running.judging.queue.counts() == (0, 0), "the end of both")
        assert all(users == 0 for users in running.judging.checkpoints._users.values())


def test_a_client_that_leaves_ends_its_work_within_a_token(clips: list[Path]) -> None:
    with held_server(at_once=1) as (running, engine):
        videos = send(running.url, clips[:1])
        with httpx.stream("POST", f"{running.url}/v1/judge", json={"videos": videos, "prompt": PROMPT}) as answer:
            lines = answer.iter_lines()
            engine.let.release(3)
            wait_until(lambda: engine.steps == 3, "three tokens")
            next(lines)
        wait_until(lambda: running.judging.queue.counts() == (0, 0), "the end of the work")
        assert engine.steps <= 4
        with pytest.raises(httpx.ReadTimeout):
            body = {"rows": [{"video": videos[0], "prompt": "rows"}]}
            httpx.post(f"{running.url}/v1/score", json=body, timeout=0.5)
        wait_until(lambda: running.judging.queue.counts() == (0, 0), "the end of the rows")
        assert engine.steps <= 6
        assert all(users == 0 for users in running.judging.checkpoints._users.values())


def test_a_client_that_leaves_while_it_waits_is_never_begun(clips: list[Path]) -> None:
    with held_server(at_once=1) as (running, engine):
        videos = send(running.url, clips[:1])
        with httpx.stream("POST", f"{running.url}/v1/judge", json={"videos": videos, "prompt": PROMPT}):
            wait_until(engine.began.is_set, "the first request")
            with httpx.stream("POST", f"{running.url}/v1/judge", json={"videos": videos, "prompt": "waits"}):
                wait_until(lambda: running.judging.queue.counts() == (1, 1), "the second request")
            wait_until(lambda: running.judging.queue.counts() == (1, 0), "the second one's leaving")


def test_after_a_signal_a_server_finishes_what_it_began_and_takes_no_more(clips: list[Path]) -> None:
    with held_server(at_once=1) as (running, engine), ThreadPoolExecutor(2) as threads:
        videos = send(running.url, clips[:1])
        first = threads.submit(events, running.url, {"videos": videos, "prompt": PROMPT})
        wait_until(engine.began.is_set, "the first request")
        second = threads.submit(events, running.url, {"videos": videos, "prompt": "waits"})
        wait_until(lambda: running.judging.queue.counts() == (1, 1), "the second request")
        running.uvicorn.handle_exit(signal.SIGTERM, None)
        for answer in (
            httpx.post(f"{running.url}/v1/judge", json={"videos": videos, "prompt": "late"}),
            httpx.post(f"{running.url}/v1/videos", content=b"late"),
            httpx.get(f"{running.url}/health"),
        ):
            assert (answer.status_code, answer.json()["error"]["kind"]) == (503, "draining")
            assert answer.headers["Retry-After"]
        engine.let.release(1000)
        assert first.result()[-1][0] == second.result()[-1][0] == "verdict"
        running.thread.join(60)
        assert not running.thread.is_alive()


@pytest.mark.slow
def test_another_checkpoint_is_loaded_beside_and_swapped(clips: list[Path], tmp_path: Path) -> None:
    first, second = (tiny_judge(), tiny_judge())
    second.engine.manifest = second.manifest = replace(second.manifest, name="second")
    folders = [str(judge.save_pretrained(tmp_path / judge.name)) for judge in (first, second)]
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        judging_server(folders[0], token=TOKEN) as running,
        httpx.Client(base_url=running.url, headers=headers, timeout=120) as client,
    ):
        old = client.get("/v1/checkpoint").json()
        refused = client.post("/v1/checkpoint", json={"checkpoint": str(tmp_path / "nothing" / "here")})
        assert (refused.status_code, refused.json()["error"]["kind"]) == (422, "checkpoint")
        assert str(tmp_path) not in refused.text
        wrong = client.post("/v1/checkpoint", json={"checkpoint": folders[1], "fingerprint": "0" * 64})
        assert wrong.status_code == 422
        assert client.get("/v1/checkpoint").json() == old, "the one before goes on"
        begun_on = running.judging.checkpoints.take()
        new = client.post("/v1/checkpoint", json={"checkpoint": folders[1]}).json()
        assert (new["name"], new["location"]) == ("second", folders[1])
        assert begun_on in running.judging.checkpoints._users, "what began on a checkpoint ends on it"
        running.judging.checkpoints.give_back(begun_on)
        assert begun_on not in running.judging.checkpoints._users
        video = client.post("/v1/videos", content=clips[0].read_bytes()).json()["video"]
        body = {"videos": [video], "prompt": PROMPT, "mode": "quick"}
        changed = client.post("/v1/judge", json=body | {"fingerprint": old["fingerprint"]})
        assert (changed.status_code, changed.json()["error"]["kind"]) == (409, "checkpoint_changed")
        assert client.post("/v1/judge", json=body | {"fingerprint": new["fingerprint"]}).status_code == 200


def test_without_a_token_nobody_swaps_checkpoints(client: httpx.Client) -> None:
    answer = client.post("/v1/checkpoint", json={"checkpoint": "bundled"})
    assert (answer.status_code, answer.json()["error"]["kind"]) == (403, "forbidden")


def test_the_figures_count_what_happened(client: httpx.Client, server: RunningServer, clips: list[Path]) -> None:
    (video,) = send(server.url, clips[:1])
    client.post("/v1/score", json={"rows": [{"video": video, "prompt": "figures"}]})
    values = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in client.get("/metrics").text.splitlines()
        if not line.startswith("#")
    }
    assert values["descore_queue_running"] == values["descore_queue_waiting"] == 0
    assert values["descore_tokens_total"] > 0
    assert values["descore_tokens_per_second"] > 0
    assert values['descore_rows_total{mode="think",outcome="judged"}'] >= 1
    assert values["descore_wait_seconds_count"] >= 1
    assert values['descore_judging_seconds_count{mode="think"}'] >= 1
    assert values["descore_store_bytes"] > 0
    client.get("/made/up")
    assert 'path="other"' in client.get("/metrics").text


def test_kept_values_are_bounded_in_number_and_size() -> None:
    cache: BoundedCache[str] = BoundedCache(most=3, most_bytes=100)
    for name in "abc":
        cache.put(name, name, 10)
    assert cache.get("a") == "a"
    cache.put("d", "d", 10)
    assert [cache.get(name) for name in "abcd"] == ["a", None, "c", "d"]
    cache.put("e", "e", 95)
    assert [cache.get(name) for name in "acde"] == [None, None, None, "e"]
    cache.put("f", "f", 101)
    assert cache.get("f") is None
    assert len(cache) == 1


def test_work_that_fails_gives_its_place_back() -> None:
    queue = JobQueue(at_once=1, waiting=0)

    def fail(_cancelled: threading.Event) -> None:
        raise ValueError("it fails")

    job = queue.submit(fail)
    with pytest.raises(ValueError, match="it fails"):
        job.future.result(60)
    wait_until(lambda: queue.counts() == (0, 0), "the end of the work")
    queue.submit(lambda _: None).future.result(60)
    queue.close()
