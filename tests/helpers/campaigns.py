"""Campaigns for tests of a running app.

What annotators may not see too early (who made the videos, what the model thought) is worded so peculiarly that a search
in any answer finds it. The model's view is in the store already, so that nobody waits for a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from descore.answer import DIMENSIONS, render_answer
from storage.campaigns.campaign import Campaign, CampaignConfig, Gold, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.judgements import JudgementRecord, Question, save_judgement
from storage.pairs import Pair, add_pair, list_pairs

if TYPE_CHECKING:
    from tests.helpers.studios import Running

GENERATORS = ("Zyxomat-Alpha", "Qwurbel-Beta")
THOUGHTS = ("Vlimber: it holds together.", "Drasko: it falls apart.")
REWARDS = (731.25, -731.25)
# Also the names of the gallery's files, which the videos of these pairs came from.
SECRETS = (*GENERATORS, "Vlimber", "Drasko", "731.25", "kling", "sora", ".mp4")
# What the model says of A and of B.
MODEL_SCORES = (dict.fromkeys(DIMENSIONS, "2"), dict.fromkeys(DIMENSIONS, "2") | {"camera": "0"})


def make_pairs(running: Running, name: str, number: int) -> list[Pair]:
    """Pairs of the gallery's first two videos, each with a prompt of its own."""
    with running.studio.database.write() as session:
        first = list_pairs(session, "bundled")[0]
        pairs = [
            add_pair(
                session,
                first.video_a,
                first.video_b,
                f"{name}: pair {index} of squares that move.",
                "test",
                generator_a=GENERATORS[0],
                generator_b=GENERATORS[1],
            )
            for index in range(number)
        ]
        for pair in pairs:
            for index, video in enumerate((pair.video_a, pair.video_b)):
                question = Question(video.id, pair.prompt, running.studio.served.fingerprint, "think")
                save_judgement(session, question, _record(index))
    return pairs


def _record(index: int) -> JudgementRecord:
    scores, reward = MODEL_SCORES[index], REWARDS[index]
    return JudgementRecord(
        checkpoint="tiny random",
        thought=render_answer(THOUGHTS[index], scores, 3.0),
        sub_scores=scores,
        overall_score=3.0,
        parse_note=None,
        strict_format=True,
        reward=reward,
        standardised_reward=reward,
        reward_spread=None,
        sub_score_votes=None,
        truncated=False,
        seconds=0.5,
    )


def make_campaign(
    running: Running, name: str, number: int = 4, gold: Mapping[int, Gold] | None = None, **settings: Any
) -> Campaign:
    """An open campaign over new pairs, without surprises: no gold or repeated pairs in between unless asked for.

    Args:
        gold: known answers by the index of the pair.
    """
    pairs = make_pairs(running, name, number)
    chosen = CampaignConfig(name, **({"overlap": 1, "gold_share": 0.0, "repeat_share": 0.0} | settings))
    known = {pairs[index].id: answer for index, answer in (gold or {}).items()}
    with running.studio.database.write() as session:
        return create_campaign(session, chosen, [pair.id for pair in pairs], DEFAULT_GUIDELINES, created_by=None, gold=known)
