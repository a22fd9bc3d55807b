"""`python -m app import` and `python -m app export`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.__main__ import main
from storage.database import open_database
from storage.maintenance.integrity import check_store
from tests.helpers.paths import ROOT
from tests.helpers.studios import make_clip

_ROLES = (
    "app: --map takes ROLE=COLUMN with the roles video_a, video_b, prompt, label, generator_a, generator_b, annotator, "
    "each once (got 'score=y')"
)


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with two clips beside it, and an empty store for the command."""
    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    make_clip(tmp_path / "a.mp4", (200, 0, 0), seconds=0.5)
    make_clip(tmp_path / "b.mp4", (0, 200, 0), seconds=0.5)
    path = tmp_path / "pairs.csv"
    path.write_text("path_A,path_B,prompt,VQ,TA\na.mp4,b.mp4,A square.,same,A\n", "utf-8")
    return path


@pytest.mark.slow
def test_there_and_back_again(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["import", str(pairs), "--source", "winter", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["pairs_new"], plan["labels_new"], plan["videos_new"], plan["problems"]) == (1, 1, 2, [])
    assert main(["import", str(pairs), "--source", "winter"]) == 0
    assert capsys.readouterr().out.startswith("pairs.csv (videoalign) brought 1 pairs, 1 labels")

    out = tmp_path / "out"
    choice = ["--format", "videoalign", "--out", str(out), "--source", "winter", "--copy-videos", "--json"]
    assert main(["export", *choice]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["files"], report["rows"], report["videos"]) == (["pairs.csv"], 1, 2)

    monkeypatch.setenv("DESCORE_HOME", str(tmp_path / "second"))
    assert main(["import", str(out / "pairs.csv"), "--source", "friend", "--videos", str(out)]) == 0
    assert main(["export", "--format", "videoalign", "--out", str(tmp_path / "two"), "--campaign", "imported: friend"]) == 0
    assert (tmp_path / "two" / "pairs.csv").read_bytes() == (out / "pairs.csv").read_bytes()
    database = open_database()
    assert check_store(database, videos=True) == ()
    database.close()


def test_problems_are_printed_and_the_exit_code_says_so(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pairs.open("a", encoding="utf-8") as file:
        file.write("a.mp4,gone.mp4,,A,C\n")
    assert main(["import", str(pairs), "--source", "winter"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "pairs.csv:3: prompt is empty: enter the text that the videos were made from",
        "pairs.csv:3: TA is 'C'; expected A, B, same",
        "pairs.csv:3: video gone.mp4: not found; check the folder of the videos",
        "nothing was imported",
    ]
    assert main(["import", str(pairs), "--source", "winter", "--dry-run"]) == 1
    assert "has 3 problems and would be refused" in capsys.readouterr().out


@pytest.mark.slow
def test_columns_are_named_and_the_unused_ones_said(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs.write_text("title,one,two,who,winner,seed\nA square.,a.mp4,b.mp4,anna,the red one,7\n", "utf-8")
    command = ["import", str(pairs), "--source", "a crowd"]
    assert main([*command, "--dry-run"]) == 1
    assert "pairs.csv: lacks the columns video_a, video_b, prompt; it has title, one, two" in capsys.readouterr().err
    named = [*command, "--map", "prompt=title,video_a=one,video_b=two", "--map", "label=winner", "--map", "annotator=who"]
    assert main([*named, "--dry-run"]) == 1
    assert "pairs.csv:2: winner is 'the red one'; A, B, tie, both_bad and the like are known" in capsys.readouterr().err
    said = [
        "pairs.csv: note: columns: video A from one, video B from two, prompt from title, label from winner, "
        "annotator from who",
        "pairs.csv: note: columns that are not used, and kept with the pairs: seed",
    ]
    for dry_run in (["--dry-run"], []):
        assert main([*named, "--label", "the red one=A", *dry_run]) == 0
        assert capsys.readouterr().err.splitlines() == said
    assert main([*named, "--label", "the red one=A", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["format"], plan["labels_known"], plan["annotators"]) == ("table", 1, ["anna"])
    assert (plan["columns"]["unused"], plan["columns"]["roles"]["label"]) == (["seed"], "winner")


def test_a_column_that_may_be_the_label_is_named(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs.write_text("path_A,path_B,prompt,choice,winner,generator_a\na.mp4,b.mp4,A square.,A,A,sora\n", "utf-8")
    assert main(["import", str(pairs), "--source", "winter", "--dry-run"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "pairs.csv: note: columns: video A from path_A, video B from path_B, prompt from prompt",
        "pairs.csv: note: columns that are not used, and kept with the pairs: choice, winner, generator_a",
        "pairs.csv: note: column choice may be the label, and is not used",
        "pairs.csv: note: column winner may be the label, and is not used",
        "pairs.csv: note: column generator_a may be the generator of A, and is not used",
        "pairs.csv: note: name it by --map generator_a=generator_a,label=choice",
    ]


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "nowhere.csv", "--source", "x"], "app: there is no file or folder nowhere.csv"),
        (["import", "pairs.csv", "--source", "x", "--map", "score=y"], _ROLES),
        (
            ["import", "pairs.csv", "--source", "x", "--label", "y=z"],
            "app: --label takes WORD=A, WORD=B or WORD=tie (got 'y=z')",
        ),
        (["export", "--format", "csv", "--out", "out", "--campaign", "y"], "app: there is no campaign 'y'; there are: none"),
        (["export", "--format", "csv", "--out", "out"], "app: there are no pairs to export"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"{message}\n"


@pytest.mark.slow
def test_the_module_runs_beside_app_py_without_gradio_or_torch() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['app', '--help']\n"
        "try: runpy.run_module('app', run_name='__main__', alter_sys=True)\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'gradio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("[]\n"), done.stderr
    assert "import pairs.csv" in done.stdout, done.stderr
