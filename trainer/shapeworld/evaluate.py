"""Evaluation of a checkpoint on a split of ShapeWorld, whose clips are encoded and decoded like any user's files.

evaluation = evaluate(DeScore.from_pretrained("bundled"), "test", count=2)      # 400 for figures that tell
evaluation.to_dict()["accuracy_without_ties"]

Several processes share the videos by a queue, and each of them gets the whole evaluation.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from descore.answer import DIMENSIONS
from descore.judgement import Judgement, Mode
from descore.metrics import PreferenceReport, bootstrap_mean, preference_report, wilson_interval
from trainer.shapeworld.pairs import ShapePair, shape_pairs
from trainer.shapeworld.scene import SIGN
from trainer.shapeworld.write_dataset import clip_names, write_split
from trainer.sharing.accelerator import make_accelerator
from trainer.sharing.work_queue import WorkQueue, from_main

if TYPE_CHECKING:
    from accelerate import Accelerator

    from descore.judge import DeScore

_VIDEOS_AT_ONCE = 64
_COSTS: dict[Mode, float] = {"think": 10.0, "quick": 1.0}  # of a video, compared with each other


@dataclass(frozen=True)
class ModeResult:
    """Result of one mode on a split of n pairs.

    Attributes:
        mode: the mode of judging.
        rewards_a: (n,) raw rewards of the videos A.
        rewards_b: (n,) raw rewards of the videos B.
        labels: (n,) exact preferences, +1 A, -1 B, 0 tie.
        judgements: of the videos, in the order A, B, A, B, ...
        preference: agreement of rewards and labels.
    """

    mode: Mode
    rewards_a: np.ndarray
    rewards_b: np.ndarray
    labels: np.ndarray
    judgements: tuple[Judgement, ...]
    preference: PreferenceReport


@dataclass(frozen=True)
class Evaluation:
    """Results of a checkpoint on a split.

    Attributes:
        checkpoint: its name.
        split: its name.
        pairs: the judged pairs, with their exact truth.
        results: by mode.
        seconds: the judging took, on the main process.
    """

    checkpoint: str
    split: str
    pairs: tuple[ShapePair, ...]
    results: dict[str, ModeResult]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON values; those of `think` stand at the top, `quick` beneath."""
        report: dict[str, Any] = {"checkpoint": self.checkpoint, "split": self.split}
        for mode, result in self.results.items():
            figures = result.preference.to_dict()
            if mode == "think":
                report |= figures | self.thought_figures(result)
            else:
                report[mode] = figures
        return report | {"seconds": round(self.seconds, 1)}

    def thought_figures(self, result: ModeResult) -> dict[str, Any]:
        """Return the share of thoughts in strict format, and of sub-scores that equal the truth, in all and by dimension.

        Intervals at 95 %: Wilson's for the format, the bootstrap over pairs for the sub-scores, since the ten of one pair
        are not independent.
        """
        strict, exact = sum(judgement.strict_format for judgement in result.judgements), self.exact(result)
        return {
            "strict_format": strict / len(exact),
            "strict_format_interval": list(wilson_interval(strict, len(exact))),
            "sub_score_exact_match": float(exact.mean()),
            "sub_score_exact_match_interval": list(bootstrap_mean(exact.reshape(len(self.pairs), -1).mean(axis=1))),
            "sub_score_exact_match_by_dimension": dict(zip(DIMENSIONS, exact.mean(axis=0).tolist(), strict=True)),
        }

    def exact(self, result: ModeResult) -> np.ndarray:
        """Return (videos, dimensions), 1.0 where a sub-score equals the truth; two videos a pair."""
        truth = [scores for pair in self.pairs for scores in pair.scores]
        right = [
            [(judgement.sub_scores or {}).get(name) == scores[name] for name in DIMENSIONS]
            for judgement, scores in zip(result.judgements, truth, strict=True)
        ]
        return np.array(right, dtype=float)


def evaluate(
    judge: DeScore,
    split: str,
    count: int = 400,
    modes: Sequence[Mode] = ("think", "quick"),
    folder: Path | None = None,
    workers: int = 2,
) -> Evaluation:
    """Judge the first `count` pairs of a split.

    Args:
        folder: keeps the split's clips; a temporary folder by default.
        workers: processes that draw.

    Raises:
        ValueError: an unknown split.
        descore.errors.RewardError: the checkpoint has no trained scoring module.
    """
    accelerator = make_accelerator()
    with _shared_folder(accelerator, folder) as clips:
        if accelerator.is_local_main_process:
            write_split(split, count, clips, workers=workers)
        accelerator.wait_for_everyone()
        began = time.monotonic()
        pairs = tuple(shape_pairs(split, count))
        judgements = _judge_all(judge, pairs, modes, clips, accelerator)
    results: dict[str, ModeResult] = {mode: _result(judge, pairs, mode, judgements[mode]) for mode in modes}
    return Evaluation(judge.name, split, pairs, results, time.monotonic() - began)


@contextmanager
def _shared_folder(accelerator: Accelerator, folder: Path | None) -> Iterator[Path]:
    """Give the folder that was named, or a temporary one of the same name on each machine."""
    if folder is not None:
        yield folder
        return
    clips = Path(from_main(accelerator, lambda: tempfile.mkdtemp(prefix="shapeworld-")))
    try:
        yield clips
    finally:
        if accelerator.is_local_main_process:
            shutil.rmtree(clips, ignore_errors=True)


def _judge_all(
    judge: DeScore, pairs: Sequence[ShapePair], modes: Sequence[Mode], folder: Path, accelerator: Accelerator
) -> dict[Mode, tuple[Judgement, ...]]:
    """Judge all videos in all modes; the batches are the same whatever the number of processes."""
    paths = [folder / name for pair in pairs for name in clip_names(pair)]
    prompts = [pair.prompt for pair in pairs for _ in range(2)]
    parts = [slice(first, min(first + _VIDEOS_AT_ONCE, len(paths))) for first in range(0, len(paths), _VIDEOS_AT_ONCE)]
    work = [(mode, part) for mode in modes for part in parts]
    sizes = [part.stop - part.start for _, part in work]
    costs = [_COSTS.get(mode, 1.0) * size for (mode, _), size in zip(work, sizes, strict=True)]
    own: list[tuple[int, list[Judgement]]] = []
    with (
        tqdm(total=sum(sizes), desc="judge", mininterval=5, disable=not accelerator.is_main_process) as bar,
        WorkQueue(costs, accelerator, sizes, lambda done, _: _show(bar, done)) as queue,
    ):
        for index in queue:
            mode, part = work[index]
            own.append((index, judge.score(paths[part], prompts[part], mode, batch_size=_VIDEOS_AT_ONCE)))
    judged = queue.gathered(own)
    return {
        mode: tuple(each for (of, _), rows in zip(work, judged, strict=True) if of == mode for each in rows)
        for mode in modes
    }


def _show(bar: Any, done: int) -> None:
    bar.update(done - bar.n)


def _result(judge: DeScore, pairs: Sequence[ShapePair], mode: Mode, judgements: tuple[Judgement, ...]) -> ModeResult:
    rewards = np.array([judgement.reward for judgement in judgements], dtype=np.float64).reshape(-1, 2)
    labels = np.array([SIGN[pair.label] for pair in pairs])
    fitted = judge.manifest.calibration.for_mode(mode)
    report = preference_report(
        rewards[:, 0], rewards[:, 1], labels, fitted_eps=None if fitted is None else fitted.tie_threshold
    )
    return ModeResult(mode, rewards[:, 0], rewards[:, 1], labels, judgements, report)
