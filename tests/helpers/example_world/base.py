"""What examples of all rooms share: the stock that is made once, a store of one's own, files in the working directory."""

from __future__ import annotations

import importlib
import shutil
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descore.checkpoints.folder import read_manifest
from descore.encode import encode
from storage import Database, open_database
from storage.accounts.users import User, add_user, get_user
from storage.campaigns.campaign import Campaign, CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.judgements import Question, save_judgement
from storage.pairs import Pair, add_pair, get_pair
from tests.helpers.exchange_world import VIDEOALIGN, write_csv
from tests.helpers.labelling import Team
from tests.helpers.opinions import LETTERS, opine
from tests.helpers.store_world import World, make_world
from tests.helpers.stores import RECORD
from tests.helpers.tiny import POLICY, tiny_clip, tiny_video
from tests.helpers.tiny_runs import tiny_model

if TYPE_CHECKING:
    from contextlib import ExitStack

    from sqlalchemy.orm import Session

    from descore.encode import Batch
    from descore.modeling.model import DeScoreModel
    from storage.training.model_registry import Checkpoint

LIBRARIES = ("gradio_client", "httpx", "json", "sys", "torch")
PROMPT = "a red circle bounces"
SUB_SCORES = {"A": {"camera": "2"}, "B": {"camera": "1"}}
# What the annotators say of the pairs in their order: they disagree on the second one. Cleo skips the last one (.), which
# then waits for Dora.
OPINIONS = {"Ada": "AABABA", "Ben": "ABBABA", "Cleo": "A=BBB."}
NEWCOMER = "Dora"


class Stock:
    """What is slow to make, made once for all examples: a store and files to copy, a tiny random model."""

    def __init__(self, folder: Path) -> None:
        """Make store and files in an empty folder."""
        self.files = folder / "files"
        row = ("a.mp4", "b.mp4", "kling", "sora", PROMPT, "A", "same", "A")
        write_csv(self.files / "pairs.csv", VIDEOALIGN, [row])
        for number, name in enumerate(("a.mp4", "b.mp4", "upload.mp4")):
            tiny_video(self.files / name, seed=100 + number, height=64, width=64)
        self.home = folder / "home"
        world = make_world(self.home, pairs=12)
        world.label(10)
        self.base, self.team = world.base, world.team
        with world.database.write() as session:
            first = get_pair(session, world.team.pairs[0])
            for source, count in (("bundled", 2), ("genai-bench", 2), ("videoalign", 2)):
                for number in range(count):
                    self._add(session, first, source, number)
            winter = [self._add(session, first, "winter models", number).id for number in range(6)]
            people = {name: add_user(session, name, "annotator").id for name in (*OPINIONS, NEWCOMER)}
            self.lead = add_user(session, "Lea", "lead").id
            settings = CampaignConfig("winter models", ("camera",), overlap=3, gold_share=0.0, repeat_share=0.0)
            campaign = create_campaign(session, settings, winter, DEFAULT_GUIDELINES, created_by=self.lead)
        self.winter = Team(campaign, tuple(people.values()), tuple(winter))
        for name, said in OPINIONS.items():
            answers = [None if letter == "." else answer_of(letter) for letter in said]
            opine(world.database, Team(campaign, (people[name],), tuple(winter)), [answers])
        world.database.close()

    def _add(self, session: Session, like: Pair, source: str, number: int) -> Pair:
        """Add a pair that the tiny checkpoint has judged."""
        names = {"generator_a": "kling", "generator_b": "sora"}
        pair = add_pair(session, like.video_a, like.video_b, f"{source} {number}", source, **names)
        for video in (pair.video_a, pair.video_b):
            save_judgement(session, Question(video.id, pair.prompt, self.base.fingerprint, "think"), RECORD)
        return pair

    @cached_property
    def model(self) -> DeScoreModel:
        """A tiny random model; no example may change its weights."""
        return tiny_model()

    @cached_property
    def inputs(self) -> Batch:
        """Two clips and prompts as a batch of the tiny model, without thoughts."""
        clips = [tiny_clip(seed) for seed in (1, 2)]
        return encode(self.model.processor, clips, ["a red circle", "a blue square"], policy=POLICY)


