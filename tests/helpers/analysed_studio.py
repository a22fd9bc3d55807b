"""A store for tests of the Analyse page: ShapeWorld pairs that the bundled checkpoint judged and people labelled."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

from app.judge.gallery import FOLDER, load_gallery
from app.serving.cached_judge import stream_answer
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


def take_in(running: Running, number: int = 4) -> list[Pair]:
    """Some of the pairs that come with the app, with generators that could have made them."""
    known = load_gallery(running.studio.clip_store, FOLDER)[:number]
    with running.studio.database.write() as session:
        return [
            add_pair(
                session,
                one.a,
                one.b,
                one.prompt,
                SOURCE,
                generator_a=GENERATORS[index % 3],
                generator_b=GENERATORS[(index + 1) % 3],
            )
            for index, one in enumerate(known)
        ]


def judge(running: Running, pairs: list[Pair]) -> None:
    """Ask the checkpoint that serves about them, with a thought and quickly."""
    studio = running.studio
    for pair in pairs:
        for mode in ("think", "quick"):
            asked = (studio.serving, studio.database, studio.clip_store, pair, mode, 0, threading.Event())
            *_, last = stream_answer(*asked)  # type: ignore[arg-type]
            assert last.phase == "done"


def model_choice(running: Running, pair: Pair) -> Choice:
    """What the stored rewards say."""
    with running.studio.database.read() as session:
        rewards = []
        for video in (pair.video_a, pair.video_b):
            found = find_judgement(session, Question(video.id, pair.prompt, running.studio.served.fingerprint, "think"))
            assert found is not None
            assert found.record.reward is not None
            rewards.append(found.record.reward)
    return "A" if rewards[0] > rewards[1] else "B"


def label(running: Running, name: str, pairs: list[Pair], contradict: int) -> Campaign:
    """A campaign in which one person says of the first `contradict` pairs the opposite of the model, else the same."""
    opposite: dict[Choice, Choice] = {"A": "B", "B": "A"}
    said = {}
    for index, pair in enumerate(pairs):
        choice = model_choice(running, pair)
        said[pair.id] = opposite[choice] if index < contradict else choice
    annotator = person(running, "Zoe the annotator").id
    with running.studio.database.write() as session:
        settings = CampaignConfig(name, overlap=1, gold_share=0.0, repeat_share=0.0)
        made = create_campaign(session, settings, list(said), DEFAULT_GUIDELINES, created_by=None)
        while isinstance(assignment := next_assignment(session, made.id, annotator), Assignment):
            scores = {video: dict.fromkeys(DIMENSIONS, "2") for video in ("A", "B")}
            given = Answer(
                choice=said[assignment.pair.id], strength="clearly", sub_scores=scores, note="<b>look</b> at the edge"
            )
            submit(session, assignment.token, annotator, secrets.token_hex(8), given)
    return made
