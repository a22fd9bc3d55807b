"""A store with real small videos, labelled pairs and a registered tiny checkpoint, and runs in it.

world = make_world(tmp_path / "home", pairs=24)
world.label(16)
run = world.ask(stages=("cold-start",))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.answer import DIMENSIONS
from descore.checkpoints.folder import folder_fingerprint
from storage import Database, open_database
from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.pairs import add_pair, add_video
from storage.training.model_registry import Checkpoint, kept_location, promote, register_checkpoint
from storage.training.runs import Run, RunRequest, create_run, get_run
from storage.training.snapshots import SnapshotConfig, make_snapshot
from storage.video_files import store_video
from tests.helpers.labelling import Team, answer, save, take
from tests.helpers.tiny import tiny_judge, tiny_video

if TYPE_CHECKING:
    from storage.schema import RunPlace

VIDEOS = 6
SCORES = {side: dict.fromkeys(DIMENSIONS, "2") for side in "AB"}
# Two steps a stage of the smallest batches, on a checkpoint that thinks at most 8 tokens.
SETTINGS = (
    "cold_start.steps=3",
    "cold_start.pairs_per_step=2",
    "cold_start.micro_batch_pairs=2",
    "dual_rl.steps=2",
    "dual_rl.pairs_per_step=2",
    "dual_rl.micro_batch_pairs=2",
    "dual_rl.max_prompt_tokens=2000",
    "dual_rl.objective.num_generations=2",
    "dual_rl.objective.max_tokens=8",
    "dual_rl.objective.reward.length_low=1",
    "dual_rl.objective.reward.length_high=6",
    "cold_start.max_length=2000",
    "save_every=1",
    "anchors=2",
)


@dataclass
class World:
    """A store whose first checkpoint is `base`, which serves."""

    database: Database
    base: Checkpoint
    team: Team

    @property
    def home(self) -> Path:
        return self.database.home

    def label(self, count: int) -> None:
        """The annotator labels the next pairs: A and B by turns, now and then a tie."""
        for _ in range(count):
            with self.database.write() as session:
                turn = take(session, self.team, self.team.people[0])
                choice = ("A", "B", "A", "tie", "B")[turn.pair.id % 5]
                save(session, turn, answer(choice, sub_scores=SCORES))  # type: ignore[arg-type]

    def ask(
        self,
        *overrides: str,
        stages: tuple[str, ...] = ("cold-start", "dual-rl"),
        place: RunPlace = "here",
        device: str = "cpu",
        **request: Any,
    ) -> Run:
        """Put a training into the queue, as the Train page does."""
        settings = SnapshotConfig(held_out_share=0.4)
        with self.database.write() as session:
            snapshot = make_snapshot(session, settings, since_label_id=0, incremental=True)
            asked = RunRequest(
                kind="train",
                name="week 12",
                device=device if place == "here" else place,
                place=place,
                parent_id=self.base.id,
                rival_id=self.base.id,
                stages=stages,
                preset="tiny-cpu",
                overrides=(*SETTINGS, *overrides),
                request=request,
            )
            return create_run(session, asked, snapshot, None)

    def ask_to_score(self, **request: Any) -> Run:
        """Put a scoring into the queue."""
        asked = RunRequest(kind="score", name="scores", device="cpu", parent_id=self.base.id, request=request)
        with self.database.write() as session:
            return create_run(session, asked, None, None)

    def run(self, run_id: int) -> Run:
        """The run as it is now."""
        with self.database.read() as session:
            return get_run(session, run_id)

    def folder(self, run: Run) -> Path:
        return self.home / run.folder


def make_world(home: Path, pairs: int, metrics: dict[str, Any] | None = None) -> World:
    """Pairs of a few videos, all in one campaign that asks one person, none labelled yet.

    Args:
        metrics: that the registry knows of the checkpoint.
    """
    database = open_database(home=home)
    files = [tiny_video(home / f"{index}.mp4", seed=index) for index in range(VIDEOS)]
    place = tiny_judge(thought_tokens=8).save_pretrained(home / "base")
    with database.write() as session:
        videos = []
        for file in files:
            stored = store_video(file, home)
            facts = {"original_name": file.name, "width": 32, "height": 32, "fps": 4.0, "duration": 2.0}
            videos.append(add_video(session, sha256=stored.sha256, file=stored.file, **facts))
        ids = []
        for index in range(pairs):
            a, b = videos[index % VIDEOS], videos[(index + 1 + index // VIDEOS) % VIDEOS]
            ids.append(add_pair(session, a, b, f"prompt {index}", source=("one", "two")[index % 2]).id)
        person = add_user(session, "annotator", "annotator").id
        settings = CampaignConfig(name="first", overlap=1, gold_share=0.0, repeat_share=0.0)
        campaign = create_campaign(session, settings, ids, DEFAULT_GUIDELINES, created_by=None)
        base = register_checkpoint(
            session,
            name="tiny",
            location=kept_location(place, home),
            fingerprint=folder_fingerprint(place),
            metrics=metrics,
        )
        promote(session, base.id, "start")
    return World(database, base, Team(campaign, (person,), tuple(ids)))
