"""Stage 2 for the bundled checkpoint: `python -m trainer`'s own dual-objective RL, on pairs that are hard for it.

    chosen = hard_pairs(judge, recipe, work)                 # pairs of split train that the cold-started model errs on
    trained = train(parent_folder, chosen, recipe, work)     # trainer.runs.pipeline.run(["dual-rl"], ...) on their mp4 files

Which pairs. GRPO learns from the differences within a video's group of rollouts, and after its pretraining the backbone is
right about most training pairs in every one of 8 samples: such groups have no spread and give no advantage. So pairs that
pretraining never saw (behind its last index) are screened with one sampled thought a video, temperature 1, from frames
drawn directly; a pair with a wrong or unreadable sub-score stays. Each is met once. The exact sub-scores that the rollout
reward reads come from the table beside the mp4 files, as those of any labelled pair would.

R_len. A thought of this world has as many words as its prompt asks for things, 89 to 143 tokens in samples. With the bounds
on that range, length alone would spread otherwise equal groups, and dividing by the group's standard deviation blows the
smallest spread up to a full advantage. The upper bound lies below, so R_len costs only a thought that collapses.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from descore.answer import read_thoughts
from descore.judge import DeScore
from storage.training.run_folder import CHECKPOINT
from trainer.config import ColdStartConfig, DataConfig, DualRLConfig, ModelConfig, OptimConfig, TrainConfig
from trainer.objectives.dual_objective import DualObjectiveConfig
from trainer.objectives.rollout_reward import RolloutRewardConfig
from trainer.runs.pipeline import run
from trainer.shapeworld.pairs import ShapePair, shape_pair
from trainer.shapeworld.recipe.batches import Batcher
from trainer.shapeworld.recipe.cold_start import collect_thoughts
from trainer.shapeworld.recipe.rendered_clips import clip_pool
from trainer.shapeworld.write_dataset import write_pairs

log = logging.getLogger(__name__)

STAGE = "dual-rl"
_OPTIM = OptimConfig(lr=2e-4, scoring_lr=2e-4, weight_decay=0.01, optimizer="muon", schedule="linear")


def _settings() -> DualRLConfig:
    return DualRLConfig(
        steps=80,
        pairs_per_step=8,
        micro_batch_pairs=8,
        max_prompt_tokens=320,
        optim=_OPTIM,
        objective=DualObjectiveConfig(
            num_generations=8,
            max_tokens=200,
            reward=RolloutRewardConfig(length_low=44, length_high=88),
        ),
    )


@dataclass(frozen=True)
class DualRLRecipe:
    """Settings of the stage. screened_pairs: from index `first_pair` of split train on, behind those of pretraining.

    held_out_share: of the chosen pairs, for agreement before and after, and for the anchors of the drift.
    """

    first_pair: int = 14_000
    screened_pairs: int = 2_750
    held_out_share: float = 0.05
    anchors: int = 32
    seed: int = 0
    settings: DualRLConfig = field(default_factory=_settings)


def hard_pairs(judge: DeScore, recipe: DualRLRecipe, work: Path, workers: int = 2) -> list[ShapePair]:
    """The screened pairs about which the model errs: in one sampled thought a video, at least one sub-score is not exact."""
    first, count = recipe.first_pair, recipe.screened_pairs
    clips = clip_pool("train", count, work / "clips", workers, first)
    kept = work / f"screening-{first}.jsonl"
    limit = judge.manifest.max_thought_tokens
    thoughts = collect_thoughts(judge.model, Batcher(judge.model.processor), clips, count, kept, limit, first)
    chosen = [known for known, both in zip(_from(first, count), thoughts, strict=True) if _errs(known, both)]
    log.info("%d of %d screened pairs are hard", len(chosen), count)
    return chosen


def train(parent: str, chosen: Sequence[ShapePair], recipe: DualRLRecipe, work: Path, workers: int = 2) -> Path:
    """Train from the checkpoint `parent`; returns the run's stage folder, with its checkpoint, report and log.

    Raises:
        SystemExit: a signal ended the run at a step boundary, with the exit code that it asks for.
    """
    table = write_pairs(chosen, work / "mp4" / "train-hard", workers)
    code = run(["dual-rl"], run_config(parent, table, recipe), work / STAGE, home=work / "home")
    if code:
        raise SystemExit(code)
    return work / STAGE / STAGE


def trained_judge(stage_folder: Path) -> DeScore:
    """The checkpoint that the run ended with."""
    return DeScore.from_pretrained(stage_folder / CHECKPOINT)


def run_config(parent: str, table: Path, recipe: DualRLRecipe) -> TrainConfig:
    """The run's settings, as `python -m trainer` would read them from YAML."""
    return TrainConfig(
        preset="bundled",
        cold_start=ColdStartConfig(steps=0, pairs_per_step=1, micro_batch_pairs=1, optim=_OPTIM),
        dual_rl=recipe.settings,
        seed=recipe.seed,
        model=ModelConfig(checkpoint=parent),
        data=DataConfig(csv=str(table), held_out_share=recipe.held_out_share),
        save_every=10,
        anchors=recipe.anchors,
    )


def _from(first: int, count: int) -> list[ShapePair]:
    return [shape_pair("train", index) for index in range(first, first + count)]


def _errs(known: ShapePair, thoughts: tuple[str, str]) -> bool:
    return any(read_thoughts([text]).sub_scores != scores for text, scores in zip(thoughts, known.scores, strict=True))
