"""Accuracies of annotators, estimated from labels alone: the one-coin model of Dawid and Skene.

Each annotator j is right with an accuracy p_j, and where wrong names one of the other choices at random. Accuracies and
true choices are estimated in turns (expectation maximisation; Dawid & Skene 1979, with one accuracy per annotator in
place of a confusion matrix, since a campaign gives too few labels of each kind for that). All choices are equally likely
beforehand, so that two equally reliable people who contradict each other stay undecided. Questions with a known answer
(gold pairs, adjudicated pairs) keep it throughout. With this model the weight of a label is

    w_j = ln(p_j * (K - 1) / (1 - p_j)),  K = 4 choices,

and the probability of a choice the softmax of the weights behind each choice.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt

from storage.schema import Choice

CHOICES: tuple[Choice, ...] = get_args(Choice)
# Before the first label an annotator counts as one who got 4 of 6 right: a few lucky labels make nobody infallible.
PRIOR_RIGHT, PRIOR_WRONG = 4.0, 2.0
ITERATIONS = 100
TOLERANCE = 1e-6
_CODE = {name: code for code, name in enumerate(CHOICES)}
_OTHERS = len(CHOICES) - 1

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass
class KnownLabels:
    """Labels as flat columns, a million of them in some 20 MB.

    Attributes:
        answers: question -> its known answer.
    """

    answers: dict[int, Choice] = field(default_factory=dict)
    questions: array[int] = field(default_factory=lambda: array("q"))
    annotators: array[int] = field(default_factory=lambda: array("q"))
    choices: array[int] = field(default_factory=lambda: array("b"))

    def add(self, question: int, annotator: int, choice: Choice) -> None:
        """One label of one annotator on one question."""
        self.questions.append(question)
        self.annotators.append(annotator)
        self.choices.append(_CODE[choice])


def annotator_weights(labels: KnownLabels) -> dict[int, float]:
    """Estimate the weight of each annotator's labels; 0 is as good as chance, below it worse."""
    return {annotator: _weight(accuracy) for annotator, accuracy in annotator_accuracies(labels).items()}


def annotator_accuracies(labels: KnownLabels) -> dict[int, float]:
    """Estimate the accuracy p_j of each annotator, 0 < p_j < 1, by annotator id."""
    if not labels.questions:
        return {}
    questions, items = np.unique(np.array(labels.questions), return_inverse=True)
    people, coders = np.unique(np.array(labels.annotators), return_inverse=True)
    choices = np.array(labels.choices, dtype=np.int64)
    answers = _answer_codes(questions, labels.answers)
    accuracy = np.full(len(people), PRIOR_RIGHT / (PRIOR_RIGHT + PRIOR_WRONG))
    given = np.bincount(coders, minlength=len(people)) + PRIOR_RIGHT + PRIOR_WRONG
    for _ in range(ITERATIONS):
        likely = _likely(items, choices, _weights(accuracy)[coders], answers)
        right = np.bincount(coders, weights=likely[items, choices], minlength=len(people))
        before, accuracy = accuracy, (right + PRIOR_RIGHT) / given
        if np.abs(accuracy - before).max() < TOLERANCE:
            break
    return dict(zip(people.tolist(), accuracy.tolist(), strict=True))


def posterior(sums: Sequence[float]) -> list[float]:
    """Compute the probability of each choice from the summed weights of its labels."""
    highest = max(sums)
    shares = [math.exp(value - highest) for value in sums]
    return [share / sum(shares) for share in shares]


def _likely(items: Codes, choices: Codes, weights: Floats, answers: Codes) -> Floats:
    """Compute the probability of each choice for each question, shape (questions, choices)."""
    cells = np.bincount(items * len(CHOICES) + choices, weights=weights, minlength=len(answers) * len(CHOICES))
    sums = cells.reshape(len(answers), len(CHOICES))
    likely: Floats = np.exp(sums - sums.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    fixed = np.flatnonzero(answers >= 0)
    likely[fixed] = 0.0
    likely[fixed, answers[fixed]] = 1.0
    return likely


def _answer_codes(questions: Codes, answers: Mapping[int, Choice]) -> Codes:
    """Return the code of each question's known answer, -1 where it is not known."""
    codes = np.full(len(questions), -1, dtype=np.int64)
    index_of = {question: index for index, question in enumerate(questions.tolist())}
    for question, choice in answers.items():
        if question in index_of:
            codes[index_of[question]] = _CODE[choice]
    return codes


def _weights(accuracy: Floats) -> Floats:
    weights: Floats = np.log(accuracy * _OTHERS / (1.0 - accuracy))
    return weights


def _weight(accuracy: float) -> float:
    return math.log(accuracy * _OTHERS / (1.0 - accuracy))
