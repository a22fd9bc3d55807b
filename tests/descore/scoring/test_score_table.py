"""Tables are scored once for each distinct content, and go on wherever a run ended."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from descore.judge import DeScore
from descore.scoring.config import ScoreConfig, parse_shard
from descore.scoring.judge_source import JudgeSource
from descore.scoring.output_rows import COLUMNS, LATER
from descore.scoring.results_file import ResultsFile
from descore.scoring.score_table import ScoreSummary, results_path, score_table
from descore.tables.pairs import read_pairs
from tests.helpers.tiny import tiny_judge, tiny_video

QUICK = ScoreConfig("quick", batch_size=2)
ROWS = [
    ("a", "b", "one"),
    ("b", "a", "one"),
    ("a", "c", "two"),
    ("copy", "c", "two"),
    ("b", "c", " one "),
    ("c", "a", "one"),
]
DISTINCT = 5  # a, b, c with "one" (blanks don't matter), a and c with "two"; "copy" is a


class Scored:
    """A folder with clips, a table and a checkpoint; it counts what the model judges."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.judged = folder, list[str]()
        self.checkpoint, self.loads = folder / "tiny", 0
        self._judge = tiny_judge(thought_tokens=6)
        self._judge.save_pretrained(self.checkpoint)
        for seed, name in enumerate("abc"):
            tiny_video(folder / f"{name}.mp4", seed)
        shutil.copy(folder / "a.mp4", folder / "copy.mp4")
        self.write(ROWS)
        original = DeScore.score_clips

        def counted(judge: DeScore, clips: Any, videos: Any, *rest: Any) -> Any:
            self.judged += [Path(video).stem for video in videos]
            return original(judge, clips, videos, *rest)

        monkeypatch.setattr(DeScore, "score_clips", counted)

    def write(self, rows: list[tuple[str, str, str]]) -> None:
        with (self.folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path_A", "path_B", "prompt"), *((f"{a}.mp4", f"{b}.mp4", p) for a, b, p in rows)])

    def load(self) -> DeScore:
        self.loads += 1
        return self._judge

    def score(self, out: str = "out.csv", config: ScoreConfig = QUICK, checkpoint: Path | None = None) -> ScoreSummary:
        self.judged.clear()
        table = read_pairs(self.folder / "pairs.csv")
        source = JudgeSource.of_folder(checkpoint or self.checkpoint, self.load)
        return score_table(source, table, self.folder / out, config)

    def rows(self, out: str = "out.csv") -> list[dict[str, str]]:
        with (self.folder / out).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scored:
    return Scored(tmp_path, monkeypatch)


def test_each_content_is_judged_once(scored: Scored) -> None:
    summary = scored.score()
    assert sorted(scored.judged) == ["a", "a", "b", "c", "c"]
    assert (summary.rows, summary.questions, summary.judged, summary.failed_rows) == (6, DISTINCT, DISTINCT, 0)
    rows = scored.rows()
    assert [(row["path_A"], row["path_B"]) for row in rows] == [(f"{a}.mp4", f"{b}.mp4") for a, b, _ in ROWS]
    assert rows[0]["reward_A"] == rows[1]["reward_B"]
    assert rows[2]["reward_A"] == rows[3]["reward_A"]
    assert rows[2]["video_sha256_A"] == rows[3]["video_sha256_A"]
    assert {row["engine"].split()[0] for row in rows} == {"transformers"}
    whole = (scored.folder / "out.csv").read_bytes()
    assert scored.score().judged == 0
    assert scored.loads == 1  # the second run needs no model
    assert (scored.folder / "out.csv").read_bytes() == whole


def test_rows_that_are_added_are_all_that_is_judged(scored: Scored) -> None:
    scored.score()
    scored.write([("c", "b", "three"), *ROWS])
    scored.score()
    assert scored.judged == ["c", "b"]


def test_a_changed_clip_another_mode_and_another_checkpoint_are_judged_anew(scored: Scored) -> None:
    scored.score()
    before = scored.rows()
    tiny_video(scored.folder / "b.mp4", 9)
    scored.score()
    assert scored.judged == ["b"]
    assert scored.rows()[0]["reward_B"] != before[0]["reward_B"]
    scored.score(config=ScoreConfig("think", batch_size=2))
    assert len(scored.judged) == DISTINCT
    # The same name with another content, as the checkpoints of two runs have.
    other = scored.folder / "other" / "tiny"
    judge = tiny_judge(thought_tokens=5)
    judge.save_pretrained(other)
    scored.score(checkpoint=other)
    assert len(scored.judged) == DISTINCT
    scored.score()
    assert scored.judged == []  # all others are still known


@pytest.mark.parametrize("cut", ["a line", "inside of a line", "the header", "zeros"])
def test_a_run_that_was_killed_goes_on_to_the_same_file(scored: Scored, cut: str) -> None:
    scored.score()
    whole, answers = (scored.folder / "out.csv").read_bytes(), results_path(scored.folder / "out.csv")
    (scored.folder / "out.csv").unlink()
    lines = answers.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 3  # the header, and batches of two
    kept = {
        "a line": b"".join(lines[:2]),
        "inside of a line": b"".join(lines[:2]) + lines[2][:50],
        "the header": lines[0][:10],
        "zeros": b"".join(lines[:2]) + bytes(40) + b"\n",
    }[cut]
    answers.write_bytes(kept)
    scored.score()
    assert len(scored.judged) == (DISTINCT if cut == "the header" else DISTINCT - 2)
    assert (scored.folder / "out.csv").read_bytes() == whole
    assert answers.read_bytes().startswith(b"".join(lines[:2]) if cut != "the header" else lines[0])


def test_errors_are_tried_again_unless_they_are_to_be_kept(scored: Scored) -> None:
    video = (scored.folder / "b.mp4").read_bytes()
    (scored.folder / "b.mp4").write_text("no video")
    (scored.folder / "c.mp4").rename(scored.folder / "hidden")
    summary = scored.score()
    assert (summary.failed_rows, summary.has_failures) == (6, True)
    assert "b.mp4" in scored.rows()[0]["error"]
    assert "c.mp4: there is no such file" in scored.rows()[2]["error"]
    (scored.folder / "hidden").rename(scored.folder / "c.mp4")
    assert scored.score(config=ScoreConfig("quick", batch_size=2, keep_errors=True)).failed_rows == 3
    assert scored.judged == ["c", "c"]  # another content than none
    (scored.folder / "b.mp4").write_bytes(video)
    assert scored.score().failed_rows == 0
    assert scored.judged == ["b"]


def test_a_prompt_that_can_not_be_used_costs_its_rows_alone(scored: Scored) -> None:
    scored.write([("a", "b", "x" * 20_000), ("a", "b", " "), ("a", "b", "fine \ud800"[:4])])
    assert scored.score().failed_rows == 2
    errors = [row["error"] for row in scored.rows()]
    assert "20,000 characters; at most 4,000 are allowed" in errors[0]
    assert "the prompt is empty" in errors[1]
    assert errors[2] == ""


def test_shards_together_are_a_whole_run(scored: Scored) -> None:
    scored.score("whole.csv")
    judged: list[str] = []
    with pytest.raises(ValueError, match=r"no shards of .*out.csv to merge; run the command with --shard 1/N"):
        scored.score(config=ScoreConfig("quick", batch_size=2, merge=True))
    for number in (1, 2):
        summary = scored.score(config=ScoreConfig("quick", batch_size=2, shard=(number, 2)))
        assert summary.out.name == f"out.csv.judgements.{number}-of-2.jsonl"
        judged += scored.judged
        if number == 1:
            with pytest.raises(ValueError, match="2 videos have no answer in any shard"):
                scored.score(config=ScoreConfig("quick", batch_size=2, merge=True))
    assert sorted(judged) == ["a", "a", "b", "c", "c"]
    loads = scored.loads
    assert scored.score(config=ScoreConfig("quick", batch_size=2, merge=True)).judged == 0
    assert scored.loads == loads
    assert (scored.folder / "out.csv").read_bytes() == (scored.folder / "whole.csv").read_bytes()
    assert scored.score().judged == 0  # the answers are the output's own now


def test_parquet_has_the_same_rows(scored: Scored) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    scored.score()
    scored.score("out.parquet")
    rows = parquet.read_table(scored.folder / "out.parquet").to_pylist()
    assert list(rows[0]) == list(COLUMNS)
    for row, text in zip(rows, scored.rows(), strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == text
    scored.score("out.parquet")
    assert scored.judged == []


def test_an_output_without_the_later_columns_is_gone_on_with(scored: Scored) -> None:
    scored.score()
    out = scored.folder / "out.csv"
    whole = out.read_bytes()
    earlier = [name for name in COLUMNS if name not in LATER]
    out.write_bytes((",".join(earlier) + "\r\n").encode())
    scored.score()
    assert (out.read_bytes(), scored.judged) == (whole, [])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("row,path_A,path_B,prompt,checkpoint,mode,reward_A\r\n1,a,b", "begun by an earlier version"),
        ("my,own,table\r\n", "was not written by this command; choose another --out"),
        ("PAR1", "was not written by this command; choose another --out"),
    ],
)
def test_files_of_others_are_left_alone(scored: Scored, content: str, says: str) -> None:
    (scored.folder / "out.csv").write_bytes(content.encode())
    with pytest.raises(ValueError, match=says):
        scored.score()
    assert (scored.folder / "out.csv").read_bytes() == content.encode()
    answers = results_path(scored.folder / "other.csv")
    answers.write_text("my own notes")
    with pytest.raises(ValueError, match="was not written by this command, or is damaged"):
        scored.score("other.csv")
    assert answers.read_text() == "my own notes"


def test_one_process_at_a_time_writes(scored: Scored) -> None:
    with ResultsFile(results_path(scored.folder / "out.csv")), pytest.raises(ValueError, match="another process writes"):
        scored.score()


def test_settings_that_exclude_each_other() -> None:
    assert parse_shard("2/8") == (2, 8)
    for text in ("0/8", "9/8", "1", "a/b"):
        with pytest.raises(ValueError, match="--shard takes I/N"):
            parse_shard(text)
    with pytest.raises(ValueError, match="--batch-size must be at least 1"):
        ScoreConfig(batch_size=0)
    with pytest.raises(ValueError, match="--merge and --shard exclude each other"):
        ScoreConfig(merge=True, shard=(1, 2))
