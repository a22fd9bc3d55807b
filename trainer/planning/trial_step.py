"""A short trial of a preset on a small checkpoint: seconds of a step on this machine, measured on pairs of ShapeWorld.

    trial(config, "bundled", seconds=60).seconds_per_step["dual-rl"]

A stage's own code computes a micro-batch of one pair and one of two, rendered in memory; the time of a larger one follows
from the two. No weight is changed.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from descore.video import VideoClip
from trainer.data.frames import FrameCache, PairReader
from trainer.data.loader import PairLoader
from trainer.data.pairs import TrainingPair
from trainer.engine.precision import Precision
from trainer.engine.trainable import TrainableModel, load_for_training, set_trainable
from trainer.paradigm import STAGES, StageName
from trainer.rollouts.sampling import sample
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.render import frame_times, render
from trainer.shapeworld.scene import SIGN, Scene
from trainer.sharing.accelerator import make_accelerator
from trainer.stages.cold_start import ColdStartStage
from trainer.stages.dual_rl import RLStage

if TYPE_CHECKING:
    from accelerate import Accelerator

    from trainer.config import TrainConfig

_PAIRS = 2


@dataclass(frozen=True)
class Trial:
    """Measured times.

    Attributes:
        seconds_per_step: by stage; without the stages that there was no time for.
        seconds_per_pair: of judging a pair in a batch.
    """

    seconds_per_step: dict[StageName, float]
    seconds_per_pair: float


def trial(config: TrainConfig, checkpoint: str, seconds: float) -> Trial:
    """Measure for about `seconds`, loading not counted.

    Raises:
        descore.errors.CheckpointError, ValueError: the checkpoint can't be trained with these settings.
    """
    accelerator, began = make_accelerator(), time.monotonic()
    trained = load_for_training(config, accelerator.device, checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        pairs = _pairs(trained, Path(folder))
        policy, prompt = trained.manifest.frame_policy, trained.manifest.prompt_version
        reader = PairReader(trained.model.processor, policy, prompt, Path(folder))
        seconds_per_step: dict[StageName, float] = {}
        judging = _judging(trained, reader, pairs)
        for name in STAGES:
            settings = config.cold_start if name == "cold-start" else config.dual_rl
            if not settings.steps or time.monotonic() - began > seconds:
                continue
            set_trainable(trained.model, config, name)
            one = _micro_batch_seconds(name, config, trained, reader, pairs[:1], accelerator)
            if time.monotonic() - began > seconds:
                continue
            two = _micro_batch_seconds(name, config, trained, reader, pairs, accelerator)
            whole = one + max(two - one, 0.0) * (settings.micro_batch_pairs - 1)
            seconds_per_step[name] = whole * settings.pairs_per_step / settings.micro_batch_pairs
        reader.close()
    return Trial(seconds_per_step, judging)


def _pairs(trained: TrainableModel, folder: Path) -> list[TrainingPair]:
    """Pairs whose frames lie in the cache of `folder`."""
    cache, pairs = FrameCache(folder, trained.manifest.frame_policy), []
    for shape_pair in shape_pairs("train", _PAIRS):
        contents = []
        for scene, side in zip(shape_pair.scenes, "AB", strict=True):
            contents.append(sha256(f"{shape_pair.identity}{side}".encode()).hexdigest())
            cache.put(contents[-1], _clip(scene, trained))
        pairs.append(
            TrainingPair(
                identity=shape_pair.identity,
                videos=(folder / "A.mp4", folder / "B.mp4"),
                contents=(contents[0], contents[1]),
                prompt=shape_pair.prompt,
                label=SIGN[shape_pair.label] or 1,
                thoughts=shape_pair.thoughts,
                sub_scores=shape_pair.scores,
            )
        )
    return pairs


def _clip(scene: Scene, trained: TrainableModel) -> VideoClip:
    """Render the frames that the policy takes of a scene."""
    times = frame_times(scene)
    duration = len(times) / scene.rendering.fps
    indices = trained.manifest.frame_policy.constant_rate_indices(len(times), scene.rendering.fps)
    sampled = times[indices]
    return VideoClip(render(scene, sampled), sampled, duration, "pyav")


def _judging(trained: TrainableModel, reader: PairReader, pairs: list[TrainingPair]) -> float:
    """Seconds for one pair of a batch; the first model call, which warms up, is not counted."""
    rows = [row for pair in pairs for row in reader.rows(pair)]
    seeds = [str(index) for index in range(len(rows))]
    limit = trained.manifest.max_thought_tokens
    with torch.inference_mode():
        sample(trained.model, rows, seeds, num_generations=1, max_tokens=min(limit, 4))
        began = time.monotonic()
        sample(trained.model, rows, seeds, num_generations=1, max_tokens=limit)
    return (time.monotonic() - began) / len(pairs)


def _micro_batch_seconds(
    name: StageName,
    config: TrainConfig,
    trained: TrainableModel,
    reader: PairReader,
    pairs: list[TrainingPair],
    accelerator: Accelerator,
) -> float:
    """Seconds of a step that is one micro-batch of these pairs, without the update of the weights."""
    count, precision = len(pairs), Precision.of(config.model.precision, accelerator.device)
    data: PairLoader[Any] = PairLoader(
        pairs, reader, accelerator, pairs_per_step=count, micro_batch_pairs=count, seed=config.seed
    )
    stage: ColdStartStage | RLStage
    if name == "cold-start":
        settings = replace(config.cold_start, mask_probability=0.0)
        stage = ColdStartStage(trained.model, settings, data, accelerator, precision, seed=config.seed)
    else:
        stage = RLStage(trained.model, config.dual_rl, data, accelerator, precision, seed=config.seed)
    began = time.monotonic()
    stage.objective.train()
    for work in stage.prepare(0).micro_batches:
        with precision.step():
            stage.backward(work)
    trained.model.zero_grad(set_to_none=True)
    return time.monotonic() - began
