"""What is written: whose labels, which pairs, under which names."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from descore.answer import DIMENSIONS
from storage import Database, NotInStoreError, StorageError, open_database
from storage.accounts.users import add_user
from storage.campaigns.campaign import list_campaigns
from storage.exchange.exporting.export import ExportReport, export
from storage.exchange.parsed import ExchangeError
from storage.judgements import Question, save_judgement
from storage.labelling.adjudication import adjudicate
from storage.labelling.consensus import consensus
from storage.labelling.labels import Answer
from storage.pairs import list_pairs
from tests.helpers.exchange_world import bring, cells, lively_store, make_files, videoalign_file, write_csv
from tests.helpers.stores import RECORD, make_pair


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    """An empty store."""
    opened = open_database(f"sqlite:///{tmp_path / 'store.db'}", home=tmp_path / "home")
    yield opened
    opened.close()


def written(database: Database, folder: Path, format: str, **choice: object) -> list[dict[str, str]]:
    """The rows of an exported table."""
    report = export(database, folder, format, **choice)  # type: ignore[arg-type]
    with (folder / report.files[0]).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def label_table(folder: Path, *labels: tuple[str, str]) -> Path:
    """A plain table about one pair: labels by annotators."""
    make_files(folder, ["sora_1.mp4", "kling_1.mp4"])
    rows = [("sora_1.mp4", "kling_1.mp4", "p", "sora", "kling", label, annotator) for label, annotator in labels]
    columns = ("video_a", "video_b", "prompt", "A_model", "B_model", "label", "annotator")
    return write_csv(folder / "pairs.csv", columns, rows)


def test_a_table_names_videos_by_content_and_the_files_come_along(store: Database, tmp_path: Path) -> None:
    bring(store, label_table(tmp_path / "in", ("A", "")))
    (row,) = written(store, tmp_path / "out", "videoalign", copy_videos=True)
    with store.read() as session:
        (pair,) = list_pairs(session, "test")
    assert row["path_A"] == f"videos/{pair.video_a.sha256[:16]}.mp4"
    assert (row["A_model"], row["TA"], row["fps_A"], row["num_frames_A"]) == ("sora", "A", "12.0", "30")
    assert (tmp_path / "out" / row["path_A"]).read_bytes() == b"sora_1.mp4"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pairs.csv", "videos"]
    assert not [name for name in (tmp_path / "out" / "videos").iterdir() if "sora" in name.name]


def test_raw_labels_carry_names_only_where_somebody_was_named(store: Database, tmp_path: Path) -> None:
    bring(store, label_table(tmp_path / "in", ("A", "")), source="first")
    assert "annotator" not in written(store, tmp_path / "one", "csv")[0]
    bring(store, label_table(tmp_path / "in", ("B", "Anna")), source="second")
    rows = written(store, tmp_path / "two", "csv")
    assert [(row["label"], row["annotator"]) for row in rows] == [("A", ""), ("B", "Anna")]
    bring(store, label_table(tmp_path / "in", ("tie", "")), source="third")
    rows = written(store, tmp_path / "three", "csv")
    assert {row["annotator"]: row["label"] for row in rows} == {
        "imported: first": "A",
        "imported: third": "tie",
        "Anna": "B",
    }


def test_the_consensus_is_one_label_of_nobody(store: Database, tmp_path: Path) -> None:
    bring(store, label_table(tmp_path / "in", ("A", "x"), ("A", "y"), ("B", "z")))
    (row,) = written(store, tmp_path / "out", "videoalign", labels="consensus")
    assert row["TA"] == "A"
    assert "annotator" not in row
    assert len(written(store, tmp_path / "raw", "videoalign")) == 3


def test_an_adjudication_overrules_and_is_written_as_such(store: Database, tmp_path: Path) -> None:
    bring(store, label_table(tmp_path / "in", ("A", "x"), ("B", "y")))
    with store.write() as session:
        lead = add_user(session, "Lea", "lead").id
        (campaign,) = list_campaigns(session, "import")
        (pair,) = list_pairs(session, "test")
        adjudicate(session, campaign.id, pair.id, lead, "once", Answer(choice="both_bad"))
        assert [one.choice for one in consensus(session)] == ["both_bad"]
    (row,) = written(store, tmp_path / "out", "csv", labels="consensus")
    assert row["label"] == "both_bad"
    raw = written(store, tmp_path / "raw", "csv")
    assert {row["annotator"]: row["label"] for row in raw} == {"x": "A", "y": "B", "Lea": "both_bad"}


@pytest.mark.slow
def test_a_source_a_campaign_or_everything(store: Database, tmp_path: Path) -> None:
    campaign_id = lively_store(store, tmp_path)
    bring(store, videoalign_file(tmp_path / "more", pairs=16), source="summer")
    with store.write() as session:
        make_pair(session, "x", "y")

    def labels(**choice: object) -> tuple[int, set[str]]:
        report = export(store, tmp_path / "out", "studio-jsonl", **choice)  # type: ignore[arg-type]
        lines = (tmp_path / "out" / report.files[0]).read_text("utf-8").splitlines()
        return report.pairs, {json.loads(line).get("kind", "none") for line in lines} - {"none"}

    assert labels() == (17, {"import", "work", "gold", "repeat", "adjudication"})
    assert labels(source="winter") == (14, {"import", "work", "gold", "repeat", "adjudication"})
    # 14 of its 16 pairs were known before; they belong to it all the same.
    assert labels(source="summer")[0] == 16
    assert labels(campaign_id=campaign_id) == (14, {"work", "gold", "repeat", "adjudication"})
    with pytest.raises(StorageError, match="not both"):
        labels(source="winter", campaign_id=campaign_id)
    with pytest.raises(ExchangeError, match="there are no pairs to export"):
        labels(source="autumn")


def test_what_a_format_can_not_say_is_counted(store: Database, tmp_path: Path) -> None:
    bring(store, videoalign_file(tmp_path / "in", pairs=6))
    with store.write() as session:
        make_pair(session, "x", "y")
    report: ExportReport = export(store, tmp_path / "out", "preference-jsonl")
    assert (report.rows, report.notes) == (4, ("2 labels that prefer neither video", "1 pairs without a label"))
    assert export(store, tmp_path / "out", "descore-rl").notes == ("6 labels without sub-scores", "1 pairs without a label")
    assert len(written(store, tmp_path / "out", "csv")) == 7


def test_thoughts_of_the_source_come_before_those_of_a_model(store: Database, tmp_path: Path) -> None:
    make_files(tmp_path, ["a.mp4", "b.mp4"])
    columns = ("videos", "problem", "prompt", "CoT_A", "CoT_B", "GSB")
    rows = [("['a.mp4', 'b.mp4']", "judge this", "p", "a teacher's thought", "", "A")]
    bring(store, write_csv(tmp_path / "cold.csv", columns, rows))
    with store.write() as session:
        (pair,) = list_pairs(session, "test")
        for video in (pair.video_a, pair.video_b):
            save_judgement(session, Question(video.id, pair.prompt, "f" * 64, "think"), RECORD)
    (row,) = written(store, tmp_path / "out", "descore-cold-start")
    assert (row["CoT_A"], row["CoT_B"], row["problem"]) == ("a teacher's thought", RECORD.thought, "judge this")


@pytest.mark.slow
def test_parquet_has_types_and_a_dataset_a_card(store: Database, tmp_path: Path) -> None:
    lively_store(store, tmp_path)
    report = export(store, tmp_path / "out", "hf-dataset")
    table = pq.read_table(tmp_path / "out" / "data" / "train-00000-of-00001.parquet")
    assert str(table.schema.field("created_at").type) == "timestamp[us, tz=UTC]"
    scored = [row for row in table.to_pylist() if row["sub_scores"] and row["kind"] == "work"]
    assert scored[0]["sub_scores"]["B"] == cells("1") | {"style": "0"}
    assert set(scored[0]["sub_scores"]["A"]) == set(DIMENSIONS)
    assert any(row["marks"] == [{"video": "B", "time": 1.25}] for row in scored)
    _, front, text = (tmp_path / "out" / "README.md").read_text("utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
    assert f"{report.rows} records: 14 pairs" in text
    assert "4 annotators" in text


def test_an_export_leaves_no_half_files(store: Database, tmp_path: Path) -> None:
    bring(store, label_table(tmp_path / "in", ("A", "")))
    for file in (store.home / "videos").rglob("*.mp4"):
        file.unlink()
    with pytest.raises(NotInStoreError, match="was it removed by hand"):
        export(store, tmp_path / "out", "videoalign", copy_videos=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExchangeError, match=r"can't write pairs\.csv"):
        export(store, tmp_path / "file", "videoalign")
    with pytest.raises(ExchangeError, match="can't export as 'folder'"):
        export(store, tmp_path / "out", "folder")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["pairs.csv"]
