"""Real video files on their way in: checked before anything is kept, original for the model, a copy for the browser."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.clip_store import ClipStore
from app.importing.import_file import ImportCancelledError, plan_import, run_import
from benchmarks.helpers.tiny_bombs import write_gif
from descore.video import probe
from storage import Database, open_database
from storage.exchange.exporting.export import export
from storage.exchange.parsed import ExchangeError, ImportRefusedError
from storage.maintenance.integrity import check_store
from storage.pairs import list_pairs
from tests.helpers.barcode_clips import write_clip
from tests.helpers.studios import make_clip

COLUMNS = ("path_A", "path_B", "prompt", "TA")


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """An empty store."""
    return sqlite_database


@pytest.fixture
def clip_store(database: Database) -> ClipStore:
    """Its videos."""
    return ClipStore(database)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good clips, one that no browser plays, one cut short, one that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    make_clip(folder / "sora_red.mp4", (220, 40, 40), seconds=1.0)
    make_clip(folder / "kling_red.mp4", (200, 80, 60), seconds=1.5)
    write_clip(folder / "old.avi", 24, "mpeg4")
    data = make_clip(folder / "whole.mp4", (10, 200, 60), seconds=2.0).read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    (folder / "page.mp4").write_text("<html>404</html>")
    return folder


def table(folder: Path, *rows: Sequence[str], name: str = "pairs.csv") -> Path:
    """A VideoAlign table."""
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder / name


def stored(database: Database) -> int:
    """How many video files the managed folder has."""
    return sum(path.is_file() for path in (database.home / "videos").rglob("*"))


def test_a_dry_run_says_what_would_come_and_keeps_nothing(database: Database, clips: Path) -> None:
    path = table(clips, ("sora_red.mp4", "kling_red.mp4", "red", "A"), ("old.avi", "sora_red.mp4", "bars", ""))
    stages: list[tuple[str, int, int]] = []
    plan = plan_import(database, path, source="winter", progress=lambda *step: stages.append(step))
    assert (plan.format, plan.pairs_new, plan.labels_new, plan.videos_new) == ("videoalign", 2, 1, 3)
    assert (plan.pairs_known, plan.labels_known, plan.videos_known) == (0, 0, 0)
    assert (plan.annotators, plan.problems) == (("imported: winter",), ())
    assert stages[-1] == ("probing videos", 3, 3)
    assert stored(database) == 0
    with database.read() as session:
        assert list_pairs(session, "winter") == ()


def test_the_model_reads_the_original_and_the_browser_a_copy(database: Database, clip_store: ClipStore, clips: Path) -> None:
    path = table(clips, ("sora_red.mp4", "old.avi", "red", "A"))
    report = run_import(clip_store, database, path, source="winter")
    assert (report.pairs_added, report.labels_added, report.videos_added) == (1, 1, 2)
    with database.read() as session:
        (pair,) = list_pairs(session, "winter")
    assert clip_store.original(pair.video_b).read_bytes() == (clips / "old.avi").read_bytes()
    assert clip_store.shown(pair.video_b) != clip_store.original(pair.video_b)
    shown = probe(clip_store.shown(pair.video_b))
    assert shown.browser_playable
    assert shown.frames == 24
    assert clip_store.shown(pair.video_a) == clip_store.original(pair.video_a)
    assert (pair.video_b.fps, pair.video_b.duration) == (24.0, 1.0)

    again = run_import(clip_store, database, path, source="winter")
    assert (again.pairs_added, again.labels_added, again.videos_added, again.notes) == (0, 0, 0, ())
    plan = plan_import(database, path, source="winter")
    assert (plan.pairs_known, plan.labels_known, plan.videos_known, plan.videos_new) == (1, 1, 2, 0)
    assert check_store(database, videos=True) == ()


def test_everything_that_is_wrong_is_reported_and_nothing_kept(
    database: Database, clip_store: ClipStore, clips: Path
) -> None:
    path = table(
        clips,
        ("sora_red.mp4", "kling_red.mp4", "two\nlines", "A"),
        ("sora_red.mp4", "cut.mp4", "red", "better"),
        ("page.mp4", "gone.mp4", "red", "A"),
    )
    with pytest.raises(ImportRefusedError) as refused:
        run_import(clip_store, database, path, source="winter")
    found = [str(problem) for problem in refused.value.problems]
    assert found[0] == "pairs.csv:4: TA is 'better'; expected A, B, same"
    assert [line.split(": ")[:2] for line in found[1:]] == [
        ["pairs.csv:4", "video cut.mp4"],
        ["pairs.csv:5", "video gone.mp4"],
        ["pairs.csv:5", "video page.mp4"],
    ]
    assert "not found" in found[2]
    assert "3 more problems" in str(refused.value)
    assert {problem.line for problem in plan_import(database, path, source="winter").problems} == {4, 5}
    assert stored(database) == 0


def test_frames_that_are_damaged_are_found_before_anything_is_kept(
    database: Database, clip_store: ClipStore, tmp_path: Path
) -> None:
    data = bytearray(write_clip(tmp_path / "bars.mp4", 48).read_bytes())
    start = data.index(b"mdat")
    middle = start + (len(data) - start) * 3 // 10
    data[middle : middle + 50] = b"\xff" * 50
    (tmp_path / "damaged.mp4").write_bytes(data)
    make_clip(tmp_path / "fine.mp4", (1, 2, 200), seconds=1.0)
    path = table(tmp_path, ("fine.mp4", "damaged.mp4", "p", "A"))
    assert plan_import(database, path, source="winter").problems == ()
    with pytest.raises(ImportRefusedError, match=r"pairs\.csv:2: video damaged\.mp4: its data is damaged after frame"):
        run_import(clip_store, database, path, source="winter")
    assert stored(database) == 0


def test_an_import_can_be_stopped(database: Database, clip_store: ClipStore, clips: Path) -> None:
    path = table(clips, ("sora_red.mp4", "kling_red.mp4", "red", "A"))
    for wanted in ("reading videos", "decoding videos", "copying videos"):
        seen: list[str] = []
        with pytest.raises(ImportCancelledError):
            run_import(
                clip_store,
                database,
                path,
                source="winter",
                progress=lambda stage, _done, _total, seen=seen: seen.append(stage),  # type: ignore[misc]
                cancelled=lambda seen=seen, wanted=wanted: wanted in seen,  # type: ignore[misc]
            )
    with database.read() as session:
        assert list_pairs(session, "winter") == ()
    assert run_import(clip_store, database, path, source="winter").pairs_added == 1
    assert check_store(database, videos=True) == ()


def test_an_export_without_files_leads_back_to_the_videos_of_the_store(
    database: Database, clip_store: ClipStore, clips: Path, tmp_path: Path
) -> None:
    run_import(clip_store, database, table(clips, ("sora_red.mp4", "kling_red.mp4", "red", "B")), source="winter")
    export(database, tmp_path / "out", "videoalign")
    again = run_import(clip_store, database, tmp_path / "out" / "pairs.csv", source="spring")
    assert (again.pairs_added, again.labels_added, again.videos_added) == (0, 1, 0)

    fresh = open_database(f"sqlite:///{tmp_path / 'fresh.db'}", home=tmp_path / "fresh")
    try:
        with pytest.raises(ImportRefusedError, match="not found"):
            run_import(ClipStore(fresh), fresh, tmp_path / "out" / "pairs.csv", source="spring")
        export(database, tmp_path / "out", "hf-dataset", source="winter", copy_videos=True)
        report = run_import(ClipStore(fresh), fresh, tmp_path / "out", source="spring")
        assert (report.format, report.pairs_added, report.videos_added) == ("hf-dataset", 1, 2)
    finally:
        fresh.close()


def test_a_file_whose_content_is_not_what_the_table_names_is_refused(
    database: Database, clip_store: ClipStore, clips: Path, tmp_path: Path
) -> None:
    run_import(clip_store, database, table(clips, ("sora_red.mp4", "kling_red.mp4", "red", "B")), source="winter")
    export(database, tmp_path / "out", "studio-jsonl", copy_videos=True)
    record = json.loads((tmp_path / "out" / "labels.jsonl").read_text().splitlines()[0])
    make_clip(tmp_path / "out" / record["video_a"], (5, 5, 5), seconds=0.5)
    with pytest.raises(ImportRefusedError, match="its content differs from the sha256 in the table"):
        run_import(clip_store, database, tmp_path / "out" / "labels.jsonl", source="spring")


def test_a_folder_of_generators_becomes_pairs(database: Database, clip_store: ClipStore, tmp_path: Path) -> None:
    for generator, colour in (("sora", 200), ("kling", 100)):
        (tmp_path / "clips" / generator).mkdir(parents=True)
        make_clip(tmp_path / "clips" / generator / "red.mp4", (colour, 20, 20), seconds=0.5)
    (tmp_path / "clips" / "red.txt").write_text("A red square moves.\n", "utf-8")
    report = run_import(clip_store, database, tmp_path / "clips", source="generators")
    assert (report.format, report.pairs_added, report.labels_added) == ("folder", 1, 0)
    with database.read() as session:
        (pair,) = list_pairs(session, "generators")
    assert {pair.generator_a, pair.generator_b} == {"sora", "kling"}
    assert pair.video_a.sha256 < pair.video_b.sha256
    with pytest.raises(ExchangeError, match="there is no file or folder elsewhere"):
        plan_import(database, tmp_path / "elsewhere", source="x")


def test_videos_that_ask_for_too_much_are_refused_by_the_dry_run_and_the_import(
    sqlite_database: Database, clips: Path
) -> None:
    write_gif(clips / "bomb.gif", 3000, 6000)
    (clips / "lfs.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 81234\n")
    path = table(clips, ("sora_red.mp4", "bomb.gif", "red", "A"), ("sora_red.mp4", "lfs.mp4", "red", "A"))
    plan = plan_import(sqlite_database, path, source="winter")
    with pytest.raises(ImportRefusedError) as refused:
        run_import(ClipStore(sqlite_database), sqlite_database, path, source="winter")
    for problems in (plan.problems, refused.value.problems):
        bomb, pointer = (str(problem) for problem in problems)
        assert "6000 frames of 3000 x 3000 are 54.0 billion pixels to decode; the limit is 40 billion" in bomb
        assert "Git LFS pointer" in pointer
    assert stored(sqlite_database) == 0


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "x/" * 3000 + "a.mp4"])
def test_a_name_that_no_disk_takes_is_a_problem_of_its_line(database: Database, clips: Path, name: str) -> None:
    path = table(clips, ("sora_red.mp4", name, "red", "A"), name="long.csv")
    (problem,) = plan_import(database, path, source="winter").problems
    assert problem.line == 2
    assert "can't be read: File name too long" in problem.message
