"""Labels in a dataset of a Hub: pushed while the app runs, read back into an empty data folder, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from app import label_dataset
from app.label_dataset import LabelDatasetError, keep_labels
from storage import Database, open_database
from storage.journal.journal import JOURNAL
from storage.pairs import Pair, add_pair, add_video
from storage.schema import VoteRow
from storage.video_files import store_video, video_path
from storage.votes import save_vote
from tests.helpers.hub_server import TOKEN, Hub, Repository, hub_server
from tests.helpers.tiny import tiny_video
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.slow  # each starts a Hub, and the client looks for tokens and caches
NAME = "our-lab/labels"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCORE_DATASET", NAME)
    monkeypatch.setattr(label_dataset, "PATIENCE_SECONDS", 0.0)


@contextmanager
def opened(hub: Hub, empty: Path, home: Path, token: str = TOKEN) -> Iterator[label_dataset.KeptLabels]:
    """A store in a data folder that is empty unless it is there already, with the labels of the dataset."""
    if not home.exists():
        shutil.copytree(empty, home)
    with closing(open_database(home=home)) as database, closing(keep_labels(database, api(hub, token))) as kept:
        yield kept


def api(hub: Hub, token: str = TOKEN) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def real_pair(database: Database, folder: Path) -> Pair:
    """A pair of two videos that can be decoded."""
    with database.write() as session:
        videos = []
        for name in "ab":
            stored = store_video(tiny_video(folder / f"{name}.mp4", seed=ord(name)), database.home)
            numbers = {"width": 32, "height": 32, "fps": 4.0, "duration": 2.0}
            videos.append(add_video(session, sha256=stored.sha256, file=stored.file, original_name=f"{name}.mp4", **numbers))
        return add_pair(session, videos[0], videos[1], "a square", "upload")


def vote(database: Database, pair_id: int, token: str) -> None:
    with database.write() as session:
        save_vote(session, pair_id=pair_id, choice="A", voter="Ada", token=token)


def tokens(database: Database) -> list[str]:
    with database.read() as session:
        return [row.token for row in session.query(VoteRow).order_by(VoteRow.id)]


def files(hub: Hub) -> dict[str, bytes]:
    """The files of the dataset's newest commit."""
    repository = hub.repositories[f"datasets/{NAME}"]
    return repository.commits[repository.branches["main"]]


def test_votes_and_their_clips_come_back_into_an_empty_folder(hub: Hub, migrated_home: Path, tmp_path: Path) -> None:
    with opened(hub, migrated_home, tmp_path / "one") as kept:
        pair = real_pair(kept.database, tmp_path)
        vote(kept.database, pair.id, "first")
        assert kept.notice() == ""
    assert hub.repositories[f"datasets/{NAME}"].private
    for restart in range(2):
        with opened(hub, migrated_home, tmp_path / f"again {restart}") as kept:
            assert tokens(kept.database) == ["first", *(f"vote {number}" for number in range(restart))]
            with kept.database.read() as session:
                voted = session.query(VoteRow).first()
                assert voted is not None
            for video in (pair.video_a, pair.video_b):
                restored = video_path(video.file, kept.database.home)
                assert restored.read_bytes() == video_path(video.file, tmp_path / "one").read_bytes()
            vote(kept.database, voted.pair_id, f"vote {restart}")
            assert not (kept.database.home / "dataset-read").exists()
    assert len([name for name in files(hub) if name.startswith(JOURNAL)]) == 3


def test_what_was_not_pushed_is_read_from_the_same_disk(hub: Hub, migrated_home: Path, tmp_path: Path) -> None:
    with opened(hub, migrated_home, tmp_path / "one") as kept:
        pair = real_pair(kept.database, tmp_path)
        vote(kept.database, pair.id, "pushed")
        wait_until(lambda: not kept.dataset or kept.dataset._scheduler is not None, "the scheduler")
        hub.refused_commits = 100
        vote(kept.database, pair.id, "left here")
    (tmp_path / "one" / "descore.db").unlink()
    shutil.copy(migrated_home / "descore.db", tmp_path / "one")
    hub.refused_commits = 0
    with opened(hub, migrated_home, tmp_path / "one") as kept:
        assert tokens(kept.database) == ["pushed", "left here"]
    with opened(hub, migrated_home, tmp_path / "two") as kept:
        assert tokens(kept.database) == ["pushed", "left here"]


