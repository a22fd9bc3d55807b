"""Simulated annotators with a taste: each labels through the endpoints of the Label page until nothing is left for them.

work = await label_with_taste(app.url, campaign_id, cookies, shown, taste, noise=0.1)
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from app.web.auth import COOKIE
from descore.answer import DIMENSIONS
from trainer.shapeworld.pairs import ShapePair

if TYPE_CHECKING:
    from benchmarks.helpers.labelled_shapes import Taste


@dataclass
class Shown:
    """What the simulated people know: for the address of a clip its pair, and whether it is the A (0) or B (1) of it."""

    by_address: Mapping[str, tuple[ShapePair, int]]


@dataclass
class Work:
    """What was labelled: the submissions that were answered, by person and pair."""

    submissions: dict[tuple[str, str], str] = field(default_factory=dict)


async def label_with_taste(
    url: str, campaign_id: int, cookies: Mapping[str, str], shown: Shown, taste: Taste, noise: float
) -> Work:
    """Label until nothing is left for anybody, the people in parallel.

    Args:
        cookies: of the people, by name. noise: share of choices that each gets wrong.

    Raises:
        httpx.HTTPStatusError: the app refused a label.
    """
    work = Work()
    await asyncio.gather(*(_one_person(url, campaign_id, item, shown, taste, noise, work) for item in cookies.items()))
    return work


async def _one_person(
    url: str, campaign_id: int, person: tuple[str, str], shown: Shown, taste: Taste, noise: float, work: Work
) -> None:
    name, cookie = person
    async with httpx.AsyncClient(base_url=url, cookies={COOKIE: cookie}, timeout=60) as client:
        turn = (await _post(client, "next", {"campaign": campaign_id})).get("turn")
        while turn is not None:
            pair, left = shown.by_address[turn["left"]["url"]]
            submission = secrets.token_urlsafe(12)
            answer = _answer(pair, left, taste.label(pair, noise, name))
            said = await _post(client, "submit", {"turn": turn["turn"], "submission": submission, "answer": answer})
            work.submissions[name, pair.identity] = submission
            turn = said.get("turn")


def _answer(pair: ShapePair, left: int, label: str) -> dict[str, Any]:
    """Make the answer that the page would send; `left` is 0 where the pair's A stands left."""
    sides = {"left": left, "right": 1 - left}
    choice = label if label == "tie" else next(side for side, index in sides.items() if "AB"[index] == label)
    scores = {side: {name: pair.scores[index][name] for name in DIMENSIONS} for side, index in sides.items()}
    playback = {side: {"watched": 1.0, "plays": 1} for side in sides}
    strength = None if choice == "tie" else "slightly"
    answer = {"action": "label", "choice": choice, "strength": strength, "sub_scores": scores}
    return {**answer, "seconds": 12.0, "playback": playback}


async def _post(client: httpx.AsyncClient, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(f"/api/label/{name}", json=fields)
    response.raise_for_status()
    said: dict[str, Any] = response.json()
    return said
