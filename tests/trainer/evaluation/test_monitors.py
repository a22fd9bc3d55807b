"""What is measured on held-out pairs while a stage trains."""

from __future__ import annotations

import pytest

from trainer.evaluation.held_out import JudgedPair, JudgedPairs
from trainer.evaluation.monitors import HeldOutMonitor


def judged(*margins: float) -> JudgedPairs:
    """Pairs of which people prefer A."""
    pairs = (
        JudgedPair(
            identity=str(number),
            label=1,
            thoughts=("", ""),
            sub_scores=({}, {}),
            think=(margin, 0.0),
            quick=(0.0, margin),
        )
        for number, margin in enumerate(margins)
    )
    return JudgedPairs(tuple(pairs), "think-then-score")


@pytest.mark.parametrize(("steps", "due"), [(10, [1, 3, 5, 7]), (3, [0, 1]), (1, [])])
def test_a_few_times_in_a_stage_and_not_at_its_end(steps: int, due: list[int]) -> None:
    monitor = HeldOutMonitor(lambda: judged(2.0, 1.0, -1.0, 0.5), steps)
    assert [step for step in range(steps) if monitor(step) == {"held_out_accuracy": 0.75}] == due


def test_nothing_is_told_where_no_pair_could_be_read() -> None:
    assert HeldOutMonitor(lambda: judged(), 10)(1) == {}
