"""Alarms of a run's log: when each goes on, how it is put, and that it is over when the figure is back."""

from __future__ import annotations

from typing import Any

import pytest

from storage.training.alarms import BOUNDS, Alarm, AlarmWatch, alarms


def rows(**figures: list[float | None]) -> list[dict[str, Any]]:
    """A log with these figures, one line a step."""
    [length] = {len(values) for values in figures.values()}
    return [{"step": step, **{name: values[step] for name, values in figures.items()}} for step in range(length)]


def only(**figures: list[float | None]) -> Alarm:
    """The one alarm that these figures set off."""
    [alarm] = alarms("dual-rl", rows(**figures))
    return alarm


# Healthy, then out of bounds for long: the alarm's first step is the one where the mean of five has crossed the limit.
CASES = {
    "cut_off": ([0.1] * 5 + [0.6] * 6, 8, "Rollouts cut off at the limit of tokens: 60 % (bound 30 %)."),
    "entropy": ([1.0] * 5 + [0.1] * 6, 9, "0.10 nats a token, 10 % of what it was at the start (bound 30 %)"),
    "no_spread": ([0.5] * 5 + [1.0] * 6, 9, "all got the same reward: 100 % (bound 80 %)"),
    "repetition": ([0.1] * 5 + [0.6] * 6, 8, "60 %, at the start 10 % (bound: 20 % more)"),
    "sampler_ratio_outside": ([0.0] * 5 + [0.2] * 6, 7, "around the rollout engine's: 20 % (bound 5 %)"),
    "skipped": ([0, 0, 0, 1], 4, "not finite: 1."),
    "out_of_memory": ([0, 0, 2], 3, "Memory ran out 2 times."),
}


def test_every_bound_has_a_case() -> None:
    assert {bound.figure for bound in BOUNDS} == CASES.keys()
    assert all(bound.reason and bound.advice for bound in BOUNDS)


@pytest.mark.parametrize("figure", CASES)
def test_an_alarm_goes_on_when_the_figure_leaves_its_bounds(figure: str) -> None:
    values, step, sentence = CASES[figure]
    assert alarms("dual-rl", rows(**{figure: values[: step - 1]})) == []
    alarm = only(**{figure: values})
    assert (alarm.figure, alarm.is_on, alarm.steps) == (figure, True, ((step, len(values)),))
    assert sentence in alarm.sentence
    assert alarm.when == f"since step {step}"
    assert "{" not in alarm.sentence + alarm.advice


def test_one_odd_step_is_no_alarm_and_neither_is_a_short_log() -> None:
    assert alarms("dual-rl", rows(cut_off=[0.1, 0.1, 0.9, 0.1, 0.1, 0.1])) == []
    assert alarms("dual-rl", rows(cut_off=[1.0] * 4)) == []
    assert alarms("cold-start", rows(loss=[0.6] * 9)) == []


def test_an_alarm_is_past_with_its_steps_and_worst_value_when_the_figure_is_back() -> None:
    alarm = only(cut_off=[0.5] * 5 + [0.9] * 3 + [0.0] * 6)
    assert (alarm.is_on, alarm.steps, alarm.when) == (False, ((5, 11),), "steps 5 to 11")
    assert "74 %" in alarm.sentence  # the mean of 0.5, 0.5, 0.9, 0.9, 0.9


def test_an_alarm_that_comes_back_tells_each_time() -> None:
    alarm = only(cut_off=[0.5] * 5 + [0.0] * 5 + [0.5] * 6)
    assert alarm.steps == ((5, 6), (14, 16))
    assert alarm.when == "steps 5 to 6 and since step 14"


def test_steps_where_a_figure_was_not_measured_change_nothing() -> None:
    alarm = only(no_spread=[1.0, None, 1.0, 1.0, None, 1.0, 1.0, None])
    assert (alarm.is_on, alarm.steps) == (True, ((7, 7),))


def test_memory_is_told_in_words_with_the_budgets_that_hold_now() -> None:
    log = rows(
        out_of_memory=[0, 1, 2, 2], forward_tokens=[16384, 8192, 4096, 4096], sampling_tokens=[9000, 4500, 2250, 2250]
    )
    [alarm] = alarms("dual-rl", log)
    thin = "\N{NARROW NO-BREAK SPACE}"
    expected = f"Memory ran out 2 times; sequences now go through in pieces of 4{thin}096 tokens"
    assert alarm.sentence == f"{expected}, and 2{thin}250 tokens are cached while sampling."
    assert "dual_rl.forward_tokens=4096 and dual_rl.sampling_tokens=2250" in alarm.advice
    assert (alarm.is_on, alarm.when) == (False, "steps 2 to 3")
    [cold] = alarms("cold-start", rows(out_of_memory=[1], forward_tokens=[64]))
    assert cold.sentence == "Memory ran out once; sequences now go through in pieces of 64 tokens."
    assert cold.advice.endswith("set cold_start.forward_tokens=64.")


def test_a_watch_tells_what_changes_once_and_leaves_counters_to_the_loop() -> None:
    watch = AlarmWatch("dual-rl", rows(cut_off=[0.1] * 5, skipped=[0] * 5))
    told = [
        watch.add({"step": 5 + index, "cut_off": value, "skipped": 1}) for index, value in enumerate([0.9] * 4 + [0.0] * 4)
    ]
    changes = [[(alarm.figure, alarm.is_on) for alarm in of_step] for of_step in told]
    assert changes == [[], [("cut_off", True)], [], [], [], [], [], [("cut_off", False)]]


def test_alarms_that_are_on_come_first() -> None:
    log = rows(cut_off=[0.9] * 5 + [0.0] * 9, no_spread=[1.0] * 14)
    assert [(alarm.figure, alarm.is_on) for alarm in alarms("dual-rl", log)] == [("no_spread", True), ("cut_off", False)]
