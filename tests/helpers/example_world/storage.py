"""What the examples of `storage` take as given."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from storage import pairs, votes
from storage.campaigns.label_schema import Answer
from storage.exchange.formats.detect import read_file
from storage.journal.journal_file import JournalFile
from storage.judgements import Question, save_judgement
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.pairs import NewVideo
from storage.shares import SharedVerdict
from storage.sql import LABELS
from storage.training.preflight import Preflight, PresetPreflight
from storage.training.snapshot_config import SnapshotConfig
from storage.video_files import file_sha256
from tests.helpers.example_world.base import SUB_SCORES, ExampleWorld
from tests.helpers.exchange_world import arrive
from tests.helpers.retraining import make_checkpoint
from tests.helpers.stores import RECORD, make_pair

if TYPE_CHECKING:
    from storage.training.model_registry import Checkpoint

MOMENT = "2026-01-31T12:00:00+00:00"


class StorageWorld(ExampleWorld):
    """A campaign, and what a page sends."""

    submission, another, yet_another = "first", "second", "third"
    other_answer = Answer(choice="B", strength="slightly", sub_scores=SUB_SCORES)
    record: Any = RECORD
    origin = "somebody"
    browser_id = "ab" * 16
    text = "{}"
    settings = SnapshotConfig()
    since = 0

    @property
    def video(self) -> Any:
        return self.pair.video_a

    @property
    def shown(self) -> SharedVerdict:
        return SharedVerdict(self.pair.id, "think", 0, "a fingerprint", {"verdict": "A"})

    @property
    def pair_id(self) -> int:
        return int(self.pair.id)

    @property
    def guest(self) -> Any:
        return self.annotator

    @property
    def pair_ids(self) -> tuple[int, ...]:
        return self.stock.winter.pairs

    @cached_property
    def assignment(self) -> Assignment:
        """What the annotator is labelling."""
        found = next_assignment(self.session, self.campaign.id, self.annotator.id)
        assert isinstance(found, Assignment)
        return found

    @property
    def token_from_browser(self) -> str:
        return self.assignment.token


class UploadsWorld(StorageWorld):
    """A video that somebody without an account uploaded."""

    new_video = NewVideo("f" * 64, "ff/clip.mp4", "clip.mp4", 64, 48, 12.0, 2.5)
    size = 1000


class DatabaseWorld(StorageWorld):
    """Modules of the store."""

    pairs, votes = pairs, votes


class ExchangeWorld(StorageWorld):
    """A file of pairs that was read."""

    videos = None

    @cached_property
    def parsed(self) -> Any:
        return read_file(self.path, "videoalign")[1]

    @property
    def paths(self) -> list[Path]:
        return [clip.path for pair in self.parsed.pairs for clip in (pair.a, pair.b)]

    @property
    def sha256(self) -> str:
        return file_sha256(self.path)

    @cached_property
    def _arrived(self) -> Any:
        return arrive(self.database, self.parsed, "videoalign", "winter models")

    @property
    def resolved(self) -> Any:
        return self._arrived[0]

    @property
    def new_videos(self) -> Any:
        return self._arrived[1]


class JournalWorld(StorageWorld):
    """A label, and a journal with one line."""

    @property
    def record(self) -> Any:
        return {"in": "users", "key": "ada", "row": {"name": "Ada", "role": "viewer", "created_at": MOMENT}}

    @property
    def row(self) -> Any:
        return self.session.execute(select(LABELS)).first()

    @cached_property
    def path(self) -> Path:
        journal = JournalFile.new(self.folder)
        journal.append([self.record])
        return journal.path


class PreflightWorld(StorageWorld):
    """What the trainer prints."""

    @property
    def text(self) -> str:  # type: ignore[override]
        preset = PresetPreflight(
            "tiny-cpu", "Minutes on a CPU.", ("cold-start",), {}, None, 1e9, False, {"cold-start": 1.5}, {"cold-start": 90.0}
        )
        return json.dumps(Preflight("bundled", "cpu", presets=(preset,)).to_dict())


class RegistryWorld(StorageWorld):
    """A checkpoint's folder in the data folder."""

    @property
    def folder(self) -> Path:  # type: ignore[override]
        return self.home / "base"


class DecideWorld(StorageWorld):
    """A candidate beside the checkpoint that serves; they prefer different videos on two new pairs."""

    held_out, held_out_share = 58, 0.2

    @cached_property
    def candidate(self) -> Checkpoint:
        with self.database.write() as session:
            candidate = make_checkpoint(session, "candidate", parent_id=self.checkpoint.id)
            for number in range(2):
                new = make_pair(session, f"new {number} a", f"new {number} b", f"new {number}")
                for checkpoint, reward in ((candidate, 1.0), (self.checkpoint, -1.0)):
                    for video, value in ((new.video_a, reward), (new.video_b, 0.0)):
                        question = Question(video.id, new.prompt, checkpoint.fingerprint, "think")
                        save_judgement(session, question, replace(RECORD, reward=value))
        return candidate

    @cached_property
    def session(self) -> Any:
        assert self.candidate  # before the transaction begins
        return super().session


class RunFolderWorld(StorageWorld):
    """The folder of a run that has begun."""

    @cached_property
    def folder(self) -> Path:
        (self.run_folder / "dual-rl").mkdir()
        (self.run_folder / "dual-rl" / "metrics.jsonl").write_text('{"step": 0, "loss": 0.5}\n')
        return self.run_folder


WORLDS: dict[str, type[ExampleWorld]] = {
    "storage": StorageWorld,
    "storage.database": DatabaseWorld,
    "storage.exchange": ExchangeWorld,
    "storage.journal": JournalWorld,
    "storage.training.decide": DecideWorld,
    "storage.training.decide_pairs": DecideWorld,
    "storage.training.model_registry": RegistryWorld,
    "storage.training.power": DecideWorld,
    "storage.training.preflight": PreflightWorld,
    "storage.training.run_folder": RunFolderWorld,
    "storage.uploads": UploadsWorld,
}
