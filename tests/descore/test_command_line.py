"""The command line: `judge` and `score`, in-process, plus one real process for what only a process shows."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from descore.__main__ import main
from descore.scoring.output_rows import COLUMNS
from tests.helpers.tiny import calibrated, tiny_judge, tiny_video


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, two videos, a file that is none, and a table of four pairs, the second and last of them
    bad."""
    room = tmp_path_factory.mktemp("room")
    calibrated(tiny_judge(thought_tokens=6)).save_pretrained(room / "tiny")
    tiny_video(room / "a.mp4", 1)
    tiny_video(room / "b.mp4", 2)
    (room / "text.mp4").write_text("not a video")
    rows = [
        ("a.mp4", "b.mp4", "one"),
        ("a.mp4", "text.mp4", "two"),
        ("b.mp4", "a.mp4", 'with "quotes",\nand lines'),
        ("a.mp4", "b.mp4", " "),
    ]
    with (room / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path_A", "path_B", "A_model", "prompt", "TA"])
        writer.writerows([a, b, "some", prompt, "A"] for a, b, prompt in rows)
    return room


def run(room: Path, *arguments: str) -> int:
    return main([*arguments, "--checkpoint", str(room / "tiny")])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("mode", ["think", "quick", "k"])
def test_judge_json(room: Path, capsys: pytest.CaptureFixture[str], mode: str) -> None:
    paths = [str(room / "a.mp4"), str(room / "b.mp4")]
    assert run(room, "judge", "--prompt", "a circle", *paths, "--mode", mode, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["checkpoint"], found["mode"], found["prompt"]) == ("tiny", mode, "a circle")
    assert [video["path"] for video in found["videos"]] == paths
    assert 0 < found["p_first_preferred"] < 1
    assert found["verdict"] in ("A", "B")
    assert set(found["videos"][0]) == {
        "path", "reward", "standardised_reward", "sub_scores", "overall_score", "thought", "seconds",
        "implied_overall_score", "overall_contradicts", "distance", "unfamiliar",
    }  # fmt: skip
    assert found["videos"][0]["seconds"] > 0
    assert isinstance(found["videos"][0]["reward"], float)


def test_judge_for_people(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(room, "judge", "--prompt", "a circle", str(room / "a.mp4"), str(room / "b.mp4")) == 0
    text = capsys.readouterr().out
    assert "reward" in text
    assert "is preferred (P(A preferred)" in text
    assert run(room, "judge", "--prompt", "a circle", str(room / "a.mp4")) == 0
    assert "preferred" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["judge", "--prompt", "x", "nowhere.mp4"], "nowhere.mp4"),
        (["judge", "--prompt", " ", "{room}/a.mp4"], "prompt is empty"),
        (["judge", "--prompt", "x", "{room}/text.mp4"], "text.mp4"),
        (["judge", "--prompt", "x", "{room}/a.mp4", "--checkpoint", "/no/where"], "no checkpoint folder"),
        (["score", "{room}/none.csv", "--out", "{room}/out.csv"], "none.csv"),
        (["score", "{room}/text.mp4", "--out", "{room}/out.csv"], "lacks the columns"),
        (["score", "{room}/pairs.csv", "--out", "{room}/pairs.csv"], "choose another --out"),
    ],
)
def test_mistakes_cost_one_line(room: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    arguments = [argument.replace("{room}", str(room)) for argument in arguments]
    before = (room / "pairs.csv").read_bytes()
    if "--checkpoint" not in arguments:
        arguments += ["--checkpoint", str(room / "tiny")]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.startswith("descore: ")
    assert captured.err.count("\n") == 1
    assert (room / "pairs.csv").read_bytes() == before


def test_score_writes_every_row_and_a_bad_file_costs_its_own(room: Path, tmp_path: Path) -> None:
    assert run(room, "score", str(room / "pairs.csv"), "--out", str(tmp_path / "out.csv")) == 3
    rows = table(tmp_path / "out.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert [row["row"] for row in rows] == ["1", "2", "3", "4"]
    assert [bool(row["error"]) for row in rows] == [False, True, False, True]
    assert "text.mp4" in rows[1]["error"]
    assert "prompt is empty" in rows[3]["error"]
    assert rows[1]["reward_A"]
    assert rows[1]["reward_B"] == rows[1]["verdict"] == ""
    assert rows[2]["prompt"] == 'with "quotes",\nand lines'
    judge = tiny_judge(thought_tokens=6)
    expected = judge.judge([room / "a.mp4", room / "b.mp4"], "one")
    assert float(rows[0]["reward_A"]) == pytest.approx(expected.videos[0].reward, abs=1e-4)
    assert rows[0]["thought_B"] == expected.videos[1].thought
    assert rows[0]["verdict"] == expected.verdict


def test_evaluate_prints_the_agreement(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("evaluate", str(room / "pairs.csv"), "--out", str(tmp_path / "out.csv"), "--mode", "quick")
    assert run(room, *arguments, "--name", "VideoGen-RewardBench") == 3
    text = capsys.readouterr().out
    assert "tiny, mode quick, on pairs.csv: 2 labelled pairs, 0 of them ties; 2 could not be judged" in text
    assert "accuracy without ties" in text
    assert "2 of 2 outcomes are the same" in text
    assert "published on VideoGen-Bench" in text
    assert text.rstrip().splitlines()[-1].startswith("  here: tiny")
    run(room, *arguments, "--json")
    values = json.loads(capsys.readouterr().out)
    assert (values["pairs"], values["failed"], values["published"]) == (2, 2, None)


@pytest.mark.slow
def test_a_real_process_prints_only_json_and_only_one_line_of_error(room: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "descore",
        "judge",
        "--checkpoint",
        str(room / "tiny"),
        "--prompt",
        "x",
        "--json",
    ]
    good = subprocess.run([*command, str(room / "a.mp4")], capture_output=True, text=True, timeout=400, check=False)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["videos"][0]["path"] == str(room / "a.mp4")
    bad = subprocess.run([*command, str(room / "text.mp4")], capture_output=True, text=True, timeout=400, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("descore: ")
    assert bad.stderr.count("\n") == 1


def test_importing_descore_or_its_video_module_does_not_import_torch() -> None:
    code = "import sys, descore, descore.video, descore.judgement; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=400)


@pytest.mark.parametrize("prompt", ["x" * 20_000, "x" * 1_000_000, "a\x1bb", "\ud800"])
def test_a_prompt_that_can_not_be_used_is_refused_before_the_checkpoint_is_looked_for(
    prompt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", "--prompt", prompt, "missing.mp4", "--checkpoint", "missing"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("descore: the prompt h")
    assert ("at most 4,000" if len(prompt) > 10 else "can't be stored") in told
    assert told.count("\n") == 1


def test_a_long_prompt_in_a_table_costs_its_row_alone(room: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    with pairs.open("w", newline="", encoding="utf-8") as file:
        # The clips of the long one are missing: they are not looked for.
        rows = [("missing.mp4", "missing.mp4", "x" * 20_000), (str(room / "a.mp4"), str(room / "b.mp4"), "fine")]
        csv.writer(file).writerows([("path_A", "path_B", "prompt"), *rows])
    run(room, "score", str(pairs), "--out", str(tmp_path / "out.csv"), "--mode", "quick")
    long, fine = table(tmp_path / "out.csv")
    assert "20,000 characters; at most 4,000 are allowed" in long["error"]
    assert fine["reward_A"]
