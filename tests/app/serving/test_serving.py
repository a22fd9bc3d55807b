"""The checkpoint that answers: swapped while a question is being answered, stepped aside, remembered over a restart."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from app.clip_store import ClipStore
from app.serving.cached_judge import stream_answer
from app.serving.follow_registry import RegistryFollower
from app.serving.judging_queue import Visitor
from app.serving.serving import ModelAsideError, Served, Serving
from descore.checkpoints.folder import folder_fingerprint, load_checkpoint, locate, save_checkpoint
from descore.errors import CheckpointError, NotEnoughMemoryError
from storage import Database, StorageError
from storage.data_home import data_home_id
from storage.judgements import Question, find_judgement, save_judgement
from storage.pairs import Pair, add_pair
from storage.training.model_registry import Checkpoint, kept_location, promote, promotions, register_checkpoint, set_gate
from storage.training.runs import RunRequest, create_run, finish, mark_running
from storage.training.snapshots import Snapshot, SnapshotPair
from tests.helpers.paths import ROOT
from tests.helpers.stores import RECORD, make_pair
from tests.helpers.studios import make_clip, talkative_checkpoint

pytestmark = pytest.mark.slow

ADA = Visitor("a tab", "192.0.2.1")
HOLD_THE_RUN = """
import sys
from pathlib import Path
from storage.training.run_folder import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two checkpoints of short thoughts, alike but for their names."""
    root = tmp_path_factory.mktemp("checkpoints")
    model, manifest = load_checkpoint(talkative_checkpoint(root / "talkative"))
    return tuple(  # type: ignore[return-value]
        save_checkpoint(root / name, model, replace(manifest, name=name, max_thought_tokens=60)) for name in ("old", "new")
    )


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    return sqlite_database


@pytest.fixture
def clip_store(database: Database) -> ClipStore:
    return ClipStore(database)


def a_pair(database: Database, clip_store: ClipStore, tmp_path: Path, prompt: str = "A red square moves.") -> Pair:
    colours = {"a": (220, 40, 40), "b": (40, 60, 220)}
    a, b = (clip_store.take_in(make_clip(tmp_path / f"{name}.mp4", colour)) for name, colour in colours.items())
    with database.write() as session:
        return add_pair(session, a, b, prompt, source="test")


def registered(database: Database, folder: Path, name: str) -> Checkpoint:
    """A copy of a checkpoint among those of the data folder, entered."""
    place = Path(shutil.copytree(folder, database.home / "checkpoints" / name))
    with database.write() as session:
        location = kept_location(place, database.home)
        return register_checkpoint(session, name=name, location=location, fingerprint=folder_fingerprint(place))


def asked(serving: Serving, database: Database, clip_store: ClipStore, pair: Pair, mode: str = "quick") -> str:
    """Who answered."""
    *_, said = stream_answer(serving, database, clip_store, pair, mode, 0, threading.Event(), ADA)  # type: ignore[arg-type]
    assert said.comparison is not None
    return f"{said.comparison.checkpoint}{' from the store' if said.from_store else ''}"


def test_a_question_that_was_begun_is_finished_by_the_checkpoint_that_began_it(
    database: Database, clip_store: ClipStore, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    serving, pair = Serving.open(database, str(folders[0])), a_pair(database, clip_store, tmp_path)
    made = registered(database, folders[1], "new")
    stream = stream_answer(serving, database, clip_store, pair, "think", 0, threading.Event(), ADA)
    assert next(stream).phase == "running"
    next(stream)
    serving.promote(database, made.id, "promote")
    assert serving.now.name == "new"
    assert serving.checkpoint_id == made.id
    *_, last = stream
    assert last.comparison is not None
    assert last.comparison.checkpoint == "old"
    assert "by old" in last.status
    assert asked(serving, database, clip_store, pair, "think") == "new"
    assert asked(serving, database, clip_store, pair, "think") == "new from the store"


def test_the_page_says_which_engine_answered_also_from_the_store(
    database: Database, clip_store: ClipStore, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    serving, pair = Serving.open(database, str(folders[0])), a_pair(database, clip_store, tmp_path)
    for is_stored in (False, True):
        *_, last = stream_answer(serving, database, clip_store, pair, "quick", 0, threading.Event(), ADA)
        assert last.from_store is is_stored
        assert last.status.endswith(f"({serving.now.require_model().engine.label})")


def test_a_verdict_that_can_not_be_kept_is_shown_and_says_so(
    database: Database, clip_store: ClipStore, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    serving, pair = Serving.open(database, str(folders[0])), a_pair(database, clip_store, tmp_path)
    (database.home / "descore.db").rename(database.home / "descore.db.aside")
    for _ in range(2):
        *_, said = stream_answer(serving, database, clip_store, pair, "quick", 0, threading.Event(), ADA)
        assert said.phase == "done"
        assert said.comparison is not None
        assert not said.kept
        assert "not kept: The store's file was moved" in said.status
    (database.home / "descore.db.aside").rename(database.home / "descore.db")
    *_, said = stream_answer(serving, database, clip_store, pair, "quick", 0, threading.Event(), ADA)
    assert said.kept
    assert "not kept" not in said.status


def test_what_was_promoted_last_serves_again_after_a_restart(database: Database, folders: tuple[Path, Path]) -> None:
    first = Serving.open(database, str(folders[0]))
    began_with = first.checkpoint_id
    made = registered(database, folders[1], "week 12")
    first.promote(database, made.id, "promote")
    again = Serving.open(database, None)
    assert (again.now.name, again.checkpoint_id) == ("week 12", made.id)
    with database.read() as session:
        assert [one.action for one in promotions(session)] == ["promote", "start"]
    chosen = Serving.open(database, str(folders[0]))
    assert chosen.now.name == "old"
    assert chosen.checkpoint_id == began_with
    with database.read() as session:
        assert [one.action for one in promotions(session)] == ["start", "promote", "start"]


def test_files_that_are_gone_or_others_are_never_served(
    database: Database, folders: tuple[Path, Path], clip_store: ClipStore, tmp_path: Path
) -> None:
    serving = Serving.open(database, str(folders[0]))
    made = registered(database, folders[1], "new")
    place = database.home / made.location
    manifest = (place / "descore.json").read_text("utf-8")
    (place / "descore.json").write_text(manifest.replace('"name": "new"', '"name": "odd"'), "utf-8")
    with pytest.raises(CheckpointError, match="changed since it was registered"):
        serving.promote(database, made.id, "promote")
    shutil.rmtree(place)
    with pytest.raises(CheckpointError):
        serving.promote(database, made.id, "promote")
    with pytest.raises(StorageError, match="serves already"):
        serving.promote(database, serving.checkpoint_id or 0, "promote")
    assert asked(serving, database, clip_store, a_pair(database, clip_store, tmp_path)) == "old"


def test_a_store_of_an_earlier_bundled_checkpoint_goes_on_with_this_one_and_keeps_its_judgements(
    database: Database, clip_store: ClipStore, tmp_path: Path
) -> None:
    pair = a_pair(database, clip_store, tmp_path)
    question = Question(pair.video_a.id, pair.prompt, "a" * 64, "think")
    with database.write() as session:
        before = register_checkpoint(session, name="bundled v2", location="bundled", fingerprint="a" * 64)
        promote(session, before.id, "start")
        save_judgement(session, question, RECORD)
    serving = Serving.open(database, None)
    assert (serving.now.location, serving.now.fingerprint) == ("bundled", folder_fingerprint(locate("bundled")[0]))
    assert serving.checkpoint_id != before.id
    with database.read() as session:
        kept = find_judgement(session, question)
        assert kept is not None
        assert kept.record.reward == RECORD.reward
        assert [one.action for one in promotions(session)] == ["start", "start"]


def test_without_its_files_the_bundled_checkpoint_serves_after_a_restart(
    database: Database, folders: tuple[Path, Path]
) -> None:
    made = registered(database, folders[1], "new")
    Serving.open(database, str(folders[0])).promote(database, made.id, "promote")
    shutil.rmtree(database.home / made.location)
    assert Serving.open(database, None).now.name.startswith("bundled")


def test_a_model_that_stepped_aside_says_so_and_comes_back(
    database: Database, clip_store: ClipStore, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    serving = Serving.open(database, str(folders[0]))
    known, new = a_pair(database, clip_store, tmp_path), a_pair(database, clip_store, tmp_path, "Another prompt.")
    assert asked(serving, database, clip_store, known) == "old"
    serving.offload("week 12 trains")
    assert serving.now.model is None
    assert serving.now.name == "old"
    assert asked(serving, database, clip_store, known) == "old from the store"
    with pytest.raises(ModelAsideError, match="week 12 trains"):
        asked(serving, database, clip_store, new)
    # Promoted meanwhile: it is known by name at once, and loaded when there is room.
    made = registered(database, folders[1], "new")
    serving.promote(database, made.id, "automatic")
    assert serving.now.name == "new"
    assert serving.now.model is None
    serving.restore()
    assert asked(serving, database, clip_store, new) == "new"
    assert serving.now.aside == ""


def test_stepping_aside_waits_for_what_is_being_answered(
    database: Database, clip_store: ClipStore, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    serving, pair = Serving.open(database, str(folders[0])), a_pair(database, clip_store, tmp_path)
    stream = stream_answer(serving, database, clip_store, pair, "think", 0, threading.Event(), ADA)
    next(stream)
    stepping = threading.Thread(target=serving.offload, args=("a run",))
    stepping.start()
    stepping.join(0.5)
    assert stepping.is_alive()
    *_, last = stream
    assert last.comparison is not None
    stepping.join(30)
    assert not stepping.is_alive()


def test_a_checkpoint_is_known_without_its_weights(folders: tuple[Path, Path]) -> None:
    read, loaded = Served.read(str(folders[0])), Served.load(str(folders[0]))
    assert read.model is None
    assert replace(loaded, model=None) == read
    with pytest.raises(CheckpointError, match="bare backbone"):
        Served.read(str(folders[0] / "backbone"))


def test_one_that_can_not_be_used_for_now_stays_the_promoted_one(database: Database, folders: tuple[Path, Path]) -> None:
    made = registered(database, folders[1], "new")
    Serving.open(database, str(folders[0])).promote(database, made.id, "promote")
    place = database.home / made.location
    place.rename(place.with_name("unmounted"))
    serving = Serving.open(database, None)
    assert serving.now.name.startswith("bundled")
    place.with_name("unmounted").rename(place)
    RegistryFollower(database, serving).tick()
    assert serving.now.name == "new"
    assert Serving.open(database, None).now.name == "new"


def test_an_app_that_starts_beside_a_run_that_needs_the_device_loads_nothing(
    database: Database, folders: tuple[Path, Path]
) -> None:
    first = Serving.open(database, str(folders[0])).checkpoint_id or 0
    request = RunRequest("score", "week 1", "cpu", first, request={"steps_aside": True})
    with database.write() as session:
        run = create_run(session, request, None, None)
        mark_running(session, run.id, 1, data_home_id(database.home))
    # A lock of this process would not be seen as held from here.
    command = [sys.executable, "-c", HOLD_THE_RUN, str(database.home / run.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        now = Serving.open(database, None).now
        assert (now.name, now.model, now.aside) == ("old", None, "week 1 trains, and the device can't hold both")
        other.communicate()
    assert Serving.open(database, None).now.model is not None


@pytest.mark.parametrize("works", [True, False])
def test_where_the_device_can_not_hold_both_the_old_one_leaves_first(
    database: Database, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    serving = Serving.open(database, str(folders[0]))
    made, load = registered(database, folders[1], "new"), Served.load.__func__  # type: ignore[attr-defined]

    def small_device(cls: type[Served], checkpoint: str, engine: str) -> Served:
        ours = checkpoint == str(folders[0])
        if not ours and (serving.now.model is not None or not works):
            raise NotEnoughMemoryError("cuda:0 has no room")
        return load(cls, checkpoint, engine)  # type: ignore[no-any-return]

    monkeypatch.setattr(Served, "load", classmethod(small_device))
    if works:
        serving.promote(database, made.id, "promote")
    else:
        with pytest.raises(NotEnoughMemoryError):
            serving.promote(database, made.id, "promote")
    assert serving.now.name == ("new" if works else "old")
    assert serving.now.model is not None
    assert serving.now.aside == ""
    with database.read() as session:
        assert promotions(session, 1)[0].action == ("promote" if works else "start")


def test_apps_on_one_store_follow_each_others_promotions_but_not_their_starts(
    database: Database, folders: tuple[Path, Path]
) -> None:
    here = Serving.open(database, str(folders[0]))
    there, watch = Serving.open(database, str(folders[1])), RegistryFollower(database, here)
    watch.tick()
    assert (here.now.name, there.now.name) == ("old", "new")
    made = registered(database, folders[1], "copy")  # known by its content: the one that serves there
    with database.write() as session:
        other = register_checkpoint(session, name="third", location=str(folders[0]), fingerprint="another")
    assert made.name == "new"
    there.promote(database, here.checkpoint_id or 0, "roll_back")
    watch.tick()
    assert (here.now.name, there.now.name) == ("old", "old")
    there.promote(database, made.id, "promote")
    watch.tick()
    assert here.now.name == "new"
    assert here.checkpoint_id == made.id
    assert here.now.model is not None
    # What can't be used here leaves what serves.
    with database.write() as session:
        promote(session, other.id, "promote")
    watch.tick()
    assert here.now.name == "new"


@pytest.mark.parametrize(
    ("verdict", "wanted", "serves"), [("better", True, "week 1"), ("better", False, "old"), ("same", True, "old")]
)
def test_a_better_candidate_is_promoted_by_itself_where_that_was_asked_for(
    database: Database, folders: tuple[Path, Path], verdict: str, wanted: bool, serves: str
) -> None:
    serving = Serving.open(database, str(folders[0]))
    watch, first = RegistryFollower(database, serving), serving.checkpoint_id or 0
    with database.write() as session:
        pair = make_pair(session)
    kept = SnapshotPair(pair.id, "new", "abc", 1, 1.0, {}, ())
    snapshot = Snapshot((kept,), "hash", 0, {"new": 1}, {"held_out_share": 0.2})
    request = RunRequest("train", "week 1", "cpu", first, first, ("cold-start",), "current", "tiny-cpu", auto_promote=wanted)
    with database.write() as session:
        run = create_run(session, request, snapshot, None)
        mark_running(session, run.id, 1, "elsewhere")
    made = registered(database, folders[1], "week 1")
    watch.tick()
    assert serving.now.name == "old", "a run that goes on promotes nothing"
    with database.write() as session:
        set_gate(session, made.id, {"verdict": verdict, "sentence": "As measured."})
        finish(session, run.id, "finished", 0, "As measured.", made.id, verdict)
    watch.tick()
    assert serving.now.name == serves
    with database.read() as session:
        assert promotions(session, 1)[0].action == ("automatic" if serves == "week 1" else "start")
    if serves == "week 1":  # who goes back is not overruled
        serving.promote(database, first, "roll_back")
        watch.tick()
        assert serving.now.name == "old"


def test_an_engine_that_can_not_run_here_is_named_before_anything_is_loaded(database: Database, folders: list[Path]) -> None:
    """vLLM is no part of the app's environment."""
    with pytest.raises(CheckpointError, match="vLLM can't be imported"):
        Serving.open(database, str(folders[0]), "vllm")
    assert Serving.open(database, str(folders[0]), "auto").now.model is not None
