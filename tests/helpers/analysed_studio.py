"""A store for tests of the Analyse page: ShapeWorld pairs that the bundled checkpoint judged and people labelled."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

from app.judge.gallery import FOLDER, load_gallery
from app.serving.cached_judge import stream_answer
from app.serving.judging_queue import Visitor
from descore.answer import DIMENSIONS
from storage.campaigns.campaign import Campaign, CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.judgements import Question, find_judgement
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from storage.pairs import Pair, add_pair
from tests.helpers.accounts import person

if TYPE_CHECKING:
    from storage.schema import Choice
    from tests.helpers.studios import Running

SOURCE = "GenAI-Bench shapes"
GENERATORS = ("Roundabout", "Polygonia XL", "Flatland-5B")


def add_gallery_pairs(running: Running, number: int = 4) -> list[Pair]:
    """Add some of the bundled pairs to the store, with names of generators."""
    gallery = load_gallery(running.studio.clip_store, FOLDER)[:number]
    with running.studio.database.write() as session:
        return [
            add_pair(
                session,
                bundled.a,
                bundled.b,
                bundled.prompt,
                SOURCE,
                generator_a=GENERATORS[index % 3],
                generator_b=GENERATORS[(index + 1) % 3],
            )
            for index, bundled in enumerate(gallery)
        ]


def judge_pairs(running: Running, pairs: list[Pair]) -> None:
    """Judge pairs with the serving checkpoint in both modes."""
    studio = running.studio
    for pair in pairs:
        for mode in ("think", "quick"):
            question = (
                studio.serving,
                studio.database,
                studio.clip_store,
                pair,
                mode,
                0,
                threading.Event(),
                Visitor("test"),
            )
            *_, last = stream_answer(*question)  # type: ignore[arg-type]
            assert last.phase == "done"


def model_choice(running: Running, pair: Pair) -> Choice:
    """Return the outcome of a pair by its stored rewards."""
    with running.studio.database.read() as session:
        rewards = []
        for video in (pair.video_a, pair.video_b):
            judgement = find_judgement(session, Question(video.id, pair.prompt, running.studio.served.fingerprint, "think"))
            assert judgement is not None
            assert judgement.record.reward is not None
            rewards.append(judgement.record.reward)
    return "A" if rewards[0] > rewards[1] else "B"


def label_pairs(running: Running, name: str, pairs: list[Pair], contradict: int) -> Campaign:
    """Label pairs in a campaign: the opposite of the model's outcome for the first `contradict` pairs, else the same."""
    opposite: dict[Choice, Choice] = {"A": "B", "B": "A"}
    choices = {}
    for index, pair in enumerate(pairs):
        choice = model_choice(running, pair)
        choices[pair.id] = opposite[choice] if index < contradict else choice
    annotator = person(running, "Zoe the annotator").id
    with running.studio.database.write() as session:
        config = CampaignConfig(name, overlap=1, gold_share=0.0, repeat_share=0.0)
        campaign = create_campaign(session, config, list(choices), DEFAULT_GUIDELINES, created_by=None)
        while isinstance(assignment := next_assignment(session, campaign.id, annotator), Assignment):
            scores = {video: dict.fromkeys(DIMENSIONS, "2") for video in ("A", "B")}
            answer = Answer(
                choice=choices[assignment.pair.id], strength="clearly", sub_scores=scores, note="<b>look</b> at the edge"
            )
            submit(session, assignment.token, annotator, secrets.token_hex(8), answer)
    return campaign
