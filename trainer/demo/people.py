"""Simulated annotators, who look at exact sub-scores and have a taste, a share of slips and a pace.

The same person says the same of the same pair each time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from descore.answer import DIMENSIONS, NOT_ASKED
from storage.campaigns.label_schema import Answer

if TYPE_CHECKING:
    from storage.schema import Choice, Strength
    from trainer.shapeworld.pairs import ShapePair

_CLEARLY = 0.5  # weighted means, 0 .. 2, that differ by more
_NEIGHBOURS = {"0": ("1",), "1": ("0", "2"), "2": ("1",), NOT_ASKED: ("2",)}
_SLIP_NOTES = ("hard to see", "had to look twice", "")


@dataclass(frozen=True)
class SimulatedPerson:
    """How somebody judges.

    Attributes:
        name: of the account.
        weights: how much each dimension counts for them.
        tie_below: two videos whose weighted means differ by less are a tie.
        slips: the share of sub-scores that they get wrong by one.
        seconds: of their time on a pair, half of the pairs take less.
    """

    name: str
    weights: Mapping[str, float]
    tie_below: float
    slips: float
    seconds: float

    def answer(self, pair: ShapePair, dimensions: Sequence[str]) -> Answer:
        """Return what they say of a pair, in terms of its videos A and B."""
        rng = random.Random(f"{self.name}/{pair.identity}")
        seen = {side: self._seen(scores, rng) for side, scores in zip("AB", pair.scores, strict=True)}
        difference = self._mean(seen["A"]) - self._mean(seen["B"])
        choice: Choice = "tie" if abs(difference) < self.tie_below else "A" if difference > 0 else "B"
        if choice == "tie" and self._mean(seen["A"]) < 0.5:
            choice = "both_bad"
        strength: Strength | None = None
        if choice in ("A", "B"):
            strength = "clearly" if abs(difference) > _CLEARLY else "slightly"
        return Answer(
            choice=choice,
            strength=strength,
            sub_scores={side: {name: scores[name] for name in dimensions} for side, scores in seen.items()},
            note=rng.choice(_SLIP_NOTES) if strength == "slightly" else "",
            seconds=round(self.seconds * rng.lognormvariate(0.0, 0.4), 1),
            playback={side: {"watched": 1.0, "plays": rng.choice((1, 1, 2, 3))} for side in "AB"},
        )

    def _seen(self, scores: Mapping[str, str], rng: random.Random) -> dict[str, str]:
        return {
            name: rng.choice(_NEIGHBOURS[scores[name]]) if rng.random() < self.slips else scores[name] for name in DIMENSIONS
        }

    def _mean(self, scores: Mapping[str, str]) -> float:
        """Weigh the sub-scores; what the prompt leaves free counts as fulfilled."""
        values = {name: 2.0 if scores[name] == NOT_ASKED else float(scores[name]) for name in DIMENSIONS}
        return sum(self.weights[name] * values[name] for name in DIMENSIONS) / sum(self.weights.values())


_EVEN = dict.fromkeys(DIMENSIONS, 1.0)
PEOPLE = (
    SimulatedPerson("Ada (simulated)", _EVEN, 0.05, 0.05, 24.0),
    SimulatedPerson("Ben (simulated)", {**_EVEN, "style": 2.0, "dynamics": 0.5}, 0.05, 0.2, 15.0),
    SimulatedPerson("Cleo (simulated)", {**_EVEN, "subject": 2.0}, 0.3, 0.1, 35.0),
)
