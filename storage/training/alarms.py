"""Alarms of a training run: which figure of its log has left its bounds, since when, and what to do.

    for alarm in alarms("dual-rl", read_metrics(folder / "dual-rl")):
        alarm.is_on, alarm.steps, alarm.sentence, alarm.advice

`BOUNDS` is the one table of bounds, each with its reason. The trainer writes alarms into the run's log and report, and the
Train page shows them beside the curves. An alarm whose figure is back stays as a past one, with its steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Row = Mapping[str, Any]

# above: the mean of the last lines is over the limit. fallen: it is under this share of the mean of the first lines.
# risen: it is over that mean by more than the limit. counted: the counter has grown since the line before.
Kind = Literal["above", "fallen", "risen", "counted"]
BUDGETS = ("forward_tokens", "sampling_tokens")  # halved where memory ran out


@dataclass(frozen=True)
class Bound:
    """Bound of one figure of the log.

    Attributes:
        figure: its name in the log.
        kind: how it is compared, see `Kind`.
        limit: share, or factor; 0 for a counter.
        lines: of the log whose mean is compared, so that one odd step is no alarm.
        reason: why the limit lies there. Unless it names a source, it is a rule of thumb of this project.
        sentence: what is wrong, with {value}, {start} and {limit} as percentages, {raw} as a number, {pieces} in words.
        advice: what to do; {stage} is the section of the settings.
    """

    figure: str
    kind: Kind
    limit: float
    lines: int
    reason: str
    sentence: str
    advice: str


BOUNDS = (
    Bound(
        "cut_off",
        "above",
        0.3,
        5,
        "a rollout that is cut off has no answer: nothing in it can be right, and length alone is rewarded; with more than "
        "three in ten the policy learns about the limit instead of the videos",
        "Rollouts cut off at the limit of tokens: {value} (bound {limit}).",
        "Raise {stage}.objective.max_tokens. If thoughts grow all the same, lower {stage}.objective.reward.length_weight.",
    ),
    Bound(
        "entropy",
        "fallen",
        0.3,
        5,
        "a policy that has lost most of its entropy samples nearly the same thought for the whole group, so there is little "
        "left to compare; the asymmetric clip exists to slow this down (DAPO, arXiv 2503.14476)",
        "Entropy of the policy: {raw} nats a token, {value} of what it was at the start (bound {limit}).",
        "Go back to an earlier checkpoint, and lower {stage}.optim.lr or raise {stage}.objective.epsilon_high.",
    ),
    Bound(
        "no_spread",
        "above",
        0.8,
        5,
        "groups whose rollouts all got the same reward have no advantage; beyond four in five a step learns from the rest, "
        "and its gradient is mostly noise",
        "Groups whose rollouts all got the same reward: {value} (bound {limit}).",
        "Raise {stage}.objective.num_generations or temperature, or set {stage}.objective.groups_without_spread to "
        "sample_again. With high rewards this means that the stage has taught what it can: end it.",
    ),
    Bound(
        "repetition",
        "risen",
        0.2,
        5,
        "length is rewarded, and repeating is the cheapest way to get it; templates of a thought repeat as well, so what "
        "counts is the rise since the start",
        "Repeated 4-grams in the thoughts: {value}, at the start {start} (bound: {limit} more).",
        "Lower {stage}.objective.reward.length_weight or length_high, or raise {stage}.objective.beta. Read the sampled "
        "thoughts before you use the checkpoint.",
    ),
    Bound(
        "sampler_ratio_outside",
        "above",
        0.05,
        5,
        "where the rollout engine's probabilities leave the clip, the gradient is that of another policy; the weights by "
        "importance are capped and correct little of it",
        "Tokens whose probability under the trained model is outside the clip around the rollout engine's: {value} "
        "(bound {limit}).",
        "Set {stage}.engine=own, which samples from the trained model, and keep {stage}.objective.importance_cap above 0.",
    ),
    Bound(
        "skipped",
        "counted",
        0,
        1,
        "an update whose loss or gradient is not finite is left out; five in a row end the run",
        "Updates left out because a loss or gradient was not finite: {count}.",
        "If it goes on, lower {stage}.optim.lr and scoring_lr, or compute with model.precision=fp32.",
    ),
    Bound(
        "out_of_memory",
        "counted",
        0,
        1,
        "a step that does not fit is done again in smaller parts, which costs its time twice",
        "Memory ran out {times}{pieces}.",
        "Nothing is lost. To save the time of the attempt that failed, set {budgets}.",
    ),
)


@dataclass(frozen=True)
class Alarm:
    """A figure that has left its bounds.

    Attributes:
        figure: its name in the log.
        is_on: whether it is out of bounds in the newest line.
        steps: first and last step of each time that it was, counted from 1; the last one of those is the newest line's where
            the alarm is on.
        sentence: what is wrong; of an alarm that is over, with the worst value of its last time.
        advice: what to do.
    """

    figure: str
    is_on: bool
    steps: tuple[tuple[int, int], ...]
    sentence: str
    advice: str

    @property
    def when(self) -> str:
        """The steps in words: "steps 3 to 9 and since step 20"."""
        spans = [f"steps {first} to {last}" if last > first else f"step {first}" for first, last in self.steps]
        if self.is_on:
            spans[-1] = f"since step {self.steps[-1][0]}"
        return " and ".join(spans) if len(spans) <= 3 else f"{len(spans)} times, at last {spans[-1]}"


class AlarmWatch:
    """The alarms of a stage, line by line."""

    def __init__(self, stage: str, rows: Iterable[Row] = ()) -> None:
        """Make a watch. stage: its name, as in "dual-rl"; rows: of its log so far."""
        self._watched = [_Watched(bound, stage.replace("-", "_")) for bound in BOUNDS]
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> list[Alarm]:
        """Take a line of the log; return the alarms that it has set off or ended. Counters speak for themselves."""
        changed = [watched for watched in self._watched if watched.add(row)]
        return [watched.alarm() for watched in changed if watched.bound.kind != "counted"]

    def alarms(self) -> list[Alarm]:
        """Return all alarms so far, those that are on first."""
        return sorted((watched.alarm() for watched in self._watched if watched.spans), key=lambda alarm: not alarm.is_on)


def alarms(stage: str, rows: Iterable[Row]) -> list[Alarm]:
    """Return the alarms of a stage's log, those that are on first; arguments as of `AlarmWatch`."""
    return AlarmWatch(stage, rows).alarms()


