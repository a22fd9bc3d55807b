"""The paradigms of a run, and the stages that each of them trains.

    think-then-score   DeScore: a thought, then a reward; both stages
    discriminative     baseline without thoughts: stage 1 alone
    generative         baseline without a scoring module, its score is written in the thought: stage 2 alone

Imports nothing of this project, so that the command line can offer the names at once.
"""

from __future__ import annotations

from typing import Literal, get_args

Paradigm = Literal["think-then-score", "discriminative", "generative"]
StageName = Literal["cold-start", "dual-rl"]

PARADIGMS: tuple[Paradigm, ...] = get_args(Paradigm)
STAGES: tuple[StageName, ...] = get_args(StageName)

STAGES_OF: dict[Paradigm, tuple[StageName, ...]] = {
    "think-then-score": STAGES,
    "discriminative": ("cold-start",),
    "generative": ("dual-rl",),
}