def answer_of(letter: str) -> Answer:
    """A complete label of the campaign "winter models"."""
    choice = LETTERS[letter]
    return Answer(choice=choice, strength=None if choice == "tie" else "clearly", sub_scores=SUB_SCORES)


class ExampleWorld:
    """Names that mean the same everywhere; each attribute is one, made when an example asks for it."""

    prompt = PROMPT
    sub_scores = SUB_SCORES
    token = "made by the page"

    def __init__(self, stock: Stock, folder: Path, stack: ExitStack) -> None:
        self.stock, self.stack, self._top = stock, stack, folder
        self.here = Path(shutil.copytree(stock.files, folder / "here"))

    def given(self, name: str) -> Any:
        """What the name stands for.

        Raises:
            AttributeError: nobody knows.
        """
        return importlib.import_module(name) if name in LIBRARIES else getattr(self, name)

    # ---- files ---------------------------------------------------------------------------------------------------

    @cached_property
    def folder(self) -> Path:
        """An empty folder."""
        made = self.here / "folder"
        made.mkdir()
        return made

    @cached_property
    def run_folder(self) -> Path:
        made = self.here / "run"
        made.mkdir()
        return made

    @cached_property
    def path(self) -> Path:
        """A file of pairs."""
        return self.here / "pairs.csv"

    @cached_property
    def videos(self) -> Any:
        return [self.here / "a.mp4", self.here / "b.mp4"]

    # ---- a store -------------------------------------------------------------------------------------------------

    @cached_property
    def home(self) -> Path:
        """A copy of the stock's data folder."""
        return Path(shutil.copytree(self.stock.home, self._top / "home"))

    @cached_property
    def database(self) -> Database:
        opened = open_database(home=self.home)
        self.stack.callback(opened.close)
        return opened

    @cached_property
    def session(self) -> Session:
        """A transaction, which is committed after the example."""
        return self.stack.enter_context(self.database.write())

    @cached_property
    def store_world(self) -> World:
        return World(self.database, self.stock.base, self.stock.team)

    @cached_property
    def campaign(self) -> Campaign:
        """The campaign in which one pair waits for its last label, and a disputed one for the lead."""
        return self.stock.winter.campaign

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint that serves."""
        return self.stock.base

    @property
    def current(self) -> Checkpoint:
        return self.checkpoint

    @property
    def checkpoint_id(self) -> int:
        return self.checkpoint.id

    @property
    def fingerprint(self) -> str:
        return self.checkpoint.fingerprint

    @property
    def manifest(self) -> Any:
        return read_manifest(self.home / "base")

    def person(self, user_id: int) -> User:
        with self.database.read() as session:
            return get_user(session, user_id)

    @cached_property
    def lead(self) -> User:
        return self.person(self.stock.lead)

    @property
    def user(self) -> User:
        return self.lead

    @cached_property
    def annotator(self) -> User:
        """Who has labelled nothing yet."""
        return self.person(self.stock.winter.people[-1])

    @cached_property
    def pair(self) -> Any:
        """The first pair of the source "winter models"."""
        with self.database.read() as session:
            return get_pair(session, self.stock.winter.pairs[0])

    # ---- a model -------------------------------------------------------------------------------------------------

    @property
    def model(self) -> DeScoreModel:
        return self.stock.model

    @property
    def backbone(self) -> Any:
        return self.model.backbone

    @property
    def processor(self) -> Any:
        return self.model.processor

    @property
    def policy(self) -> Any:
        return POLICY

    @property
    def inputs(self) -> Batch:
        return self.stock.inputs

    @property
    def clips(self) -> Any:
        return [tiny_clip(seed) for seed in (1, 2)]

    @property
    def prompts(self) -> Any:
        return ["a red circle", "a blue square"]

    # ---- rewards -------------------------------------------------------------------------------------------------

    @cached_property
    def labels(self) -> Any:
        """What people say of 40 pairs: +1, -1, now and then 0."""
        return np.array([(1, -1, 1, 0, -1)[number % 5] for number in range(40)], dtype=float)

    @cached_property
    def rewards_a(self) -> Any:
        """Rewards that agree with most of the labels."""
        rng = np.random.default_rng(0)
        return self.labels + rng.normal(size=40)

    @cached_property
    def rewards_b(self) -> Any:
        return np.random.default_rng(1).normal(size=40)
