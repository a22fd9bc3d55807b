"""The readable scale of a checkpoint's rewards: standardised reward, P(A preferred), "too close to call".

    calibration = Calibration({"think": fit_mode(rewards_a, rewards_b, labels, reference_rewards)})
    think = calibration.for_mode("think")
    think.standardise(1.7), think.p_first(1.7, 0.4), think.outcome(1.7, 0.4)

A raw reward has no unit: only differences of one checkpoint's rewards mean something. The calibration travels
in the checkpoint, one for each mode, since a reward without a thought has another scale than one with it. Where a
checkpoint has too few validation pairs to fit one, that of its parent is carried over (`carried_over`); where there is
none at all, no probability is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from descore.metrics import MetricsError, best_tie_threshold, margins_of

Outcome = Literal["A", "B", "tie"]

# The flattest curve that is fitted: a typical margin moves P(A preferred) by a quarter of a percent.
_LEAST_SHARPNESS = 0.01
_BISECTIONS = 80


class CalibrationError(ValueError):
    """A calibration that can't be fitted or read; the message says what is wrong with it."""


@dataclass(frozen=True)
class ModeCalibration:
    """The scale of the rewards of one mode; the first four fields are in units of the raw reward.

    Attributes:
        mean: mean reward of the reference videos.
        std: population standard deviation of their rewards; 1.0 where they have no spread.
        temperature: P(A preferred) = sigmoid((r_A - r_B) / temperature); fitted on the validation pairs.
        tie_threshold: the largest |r_A - r_B| that is called a tie; fitted on the validation pairs.
        reference_videos: number of videos behind `mean` and `std`.
        validation_pairs: number of pairs behind `temperature` and `tie_threshold`.
        source: name of the checkpoint whose temperature and tie threshold were carried over, rescaled, and on whose
            validation pairs they were fitted; "" where they were fitted on this checkpoint's own rewards.
    """

    mean: float
    std: float
    temperature: float
    tie_threshold: float
    reference_videos: int
    validation_pairs: int
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("mean", "std", "temperature", "tie_threshold"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise CalibrationError(f"{name} must be a finite number; found {value!r}")
        for name in ("reference_videos", "validation_pairs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise CalibrationError(f"{name} must be a whole number from 1 on; found {value!r}")
        if self.std <= 0 or self.temperature <= 0 or self.tie_threshold < 0:
            raise CalibrationError("std and temperature must be above 0, the tie threshold not below")
        if not isinstance(self.source, str):
            raise CalibrationError(f"source must be a checkpoint's name; found {self.source!r}")

    def standardise(self, reward: float) -> float:
        """Express the reward in standard deviations of the reference videos."""
        return (reward - self.mean) / self.std

    def p_first(self, reward_a: float, reward_b: float) -> float:
        """Return the probability (0 .. 1) that people prefer the first video; `p_first(b, a)` is one minus it."""
        return float(preference_probability(reward_a - reward_b, self.temperature))

    def outcome(self, reward_a: float, reward_b: float) -> Outcome:
        """Return which video is preferred, or "tie" where the margin is within the threshold.

        Raises:
            CalibrationError: a reward is NaN or infinite, which must not pass for a preference.
        """
        margin = reward_a - reward_b
        if not math.isfinite(margin):
            raise CalibrationError(f"rewards {reward_a} and {reward_b} are not finite: they can't be compared")
        return "tie" if abs(margin) <= self.tie_threshold else higher_reward(reward_a, reward_b)

    def to_dict(self) -> dict[str, float | int | str]:
        """Return the fields as JSON types; `source` only where there is one, so that earlier versions read the others."""
        values = asdict(self)
        if not self.source:
            del values["source"]
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModeCalibration:
        """Build the object from the mapping that `to_dict` returns.

        Raises:
            CalibrationError: a key is missing or unknown, or a value is out of range.
        """
        names = {field.name for field in fields(cls)}
        required = {field.name for field in fields(cls) if field.default is MISSING}
        if not required <= set(data) <= names:
            raise CalibrationError(f"a mode's calibration has the keys {sorted(required)}; found {sorted(data)}")
        return cls(**data)


@dataclass(frozen=True)
class Calibration(Mapping[str, ModeCalibration]):
    """The calibrations of a checkpoint by mode: "think", "quick", and "k" if it has one of its own."""

    modes: Mapping[str, ModeCalibration]

    def __getitem__(self, mode: str) -> ModeCalibration:
        return self.modes[mode]

    def __iter__(self) -> Iterator[str]:
        return iter(self.modes)

    def __len__(self) -> int:
        return len(self.modes)

    def for_mode(self, mode: str) -> ModeCalibration | None:
        """Return the calibration to use in a mode; None where there is none.

        "k" averages rewards of sampled thoughts, so it may borrow the scale of "think"; "quick" may not.
        """
        own = self.modes.get(mode)
        return self.modes.get("think") if own is None and mode == "k" else own

    def to_dict(self) -> dict[str, dict[str, float | int | str]]:
        """Return mode -> fields, as JSON types."""
        return {mode: scale.to_dict() for mode, scale in self.modes.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """Build the object from the mapping that `to_dict` returns.

        Raises:
            CalibrationError: as `ModeCalibration.from_dict`, with the mode's name.
        """
        modes = {}
        for mode, values in data.items():
            if not isinstance(values, Mapping):
                raise CalibrationError(f"the calibration of mode {mode!r} is not an object")
            try:
                modes[mode] = ModeCalibration.from_dict(values)
            except CalibrationError as error:
                raise CalibrationError(f"calibration of mode {mode!r}: {error}") from None
        return cls(modes)


def fit_mode(
    rewards_a: npt.ArrayLike,
    rewards_b: npt.ArrayLike,
    labels: npt.ArrayLike,
    reference_rewards: npt.ArrayLike,
) -> ModeCalibration:
    """Fit one mode's scale.

    Args:
        rewards_a, rewards_b: raw rewards of the validation pairs, shape (n,).
        labels: +1 (A preferred), -1 (B preferred), 0 (tie), shape (n,).
        reference_rewards: raw rewards of the reference videos, shape (v,).

    Raises:
        CalibrationError: nothing to fit on, shapes that differ, rewards that are not finite, unknown labels.
    """
    try:
        margins = margins_of(rewards_a, rewards_b)
        threshold = best_tie_threshold(margins, labels)
        reference = margins_of(reference_rewards, np.zeros(np.shape(reference_rewards)))
    except MetricsError as error:
        raise CalibrationError(f"can't calibrate: {error}") from error
    mean, std = float(reference.mean()), reward_std(reference)
    return ModeCalibration(
        mean=mean,
        std=std or 1.0,
        temperature=_fit_temperature(margins, np.asarray(labels, dtype=np.float64)),
        tie_threshold=threshold.eps,
        reference_videos=len(reference),
        validation_pairs=len(margins),
    )


def carried_over(
    parent: ModeCalibration, name: str, parent_rewards_std: float, rewards: npt.ArrayLike
) -> ModeCalibration | None:
    """Carry the scale of a parent over to a checkpoint that has too few validation pairs to fit its own.

    Training stretches or shrinks all rewards. The videos that both judged show by how much, and temperature and tie
    threshold are stretched with them: a margin that is typical for the new checkpoint then gives the probability that a
    typical margin gave before. Mean and spread are the new checkpoint's own.

    Args:
        parent: scale of the parent in the same mode.
        name: of the parent.
        parent_rewards_std: standard deviation (`reward_std`) of the parent's rewards on the same videos.
        rewards: raw rewards of the new checkpoint on these videos, shape (v,).

    Returns:
        None where either of the two gives all videos the same reward, which says nothing about a scale.

    Raises:
        CalibrationError: rewards that are not finite.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if not np.isfinite(values).all():
        raise CalibrationError("can't calibrate: a reward is not finite")
    std = reward_std(values)
    if not std or not parent_rewards_std:
        return None
    stretch = std / parent_rewards_std
    return replace(
        parent,
        mean=float(values.mean()),
        std=std,
        temperature=parent.temperature * stretch,
        tie_threshold=parent.tie_threshold * stretch,
        reference_videos=len(values),
        source=parent.source or name,
    )


def reward_std(rewards: npt.ArrayLike) -> float:
    """Return the population standard deviation of rewards; 0.0 where they are equal but for rounding, or there are none."""
    values = np.asarray(rewards, dtype=np.float64)
    if not len(values):
        return 0.0
    # Equal rewards leave a rounding error as their spread; dividing by it would blow up noise.
    std = float(values.std())
    return 0.0 if std <= 1e-9 * max(1.0, abs(float(values.mean()))) else std


def higher_reward(reward_a: float, reward_b: float) -> Outcome:
    """Return which video has the higher reward, "tie" where they are equal: all that can be said without a calibration.

    Raises:
        CalibrationError: a reward is NaN or infinite, which must not pass for a preference.
    """
    margin = reward_a - reward_b
    if not math.isfinite(margin):
        raise CalibrationError(f"rewards {reward_a} and {reward_b} are not finite: they can't be compared")
    return "tie" if margin == 0 else "A" if margin > 0 else "B"


def probability_source(scale: ModeCalibration | None) -> str:
    """Say where P(A preferred) and the tie threshold come from; begins with "fitted", "carried over" or "none"."""

    if scale is None:
        return "none: the checkpoint has no calibration for this mode"
    if scale.source:
        return f"carried over from {scale.source}, rescaled (fitted there on {scale.validation_pairs} validation pairs)"
    return f"fitted on {scale.validation_pairs} validation pairs"


def _fit_temperature(margins: npt.NDArray[np.float64], labels: npt.NDArray[np.float64]) -> float:
    """Find the temperature with the least Bradley-Terry log-loss; a human tie counts half for each side.

    The loss is convex in the sharpness 1/temperature, so its slope is bisected. The sharpness is bounded
    relative to the typical (root mean square) margin: from below because rewards that contradict people would
    ask for zero or less, from above because separable pairs would ask for infinity. The upper bound is where
    a typical margin gives P = 1 - 1/(n + 2), the most that n pairs without an error can vouch for (rule of
    succession).
    """
    typical = float(np.sqrt(np.mean(margins**2)))
    if typical == 0:
        return 1.0
    scaled, target = margins / typical, (labels + 1) / 2
    low, high = _LEAST_SHARPNESS, math.log(len(margins) + 1)

    def slope(sharpness: float) -> float:
        return float(np.mean(scaled * (preference_probability(sharpness * scaled) - target)))

    if slope(low) >= 0:
        return typical / low
    if slope(high) <= 0:
        return typical / high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return typical / ((low + high) / 2)


def preference_probability(margins: npt.ArrayLike, temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """P(A preferred) = sigmoid(margin / temperature), without overflow.

    Args:
        margins: r_A - r_B, of any shape.

    Returns:
        Probabilities of the same shape, 0 .. 1.
    """
    scaled = np.asarray(margins, dtype=np.float64) / temperature
    small = np.exp(-np.abs(scaled))
    return np.where(scaled >= 0, 1 / (1 + small), small / (1 + small))