class _Watched:
    """One bound, and what the log has said about it so far."""

    def __init__(self, bound: Bound, section: str) -> None:
        self.bound, self._section = bound, section
        self.spans: list[tuple[int, int]] = []
        self._is_on = False
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=bound.lines)
        self._value = self._worst = 0.0  # of the newest line, and of the newest time out of bounds
        self._row: Row = {}  # the newest one

    def add(self, row: Row) -> bool:
        """Take a line; return whether the alarm has gone on or off."""
        value = row.get(self.bound.figure)
        if not isinstance(value, (int, float)):
            return False
        was_on, step = self._is_on, int(row["step"]) + 1
        self._is_on = self._is_out(float(value))
        if self._is_on:
            begins = not was_on
            self.spans = [*self.spans, (step, step)] if begins else [*self.spans[:-1], (self.spans[-1][0], step)]
            worst = min if self.bound.kind == "fallen" else max
            self._worst = self._value if begins else worst(self._worst, self._value)
        self._row = row
        return self._is_on != was_on

    def _is_out(self, value: float) -> bool:
        bound = self.bound
        if bound.kind == "counted":
            before, self._value = self._value, value
            return value > before
        if len(self._first) < bound.lines:
            self._first.append(value)
        self._last.append(value)
        self._value = sum(self._last) / len(self._last)
        if len(self._last) < bound.lines:
            return False
        if bound.kind == "above":
            return self._value > bound.limit
        return self._value > self._start + bound.limit if bound.kind == "risen" else self._value < bound.limit * self._start

    @property
    def _start(self) -> float:
        return sum(self._first) / max(len(self._first), 1)

    def alarm(self) -> Alarm:
        """Put the alarm into words."""
        bound, value = self.bound, self._value if self._is_on else self._worst
        of_start = value / self._start if bound.kind == "fallen" and self._start else value
        count = round(self._value)
        words = {
            "value": f"{100 * of_start:.0f} %",
            "raw": f"{value:.2f}",
            "start": f"{100 * self._start:.0f} %",
            "limit": f"{100 * bound.limit:.0f} %",
            "count": str(count),
            "times": "once" if count == 1 else f"{count} times",
            "pieces": pieces(self._row),
            "budgets": " and ".join(f"{self._section}.{name}={self._row[name]}" for name in BUDGETS if name in self._row),
            "stage": self._section,
        }
        sentence, advice = (text.format(**words) for text in (bound.sentence, bound.advice))
        return Alarm(bound.figure, self._is_on, tuple(self.spans), sentence, advice)


def pieces(row: Row) -> str:
    """Say how much goes through memory at a time by this line of the log, as the end of a sentence; "" where unknown."""
    forward, sampling = (row.get(name) for name in BUDGETS)
    text = f"; sequences now go through in pieces of {_count(forward)} tokens" if isinstance(forward, int) else ""
    return text + (f", and {_count(sampling)} tokens are cached while sampling" if isinstance(sampling, int) else "")


def _count(number: int) -> str:
    """Write 16384 as 16 384."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