def test_pages_say_that_labels_can_not_be_pushed(hub: Hub, migrated_home: Path, tmp_path: Path) -> None:
    with opened(hub, migrated_home, tmp_path / "one") as kept:
        hub.refused_commits = 100
        vote(kept.database, real_pair(kept.database, tmp_path).id, "one")
        assert kept.dataset is not None
        scheduler = kept.dataset._scheduler
        assert scheduler is not None
        scheduler.last_future = scheduler.trigger()  # as each two minutes
        wait_until(kept.dataset.is_behind, "a push that fails")
        assert kept.notice().startswith("New labels can't be copied to their dataset at the moment")
        hub.refused_commits = 0
        scheduler.last_future = scheduler.trigger()
        wait_until(lambda: not kept.notice(), "a push that succeeds")


def test_without_the_hub_the_app_does_not_start(migrated_home: Path, tmp_path: Path) -> None:
    away = Hub(url="http://127.0.0.1:9")
    with pytest.raises(LabelDatasetError, match="does not start without them: the Hub can't be reached"):
        opened(away, migrated_home, tmp_path / "one").__enter__()


def test_a_token_that_may_not_read_is_refused_at_once(
    hub: Hub, migrated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_dataset, "PATIENCE_SECONDS", 1e9)
    with pytest.raises(LabelDatasetError, match=f"the Hub refuses: this token may not write to {NAME}"):
        opened(hub, migrated_home, tmp_path / "one", token="hf_of_somebody").__enter__()


def test_a_name_that_is_none_is_refused_at_once(
    hub: Hub, migrated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_dataset, "PATIENCE_SECONDS", 1e9)
    monkeypatch.setenv("DESCORE_DATASET", "our lab/labels/of/today")
    with pytest.raises(LabelDatasetError, match="names no repository of the Hub: write owner/name"):
        opened(hub, migrated_home, tmp_path / "one").__enter__()


def test_a_public_dataset_of_labels_is_refused(hub: Hub, migrated_home: Path, tmp_path: Path) -> None:
    hub.repositories[f"datasets/{NAME}"] = Repository(private=False)
    with pytest.raises(LabelDatasetError, match="is public and would show everybody who labelled what"):
        opened(hub, migrated_home, tmp_path / "one").__enter__()


def test_a_clip_of_another_content_is_refused(hub: Hub, migrated_home: Path, tmp_path: Path) -> None:
    with opened(hub, migrated_home, tmp_path / "one") as kept:
        vote(kept.database, real_pair(kept.database, tmp_path).id, "one")
    clips = [name for name in files(hub) if name.startswith("videos/")]
    assert len(clips) == 2
    files(hub)[clips[0]] = files(hub)[clips[1]]
    with pytest.raises(LabelDatasetError, match="is not the clip that was labelled"):
        opened(hub, migrated_home, tmp_path / "two").__enter__()
    del files(hub)[clips[0]]
    with opened(hub, migrated_home, tmp_path / "three") as kept:
        assert tokens(kept.database) == ["one"], "a vote without its clip is still a vote"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (
            {"SPACE_ID": "lab/space"},
            "Labels and votes of this Space are lost when it restarts: it has neither DESCORE_DATASET",
        ),
        ({"SPACE_ID": "lab/space", "DESCORE_DATASET": NAME}, "restarts: HF_TOKEN is missing"),
        ({}, ""),
    ],
)
def test_a_space_says_that_labels_will_not_last(
    migrated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], sentence: str
) -> None:
    monkeypatch.delenv("DESCORE_DATASET")
    monkeypatch.setattr(label_dataset, "get_token", lambda: None)
    monkeypatch.setattr(label_dataset, "_is_mounted", lambda _: False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(migrated_home, tmp_path / "home")
    with closing(open_database(home=tmp_path / "home")) as database:
        assert sentence in keep_labels(database).notice()
        assert bool(sentence) == bool(keep_labels(database).notice())
        if environment.keys() == {"SPACE_ID"}:
            monkeypatch.setattr(label_dataset, "_is_mounted", lambda _: True)
            assert keep_labels(database).notice() == "", "a volume keeps them"


def test_one_place_for_labels(database: Database) -> None:
    if database.engine.dialect.name == "postgresql":
        with pytest.raises(LabelDatasetError, match="choose one place for the labels"):
            keep_labels(database)
