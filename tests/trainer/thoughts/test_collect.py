"""Collecting thoughts: from a teacher behind a real local HTTP server, and from the own backbone."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.io

from descore.answer import AnswerError, parse_strict
from descore.video import content_hash
from storage.errors import StorageError
from tests.helpers.labelled_shapes import GOOD, THOUGHTS, write_videos
from tests.helpers.teacher_server import Answer, teacher_server
from tests.helpers.tiny import POLICY, tiny_judge
from trainer.__main__ import main
from trainer.data.frames import PairReader
from trainer.data.pairs import TrainingPair, pair_identity
from trainer.data.thought_file import PairThoughts, ThoughtFile, read_thoughts
from trainer.thoughts import collect as thoughts
from trainer.thoughts.collect import CollectionSummary, FailedPair, collect, own_thoughts, teacher_thoughts
from trainer.thoughts.teacher import Teacher, TeacherConfig, TeacherError, as_strict

STRICT = THOUGHTS[0]


def some_pairs(folder: Path, count: int) -> list[TrainingPair]:
    videos = write_videos(folder, 2 * count)
    pairs = []
    for place in range(count):
        a, b = videos[2 * place], videos[2 * place + 1]
        contents = content_hash(a), content_hash(b)
        pairs.append(TrainingPair(pair_identity(*contents, f"p{place}"), (a, b), contents, f"p{place}", 1))
    return pairs


def a_teacher(url: str, **settings: Any) -> Teacher:
    return Teacher(TeacherConfig(url=url, model="large-vlm", **{"backoff_seconds": 0.01} | settings))


def asked_about(body: dict[str, Any]) -> str:
    """Read the prompt inside a request."""
    return str(body["messages"][0]["content"][0]["text"]).rsplit("The text prompt: ", 1)[1]


def gather(pairs: list[TrainingPair], path: Path, teacher: Teacher, parallel: int = 1) -> CollectionSummary:
    with ThoughtFile(path) as file:
        known = {one.identity for one in file.known}
        todo = [pair for pair in pairs if pair.identity not in known]
        return collect(teacher_thoughts(teacher, todo, POLICY, parallel), file, todo)


# the request


def test_a_teacher_gets_instruction_frames_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "secret")
    pairs = some_pairs(tmp_path, 1)
    with teacher_server(lambda *_: Answer(content=STRICT)) as server:
        done = gather(pairs, tmp_path / "t.jsonl", a_teacher(server.url, key_variable="TEACHER_KEY"))
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("large-vlm", 1.0, 4096)
    assert server.headers[0]["Authorization"] == "Bearer secret"
    text, *rest = body["messages"][0]["content"]
    assert "overall_score" in text["text"]
    assert asked_about(body) == "p0"
    stamps, images = rest[::2], rest[1::2]
    assert [stamp["text"] for stamp in stamps] == ["0.2 seconds:", "0.8 seconds:", "1.2 seconds:", "1.8 seconds:"]
    urls = [image["image_url"]["url"].partition(",") for image in images]
    assert {head for head, _, _ in urls} == {"data:image/jpeg;base64"}
    pixels = torchvision.io.decode_jpeg(torch.frombuffer(bytearray(base64.b64decode(urls[0][2])), dtype=torch.uint8))
    assert pixels.shape == (3, 32, 32)
    assert (done.pairs, done.failed, done.prompt_tokens, done.completion_tokens) == (1, (), 2000, 200)
    assert read_thoughts(tmp_path / "t.jsonl")[pairs[0].identity].thoughts == (STRICT, STRICT)


def test_large_frames_are_made_smaller(tmp_path: Path) -> None:
    with teacher_server(lambda *_: Answer(content=STRICT)) as server:
        gather(some_pairs(tmp_path, 1), tmp_path / "t.jsonl", a_teacher(server.url, max_pixels=16 * 16))
    data = server.bodies[0]["messages"][0]["content"][2]["image_url"]["url"].partition(",")[2]
    pixels = torchvision.io.decode_jpeg(torch.frombuffer(bytearray(base64.b64decode(data)), dtype=torch.uint8))
    assert pixels.shape == (3, 16, 16)


# what goes wrong


@pytest.mark.slow
def test_a_busy_endpoint_is_asked_again(tmp_path: Path) -> None:
    first = [Answer(429, headers={"Retry-After": "0.3"}), Answer(500), Answer(503), Answer(200)]

    def script(number: int, _: dict[str, Any]) -> Answer:
        return first[number] if number < len(first) else Answer(content=STRICT)

    began = time.monotonic()
    with teacher_server(script) as server:
        done = gather(some_pairs(tmp_path, 1), tmp_path / "t.jsonl", a_teacher(server.url))
    assert (done.pairs, len(done.failed), len(server.bodies)) == (1, 0, 6)
    assert time.monotonic() - began >= 0.3  # as the endpoint asked


def test_an_unreadable_answer_is_asked_for_again_and_paid_for(tmp_path: Path) -> None:
    with teacher_server(lambda number, _: Answer(content="no idea" if number == 0 else STRICT)) as server:
        done = gather(some_pairs(tmp_path, 1), tmp_path / "t.jsonl", a_teacher(server.url))
    assert (done.pairs, len(server.bodies), done.prompt_tokens, done.completion_tokens) == (1, 3, 3000, 300)
    assert done.line(2.0, 10.0).startswith("1 pairs, 0 failed, 3,000 prompt + 300 completion tokens, cost 0.01")
    assert "cost" not in done.line(0.0, 0.0)


def test_one_refused_video_costs_its_pair_alone(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path, 3)

    def script(_: int, body: dict[str, Any]) -> Answer:
        return Answer(400) if asked_about(body) == "p1" else Answer(content=STRICT)

    with teacher_server(script) as server:
        done = gather(pairs, tmp_path / "t.jsonl", a_teacher(server.url), parallel=2)
    assert done.pairs == 2
    assert [failed.identity for failed in done.failed] == [pairs[1].identity]
    assert "answers 400" in done.failed[0].reason


def test_a_video_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    pairs = some_pairs(tmp_path, 2)
    pairs[0].videos[1].write_bytes(b"no video")
    with teacher_server(lambda *_: Answer(content=STRICT)) as server:
        done = gather(pairs, tmp_path / "t.jsonl", a_teacher(server.url))
    assert done.pairs == 1
    assert "1.mp4" in done.failed[0].reason


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_ends_the_collection_at_once(tmp_path: Path, status: int) -> None:
    with teacher_server(lambda *_: Answer(status)) as server, pytest.raises(TeacherError, match="OPENAI_API_KEY"):
        gather(some_pairs(tmp_path, 3), tmp_path / "t.jsonl", a_teacher(server.url))
    assert len(server.bodies) == 1


def test_nobody_at_the_address_ends_after_pair_after_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thoughts, "_FAILURES_IN_A_ROW", 2)
    teacher = a_teacher("http://127.0.0.1:9/v1", attempts=2)
    with pytest.raises(TeacherError, match=r"2 pairs in a row failed.*127\.0\.0\.1:9"):
        gather(some_pairs(tmp_path, 3), tmp_path / "t.jsonl", teacher)


def test_requests_keep_to_their_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    with teacher_server(lambda *_: Answer(content=STRICT)) as server:
        gather(some_pairs(tmp_path, 2), tmp_path / "t.jsonl", a_teacher(server.url, requests_per_minute=600), parallel=2)
    assert len(server.bodies) == 4
    assert time.monotonic() - began >= 0.3


# resume


def test_an_interrupted_collection_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    pairs, path = some_pairs(tmp_path, 3), tmp_path / "t.jsonl"
    with teacher_server(lambda *_: Answer(content=STRICT)) as server:
        gather(pairs[:2], path, a_teacher(server.url))
        path.write_bytes(path.read_bytes()[:-20])  # killed in the middle of the second line
        asked = len(server.bodies)
        done = gather(pairs, path, a_teacher(server.url))
    assert {asked_about(body) for body in server.bodies[asked:]} == {"p1", "p2"}
    assert done.pairs == 2
    assert set(read_thoughts(path)) == {pair.identity for pair in pairs}
    assert all(json.loads(line) for line in path.read_text("utf-8").splitlines())


def test_a_file_of_something_else_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(StorageError, match=r"t\.jsonl:1 is no line of thoughts"):
        ThoughtFile(path)
    assert path.read_text() == '{"prompt": "x"}\n'


# the grammar


def test_a_readable_answer_is_written_in_the_strict_form() -> None:
    loose = f"<think>All is well.</think>\n```json\n{json.dumps(GOOD | {'overall_score': 5})}\n```"
    assert parse_strict(as_strict(loose)).sub_scores == GOOD
    assert as_strict(f" {STRICT}\n") == STRICT
    with pytest.raises(AnswerError, match="overall score"):
        as_strict(f"<think>All is well.</think>{json.dumps(GOOD)}")
    with pytest.raises(AnswerError):
        as_strict("no idea")


# the own backbone


def test_own_thoughts_do_not_depend_on_their_batch(tmp_path: Path) -> None:
    judge, pairs = tiny_judge(thought_tokens=12), some_pairs(tmp_path, 3)

    def think(batch: int) -> list[PairThoughts | FailedPair]:
        reader = PairReader(judge.model.processor, POLICY, "compact-1", None)
        return list(own_thoughts(judge.model, judge.manifest, pairs, reader, batch))

    together, alone = think(3), think(1)
    assert [one.thoughts for one in together if isinstance(one, PairThoughts)] == [
        one.thoughts for one in alone if isinstance(one, PairThoughts)
    ]
    first = together[0]
    assert isinstance(first, PairThoughts)
    assert first.thoughts[0] != first.thoughts[1]
    assert first.by.startswith("tiny (")
    assert first.completion_tokens > 0
    assert not first.whole  # a random model goes on until the limit


def test_thoughts_that_were_cut_off_are_not_read(tmp_path: Path) -> None:
    with ThoughtFile(tmp_path / "t.jsonl") as file:
        file.add(PairThoughts("x", ("a", "b"), "me", ("one", "two"), whole=False))
    assert read_thoughts(tmp_path / "t.jsonl") == {}


# the command


def table_of(folder: Path, pairs: list[TrainingPair], write: Callable[[TrainingPair], str]) -> Path:
    (folder / "pairs.csv").write_text("path_A,path_B,prompt,TA\n" + "".join(map(write, pairs)))
    return folder / "pairs.csv"


def test_the_command_collects_tells_the_cost_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = some_pairs(tmp_path, 2)
    table = table_of(tmp_path, pairs, lambda pair: f"{pair.videos[0].name},{pair.videos[1].name},{pair.prompt},A\n")
    with teacher_server(lambda *_: Answer(content=STRICT)) as server:
        command = ["collect-thoughts", "--set", f"data.csv={table}", "--set", "data.held_out_share=0"]
        command += ["--out", str(tmp_path / "t.jsonl"), "--price-in", "1000"]
        command += ["--teacher", server.url, "--model", "large-vlm"]
        assert main([*command, "--pairs", "1"]) == 0
        assert "cost 2.00" in capsys.readouterr().out
        assert main(command) == 0
    assert "2 training pairs, 1 to think about, 1 already in" in capsys.readouterr().out
    assert set(read_thoughts(tmp_path / "t.jsonl")) == {pair.identity for pair in pairs}


def test_the_command_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect-thoughts", "--teacher", "http://x/v1", "--out", str(tmp_path / "t")]) == 2
    assert "--model" in capsys.readouterr().err
    assert main(["collect-thoughts", "--set", "data.csv=no.csv", "--out", str(tmp_path / "t")]) == 2
    assert "no.csv" in capsys.readouterr().err
