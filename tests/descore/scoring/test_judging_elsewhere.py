"""Tables that are scored by servers, and by a process for each device: real ones, on the CPU."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from descore.__main__ import main
from descore.errors import DeviceError, EngineError
from descore.modeling.backbone import check_device, default_device
from descore.server.local_servers import local_servers, parse_devices
from tests.helpers.judging_server import RunningServer, judging_server
from tests.helpers.tiny import tiny_judge, tiny_video

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, four clips, a file that is none, a table, and what this process makes of it."""
    room = tmp_path_factory.mktemp("room")
    tiny_judge(thought_tokens=6).save_pretrained(room / "tiny")
    for seed, name in enumerate("abcd"):
        tiny_video(room / f"{name}.mp4", seed)
    (room / "broken.mp4").write_text("not a video")
    (room / "token").write_text(TOKEN)
    with (room / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        pairs = [("a", "b", "one"), ("b", "c", "two"), ("c", "d", "one"), ("a", "broken", "one"), ("d", "a", "two")]
        csv.writer(file).writerows([("path_A", "path_B", "prompt"), *((f"{a}.mp4", f"{b}.mp4", p) for a, b, p in pairs)])
    assert score(room, "here.csv", "--checkpoint", str(room / "tiny"), "--engine", "transformers") == 3
    return room


@pytest.fixture(scope="module")
def servers(room: Path) -> Iterator[list[RunningServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(judging_server(str(room / "tiny"), token=TOKEN)) for _ in range(2)]


def score(room: Path, out: str, *more: str) -> int:
    return main(["score", str(room / "pairs.csv"), "--out", str(room / out), "--batch-size", "2", *more])


def rewards(path: Path) -> list[dict[str, str]]:
    """The rows without what the way leaves its mark on: words of errors."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{**row, "error": str(bool(row["error"])), "engine": ""} for row in csv.DictReader(file)]


def same(found: list[dict[str, str]], expected: list[dict[str, str]]) -> bool:
    """Whether the rows are the same, rewards to 1e-4."""
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            if name.startswith(("reward", "standardised", "p_first")) and value:
                if float(one[name]) != pytest.approx(float(value), abs=1e-4):
                    return False
            elif one[name] != value:
                return False
    return True


def test_servers_share_a_table_and_give_this_processs_rows(room: Path, servers: list[RunningServer]) -> None:
    urls = ",".join(server.url for server in servers)
    assert score(room, "served.csv", "--server", urls, "--server-token-file", str(room / "token")) == 3
    found = rewards(room / "served.csv")
    assert same(found, rewards(room / "here.csv"))
    judged = [
        sum(server.judging.metrics.rows.labels(mode, "judged")._value.get() for mode in ("think",)) for server in servers
    ]
    assert sum(judged) >= 6, "a, b, c, d with their prompts are judged there"
    assert min(judged) > 0, "each server has a share"


def test_answers_of_this_process_are_taken_for_a_server_with_the_same_checkpoint(
    room: Path, servers: list[RunningServer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(room, "both.csv", "--checkpoint", str(room / "tiny"), "--engine", "transformers") == 3
    capsys.readouterr()
    score(room, "both.csv", "--server", servers[0].url, "--server-token-file", str(room / "token"), "--keep-errors")
    assert "(0 of " in capsys.readouterr().err


def test_a_server_with_another_checkpoint_than_was_asked_for_is_refused(
    room: Path, servers: list[RunningServer], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_judge(thought_tokens=7).save_pretrained(room / "other")
    code = score(
        room, "x.csv", "--server", servers[0].url, "--server-token-file", str(room / "token"), "--checkpoint",
        str(room / "other"),
    )  # fmt: skip
    assert code == 2
    assert "another checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--server", "http://127.0.0.1:9"], "127.0.0.1:9"),
        (["--server", "http://127.0.0.1:9", "--engine", "transformers"], "--engine"),
        (["--devices", "cuda:7"], "this machine has no cuda:7"),
    ],
)
def test_what_can_t_be_met_is_one_line(
    room: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert score(room, "y.csv", *options) == 2
    assert words in capsys.readouterr().err
    assert not (room / "y.csv").exists()


@pytest.mark.slow
def test_a_process_for_each_device_shares_a_table_and_ends_with_it(room: Path) -> None:
    assert score(room, "devices.csv", "--devices", "cpu,cpu", "--checkpoint", str(room / "tiny")) == 3
    assert same(rewards(room / "devices.csv"), rewards(room / "here.csv"))
    assert not servers_of(room / "tiny")


@pytest.mark.slow
def test_a_server_that_can_t_start_says_why(tmp_path: Path) -> None:
    servers = local_servers(str(tmp_path / "nothing"), "transformers", ["cpu"])
    with pytest.raises(EngineError, match=r"could not start.*nothing"), servers:
        pass


def servers_of(checkpoint: Path) -> list[int]:
    """The processes on this machine that serve a checkpoint."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended
        if b"serve" in words and str(checkpoint).encode() in words:
            found.append(int(entry.parent.name))
    return found


def test_the_cpu_may_be_named_twice_and_nothing_else_is_invented() -> None:
    assert parse_devices("cpu, cpu") == ["cpu", "cpu"]
    with pytest.raises(DeviceError, match="no device"):
        parse_devices(" , ")


@pytest.mark.parametrize(("rank", "gpus", "index"), [("3", 8, 3), ("3", 1, 0), ("", 8, 0), (None, 8, 0)])
def test_each_process_of_a_launcher_has_its_own_gpu(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, gpus: int, index: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert default_device() == check_device("cuda") == torch.device("cuda", index)
