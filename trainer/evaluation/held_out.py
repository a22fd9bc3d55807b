"""Agreement of a model with people on held-out pairs: both modes, thoughts, and the scale that is fitted on them.

    judged = judge_pairs(model, reader, pairs, accelerator, precision, max_tokens=400)
    judged.report(), judged.calibration()

Several processes share the pairs by a queue, in batches that don't depend on their number, so it changes no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import gather_object

from descore.answer import DIMENSIONS, AnswerError, parse_strict, parse_tolerant
from descore.calibration import Calibration, ModeCalibration, carried_over, fit_mode, reward_std
from descore.checkpoints.folder import load_checkpoint
from descore.encode import Row, collate, pad_token_id
from descore.familiarity import Familiarity, fit_familiarity
from descore.metrics import preference_report
from descore.modeling.prefill_pieces import takes_pieces, video_features
from storage.data_home import data_home
from trainer.data.frames import BadPairError, PairReader
from trainer.data.load_pairs import load_pairs, split_of_store
from trainer.data.pairs import expected_cost
from trainer.engine.precision import Precision
from trainer.paradigm import Paradigm
from trainer.sharing.accelerator import make_accelerator
from trainer.sharing.work_queue import WorkQueue, from_main, longest_first
from trainer.stages.baselines import overall_score

if TYPE_CHECKING:
    from accelerate import Accelerator

    from descore.checkpoints.manifest import Manifest
    from descore.modeling.model import DeScoreModel
    from trainer.config import DataConfig
    from trainer.data.pairs import TrainingPair
    from trainer.data.vision_features import VisionFeatures

OnProgress = Callable[[int, int], None]  # called with what is done and how much there is to do
# Pairs with a preference from which a scale is fitted. Drawn from a Bradley-Terry model, 10 pairs give a temperature that is
# typically off by a factor of 1.2 to 2.3 and in one case of ten by 1.9 to 3.5, since often none of them is wrong and nothing
# but their number bounds it; 30 give 1.3 to 1.6, and 1.6 to 2.4: about what carrying over may be off by.
LEAST_CALIBRATION_PAIRS = 30
# Pairs from which a parent's scale is stretched: of the spreads of two checkpoints on the same 8 videos the ratio is within
# about a quarter, as far as carrying over goes wrong itself.
LEAST_CARRIED_PAIRS = 4
AS_STORED = Precision("cpu", half=False)  # no autocast on any device: as a served checkpoint computes


class JudgingStoppedError(Exception):
    """The caller wanted no more pairs; raised on all processes."""


@dataclass(frozen=True)
class ParentScale:
    """The scale of the checkpoint that a run started from.

    Attributes:
        name: of the checkpoint.
        calibration: its own.
        stds: mode -> standard deviation of its rewards on the pairs that its child is judged on.
    """

    name: str
    calibration: Calibration
    stds: Mapping[str, float]

    def carried_over(self, mode: str, rewards: np.ndarray) -> ModeCalibration | None:
        """Return the scale of a mode as its child takes it over, with rewards of the child on the same videos.

        None where there is no scale, or it is not known how much the rewards were stretched.
        """
        scale, std = self.calibration.for_mode(mode), self.stds.get(mode)
        return None if scale is None or std is None else carried_over(scale, self.name, std, rewards)


@dataclass(frozen=True)
class JudgedPair:
    """One judged pair.

    Attributes:
        label: +1, -1, or 0 for a tie.
        think: rewards of A and B after a thought.
        quick: rewards of A and B without one.
        thoughts: of A and B.
        sub_scores: those that people gave.
        features: mean vision features of A and B, (2, d); None where the backbone does not give them apart.
        prompt: of the pair.
    """

    identity: str
    label: int
    think: tuple[float, float]
    quick: tuple[float, float]
    thoughts: tuple[str, str]
    sub_scores: tuple[dict[str, str], dict[str, str]]
    features: np.ndarray | None = field(default=None, compare=False)
    prompt: str = ""


@dataclass(frozen=True)
class JudgedPairs:
    """Judged pairs, by identity.

    Attributes:
        paradigm: decides what counts as the score of a video.
        problems: pairs that can't be read.
    """

    pairs: tuple[JudgedPair, ...]
    paradigm: Paradigm
    problems: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """Report agreement with people, and format and sub-scores of the thoughts; empty without pairs.

        The figures of the paradigm's own score stand at the top; `quick` beneath, where both exist. `reward_std` is the
        standard deviation of all rewards by mode: a child that has too few pairs stretches this checkpoint's scale by it.
        """
        if not self.pairs:
            return {}
        spread = {"reward_std": {mode: reward_std(self.rewards(mode)) for mode in self.reward_modes}}
        if self.paradigm == "discriminative":
            return self._agreement("quick") | spread
        report = self._agreement("think") | self._thought_figures()
        return report if self.paradigm == "generative" else report | spread | {"quick": self._agreement("quick")}

    def calibration(self, parent: ParentScale | None = None) -> Calibration:
        """Fit the scale of the rewards of each mode or, with few pairs that have a preference, carry over the parent's.

        A mode is missing where the pairs are too few for both, or the parent has no scale for it either.
        """
        if not self.pairs:
            return Calibration({})
        decided = sum(pair.label != 0 for pair in self.pairs)
        scales = {}
        for mode in self.reward_modes:
            a, b, labels = self.scores(mode)
            if not (a != b).any():
                continue
            if decided >= LEAST_CALIBRATION_PAIRS:
                scales[mode] = fit_mode(a, b, labels, self.rewards(mode))
            elif parent is not None and len(self.pairs) >= LEAST_CARRIED_PAIRS:
                scale = parent.carried_over(mode, self.rewards(mode))
                scales |= {} if scale is None else {mode: scale}
        return Calibration(scales)

    @property
    def reward_modes(self) -> tuple[str, ...]:
        """Modes in which the paradigm gives rewards."""
        return {"generative": (), "discriminative": ("quick",)}.get(self.paradigm, ("think", "quick"))

    def rewards(self, mode: str) -> np.ndarray:
        """Rewards of all videos, (2n,)."""
        a, b, _ = self.scores(mode)
        return np.concatenate([a, b])

    def familiarity(self, parent: Familiarity | None = None) -> Familiarity | None:
        """Take the videos of these pairs for those that the checkpoint knows; None where they are too few.

        Args:
            parent: what the checkpoint knew before, where its vision tower and frames are the same.
        """
        known = [pair for pair in self.pairs if pair.features is not None]
        if not known:
            return parent
        features = np.concatenate([pair.features for pair in known if pair.features is not None])
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(pair.prompt for pair in known))}
        groups = np.repeat([numbers[pair.prompt] for pair in known], 2)
        return fit_familiarity(features, groups) if parent is None else parent.joined(features, groups)

    @property
    def mode(self) -> str:
        """Mode whose score is the paradigm's own."""
        return "quick" if self.paradigm == "discriminative" else "think"

    def scores(self, mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores of A, of B, and the labels, (n,) each; the generative paradigm has scores that its thoughts end in."""
        if self.paradigm == "generative":
            scores = np.array([_generated(pair.thoughts) for pair in self.pairs])
        else:
            scores = np.array([pair.think if mode == "think" else pair.quick for pair in self.pairs])
        return scores[:, 0], scores[:, 1], np.array([pair.label for pair in self.pairs])

    def _agreement(self, mode: str) -> dict[str, Any]:
        return preference_report(*self.scores(mode)).to_dict()

    def _thought_figures(self) -> dict[str, Any]:
        """Shares of thoughts in strict format, and of known sub-scores that are right."""
        thoughts = [item for pair in self.pairs for item in zip(pair.thoughts, pair.sub_scores, strict=True)]
        right = [value for text, sub_scores in thoughts for value in _right(text, sub_scores)]
        return {
            "strict_format": sum(is_strict(text) for text, _ in thoughts) / len(thoughts),
            "sub_score_exact_match": sum(right) / len(right) if right else None,
        }


def judge_pairs(
    model: DeScoreModel,
    reader: PairReader,
    pairs: Sequence[TrainingPair],
    accelerator: Accelerator,
    precision: Precision,
    *,
    max_tokens: int,
    paradigm: Paradigm = "think-then-score",
    vision: VisionFeatures | None = None,
    pairs_at_once: int = 4,
    on_progress: OnProgress = lambda *_: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> JudgedPairs:
    """Judge pairs greedily in both modes; pairs that can't be read are left out and named.

    Args:
        max_tokens: the limit of a thought; the discriminative paradigm thinks none.
        vision: kept features of a frozen tower.
        on_progress: called with the number of pairs that are done (judged or left out) by all processes, and of all pairs.
        is_stopped: asked after each batch on every process; True on one of them ends the judging on all.

    Raises:
        JudgingStoppedError: `is_stopped` ended it.
        trainer.sharing.shared_store.OtherProcessFailedError: another process failed.
    """
    order = from_main(accelerator, lambda: longest_first([expected_cost(pair) for pair in pairs]))
    batches = [
        [pairs[index] for index in order[first : first + pairs_at_once]] for first in range(0, len(order), pairs_at_once)
    ]
    sizes = [len(batch) for batch in batches]
    problems: list[str] = []
    was_training = model.training
    model.eval()
    judged: list[JudgedPair] = []
    try:
        with WorkQueue(range(len(batches), 0, -1), accelerator, sizes, on_progress) as queue:
            for index in queue:
                # Rows hold every pixel of a video, so no more of them exist at a time than are judged together.
                read = [(pair, _rows(reader, pair, problems)) for pair in batches[index]]
                readable = [(pair, rows) for pair, rows in read if rows is not None]
                with precision.sampling():
                    judged += _judge(model, readable, 0 if paradigm == "discriminative" else max_tokens, vision)
                if is_stopped():
                    queue.close()
    finally:
        model.train(was_training)
    if not queue.complete:
        raise JudgingStoppedError
    everything = sorted(gather_object(judged), key=lambda pair: pair.identity)
    return JudgedPairs(tuple(everything), paradigm, tuple(sorted(gather_object(problems))))


def evaluate_held_out(checkpoint: str, settings: DataConfig, home: Path | None = None) -> dict[str, Any]:
    """Measure how well a checkpoint agrees with the held-out pairs of the store or of a table.

    Args:
        home: the data folder of the store and of kept frames; by default the user's.

    Raises:
        descore.errors.CheckpointError, storage.StorageError: checkpoint or pairs can't be read.
        ValueError: no pair is held out.
    """
    pairs = load_pairs(split_of_store(settings, home), home)
    if not pairs.held_out:
        raise ValueError("there are no held-out pairs: label more pairs, or give a table with --csv")
    model, manifest = load_as_served(checkpoint)
    model.require_scoring()
    frames = (home or data_home()) / "training-cache" / "frames" if settings.frame_cache else None
    reader = PairReader(model.processor, manifest.frame_policy, manifest.prompt_version, frames)
    accelerator = make_accelerator()
    judged = judge_pairs(
        model,
        reader,
        pairs.held_out,
        accelerator,
        AS_STORED,
        max_tokens=manifest.max_thought_tokens,
        paradigm=manifest.lineage.get("paradigm", "think-then-score"),
    )
    reader.close()
    return {
        "checkpoint": manifest.name,
        "split": "held-out",
        **judged.report(),
        "problems": [*pairs.problems, *judged.problems],
    }


def load_as_served(checkpoint: str) -> tuple[DeScoreModel, Manifest]:
    """Load a checkpoint in the numbers that it serves in, its adapter merged; judge with `AS_STORED`.

    Raises:
        descore.errors.CheckpointError: it can't be loaded.
    """
    model, manifest = load_checkpoint(checkpoint)
    model.merge_adapter()
    return model, manifest


def _judge(
    model: DeScoreModel,
    batch: Sequence[tuple[TrainingPair, tuple[Row, Row]]],
    max_tokens: int,
    vision: VisionFeatures | None,
) -> list[JudgedPair]:
    """Rewards without and with a thought, and the thoughts; one prefill for all."""
    if not batch:
        return []
    rows = [row for _, both in batch for row in both]
    with torch.inference_mode():
        inputs = collate(rows, pad_token_id(model.processor))
        features = None if vision is None else vision.of(rows)
        if features is None and takes_pieces(model.backbone, inputs):
            features = video_features(model.backbone, inputs)
        state = model.prefill(inputs, features)
        quick = model.score(state).tolist()
        for _ in model.think(state, max_tokens):
            pass
        think = model.score(state).tolist() if max_tokens else quick
    texts = model.processor.tokenizer.batch_decode(state.thoughts, skip_special_tokens=False)
    sides = [slice(2 * index, 2 * index + 2) for index in range(len(batch))]
    means = None if state.vision is None else state.vision.numpy()
    return [
        _judged(pair, think[side], quick[side], texts[side], None if means is None else means[side])
        for (pair, _), side in zip(batch, sides, strict=True)
    ]


def _rows(reader: PairReader, pair: TrainingPair, problems: list[str]) -> tuple[Row, Row] | None:
    try:
        return reader.rows(pair)
    except BadPairError as error:
        problems.append(str(error))
        return None


def _judged(
    pair: TrainingPair,
    think: Sequence[float],
    quick: Sequence[float],
    texts: Sequence[str],
    features: np.ndarray | None,
) -> JudgedPair:
    return JudgedPair(
        identity=pair.identity,
        label=pair.label,
        think=(think[0], think[1]),
        quick=(quick[0], quick[1]),
        thoughts=(texts[0], texts[1]),
        sub_scores=(dict(pair.sub_scores[0]), dict(pair.sub_scores[1])),
        features=features,
        prompt=pair.prompt,
    )


def _generated(texts: tuple[str, str]) -> tuple[float, float]:
    """Read the generated scores of A and B; equal, so a tie, where one of them can't be read."""
    a, b = (overall_score(text) for text in texts)
    return (0.0, 0.0) if a is None or b is None else (a, b)


def is_strict(text: str) -> bool:
    """Whether a thought keeps the strict format."""
    try:
        parse_strict(text)
    except AnswerError:
        return False
    return True


def _right(text: str, sub_scores: dict[str, str]) -> list[bool]:
    try:
        answer = parse_tolerant(text).sub_scores
    except AnswerError:
        answer = {}
    return [answer.get(name) == sub_scores[name] for name in DIMENSIONS if name in sub_scores]
