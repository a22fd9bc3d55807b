"""Pieces of a training run on a tiny random Qwen3-VL: pairs with kept frames, settings, stages, and a whole small run.

pairs = tiny_pairs(4)
stage = tiny_stage("cold-start", tiny_config(), pairs, folder, Accelerator())
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from peft import LoraConfig

from descore.answer import render_answer
from descore.modeling.lora import add_adapter
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_processor
from trainer.config import ColdStartConfig, DualRLConfig, ModelConfig, OptimConfig, TrainConfig
from trainer.data.frames import FrameCache, PairReader
from trainer.data.loader import PairLoader
from trainer.data.pairs import TrainingPair
from trainer.engine.loop import RunResult, train
from trainer.engine.precision import Precision
from trainer.engine.stop_signals import StopSignals
from trainer.engine.trainable import set_trainable
from trainer.objectives.dual_objective_config import DualObjectiveConfig
from trainer.objectives.rollout_reward import RolloutRewardConfig
from trainer.stages.baselines import GenerativeStage
from trainer.stages.cold_start import ColdStartStage
from trainer.stages.dual_rl import RLStage

if TYPE_CHECKING:
    from trainer.engine.memory import Guard
    from trainer.paradigm import StageName

TRUTH = {"subject": "2", "dynamics": "1", "camera": "0", "environment": "N/A", "style": "2"}
OPTIM = OptimConfig(lr=1e-3, scoring_lr=1e-2)


def tiny_pairs(count: int) -> list[TrainingPair]:
    """Make pairs of made-up videos: their frames come from the cache that `tiny_reader` fills."""
    pairs = []
    for index in range(count):
        contents = [hashlib.sha256(f"{index}{side}".encode()).hexdigest() for side in "AB"]
        thoughts = tuple(render_answer(f"I see {index} {side}.", TRUTH, 3.5) for side in "AB")
        pairs.append(
            TrainingPair(
                identity=f"pair-{index}",
                videos=(Path(f"{index}A.mp4"), Path(f"{index}B.mp4")),
                contents=(contents[0], contents[1]),
                prompt=f"prompt {index}",
                label=1 - 2 * (index % 2),
                thoughts=(thoughts[0], thoughts[1]),
                sub_scores=(TRUTH, {"subject": "1"}),
            )
        )
    return pairs


def tiny_reader(pairs: Sequence[TrainingPair], folder: Path) -> PairReader:
    """Make a real reader whose frame cache holds the pairs' videos; other videos can't be read."""
    cache = FrameCache(folder, POLICY)
    for seed, content in enumerate(content for pair in pairs for content in pair.contents):
        cache.put(content, tiny_clip(seed))
    return PairReader(tiny_processor(), POLICY, "compact-1", folder)


def tiny_config(**changes: object) -> TrainConfig:
    """Make settings of four pairs a step, in one micro-batch, two steps a stage."""
    objective = DualObjectiveConfig(num_generations=2, max_tokens=6, reward=RolloutRewardConfig(length_low=1, length_high=6))
    config = TrainConfig(
        preset="tiny",
        model=ModelConfig(precision="fp32"),
        cold_start=ColdStartConfig(steps=2, pairs_per_step=4, micro_batch_pairs=4, anchor_weight=0.1, optim=OPTIM),
        dual_rl=DualRLConfig(steps=2, pairs_per_step=4, micro_batch_pairs=4, objective=objective, optim=OPTIM),
        save_every=1,
        anchors=0,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


def tiny_model(lora: bool = False) -> DeScoreModel:
    """Make a random model; its adapter, if it has one, has much dropout."""
    torch.manual_seed(3)
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    backbone = tiny_backbone(1)
    if lora:
        targets = r".*language_model.*_proj"
        add_adapter(backbone, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.3, target_modules=targets))
    return DeScoreModel(backbone, tiny_processor(), scoring).eval()


def tiny_stage(
    name: StageName,
    config: TrainConfig,
    pairs: Sequence[TrainingPair],
    folder: Path,
    accelerator: Accelerator,
    lora: bool = False,
) -> ColdStartStage | RLStage:
    """Make a stage with a fresh model whose weights are ready to train."""
    model = tiny_model(lora)
    set_trainable(model, config, name)
    settings = config.cold_start if name == "cold-start" else config.dual_rl
    sizes = {"pairs_per_step": settings.pairs_per_step, "micro_batch_pairs": settings.micro_batch_pairs}
    data: PairLoader = PairLoader(pairs, tiny_reader(pairs, folder), accelerator, **sizes, seed=config.seed)
    precision = Precision.of(config.model.precision, accelerator.device)
    if name == "cold-start":
        return ColdStartStage(model, config.cold_start, data, accelerator, precision, seed=config.seed)
    kind = GenerativeStage if config.paradigm == "generative" else RLStage
    return kind(model, config.dual_rl, data, accelerator, precision, seed=config.seed)


def tiny_run(
    name: StageName,
    config: TrainConfig,
    pairs: Sequence[TrainingPair],
    folder: Path,
    lora: bool = False,
    stop_after: int | None = None,
) -> tuple[RunResult, dict[str, torch.Tensor]]:
    """Train one stage in `folder`; the result and all weights. stop_after: the step in which SIGTERM comes."""
    accelerator = Accelerator(cpu=True)
    stage = tiny_stage(name, config, pairs, folder / "frames", accelerator, lora)
    (folder / "run").mkdir(parents=True, exist_ok=True)
    stop = StopSignals()
    prepare = stage.prepare

    def prepare_and_stop(step: int, together: Guard):
        if step == stop_after:
            stop.note(15)
        return prepare(step, together)

    stage.prepare = prepare_and_stop  # type: ignore[method-assign]
    result = train(stage, config, folder / "run", accelerator, stop)
    accelerator.free_memory()
    return result, {key: value.detach().clone() for key, value in stage.model.state_dict().items()}


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Over all weights."""
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)
