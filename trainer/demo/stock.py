"""What the demo store begins with: clips of ShapeWorld as pairs, three people, one labelled round and one half labelled."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from descore.answer import DIMENSIONS
from storage.accounts.users import add_user, find_user
from storage.campaigns.campaign import Campaign, CampaignConfig, Gold, create_campaign, set_status
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from storage.pairs import add_pair, add_video
from storage.video_files import store_video
from trainer.demo.people import PEOPLE, SimulatedPerson
from trainer.shapeworld.render import frame_times
from trainer.shapeworld.write_dataset import clip_names, write_pairs

if TYPE_CHECKING:
    from storage import Database
    from trainer.shapeworld.pairs import ShapePair

SOURCE = "ShapeWorld (demo)"
SIZE = 256  # of the clips, in pixels
# Made up: the first one mostly made the better clip of a pair.
GENERATORS = ("Roundabout 2", "Flatland XL", "Polygonia")
OVERLAP = 3


def add_pairs(database: Database, shapes: Iterable[ShapePair], workers: int = 2) -> dict[int, ShapePair]:
    """Draw the clips of pairs, keep them, and add the pairs; return them by the id in the store, in their order."""
    shapes = list(shapes)
    known = {}
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(shapes, Path(folder), workers)
        with database.write() as session:
            for number, shape in enumerate(shapes):
                videos = []
                for scene, name in zip(shape.scenes, clip_names(shape), strict=True):
                    stored = store_video(Path(folder) / name, database.home)
                    fps = float(scene.rendering.fps)
                    video = add_video(
                        session,
                        sha256=stored.sha256,
                        file=stored.file,
                        original_name=name,
                        width=SIZE,
                        height=SIZE,
                        fps=fps,
                        duration=len(frame_times(scene)) / fps,
                    )
                    videos.append(video)
                a, b = videos
                makers = _generators(shape, number)
                pair = add_pair(session, a, b, shape.prompt, SOURCE, generator_a=makers[0], generator_b=makers[1])
                known[pair.id] = shape
    return known


def _generators(shape: ShapePair, number: int) -> tuple[str, str]:
    """Name the makers of both clips, so that a leaderboard has an order."""
    better, worse = (GENERATORS[0], GENERATORS[1 + number % 2])
    a_is_better = shape.overall[0] >= shape.overall[1]
    if number % 5 == 4:  # now and then not
        a_is_better = not a_is_better
    return (better, worse) if a_is_better else (worse, better)


def add_people(database: Database) -> None:
    """Add the simulated annotators; they have no password, so nobody can sign in as one of them."""
    with database.write() as session:
        for person in PEOPLE:
            add_user(session, person.name, "annotator")


def label_round(
    database: Database, name: str, known: Mapping[int, ShapePair], pair_ids: Sequence[int], share: float, gold: int = 0
) -> Campaign:
    """Make a campaign over pairs and let the people label; one that is labelled wholly is closed.

    Args:
        known: what each pair shows, by its id.
        share: of the pairs that each of them gets to, 0 .. 1; the last of them gets to half as many.
        gold: so many of the pairs are gold.
    """
    answers = {pair_id: Gold(known[pair_id].label, explanation="as it was drawn") for pair_id in pair_ids[:gold]}
    settings = CampaignConfig(name, DIMENSIONS, overlap=OVERLAP, gold_share=0.1 if gold else 0.0, repeat_share=0.05)
    with database.write() as session:
        campaign = create_campaign(session, settings, pair_ids, DEFAULT_GUIDELINES, created_by=None, gold=answers)
    for person in PEOPLE:
        part = share if share == 1.0 or person is not PEOPLE[-1] else share / 2
        _label(database, campaign, person, known, len(pair_ids) if part == 1.0 else round(part * len(pair_ids)))
    if share == 1.0:
        with database.write() as session:
            set_status(session, campaign.id, "closed")
    return campaign


def _label(
    database: Database, campaign: Campaign, person: SimulatedPerson, known: Mapping[int, ShapePair], wanted: int
) -> None:
    """Let somebody label until they have `wanted` labels of new pairs, or there are none."""
    with database.write() as session:
        user = find_user(session, person.name)
        assert user is not None
        done = 0
        while done < wanted:
            assignment = next_assignment(session, campaign.id, user.id)
            if not isinstance(assignment, Assignment):
                return
            answer = person.answer(known[assignment.pair.id], campaign.config.dimensions)
            submit(session, assignment.token, user.id, secrets.token_hex(16), answer)
            done += assignment.kind == "work"
