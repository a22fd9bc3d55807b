"""What the examples of `trainer` take as given."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator

from descore.answer import render_answer
from descore.calibration import Calibration, fit_mode
from descore.checkpoints.folder import folder_fingerprint
from descore.encode import collate, pad_token_id
from tests.helpers.example_world.base import ExampleWorld
from tests.helpers.store_world import SETTINGS
from tests.helpers.teacher_server import Answer, teacher_server
from tests.helpers.tiny import tiny_clip, tiny_judge
from tests.helpers.tiny_runs import TRUTH, tiny_pairs, tiny_reader, tiny_stage
from trainer.config import TrainConfig, load_preset
from trainer.config_tree import to_mapping
from trainer.data.load_pairs import load_pairs
from trainer.engine.precision import Precision
from trainer.engine.stop_signals import StopSignals
from trainer.engine.trainable import TrainableModel, load_for_training
from trainer.evaluation.gate import Benchmark, Candidate
from trainer.evaluation.gate_judging import GateWork, JudgedCheckpoint
from trainer.evaluation.held_out import JudgedPair, JudgedPairs, judge_pairs
from trainer.objectives.dual_objective_config import DualObjectiveConfig
from trainer.objectives.group_rewards import GroupRewards, rule_rewards
from trainer.objectives.rollout_batch import RLPair
from trainer.objectives.rollout_reward import RolloutRewardConfig
from trainer.rollouts.sampling import SampledThoughts, sample
from trainer.rollouts.shared_prefix import Rollouts, pack_rollouts
from trainer.runs.progress import Schedule, SchedulePart
from trainer.shapeworld.pairs import shape_pairs

if TYPE_CHECKING:
    from storage.training.runs import Run
    from trainer.data.frames import PairReader
    from trainer.data.pairs import LoadedPairs, TrainingPair

# One step a stage, on the pairs of one campaign.
FEWER = (
    "cold_start.steps=1",
    "dual_rl.steps=1",
    "model.precision=fp32",
    "data.campaigns=[winter models]",
    "data.held_out_share=0.4",
)
THOUGHT = render_answer("I see what was asked.", TRUTH, 3.5)


class TrainerWorld(ExampleWorld):
    """The smallest training: pairs whose frames are kept, settings of one step, a CPU."""

    step, steps = 0, 2
    device = torch.device("cpu")
    text = THOUGHT
    thoughts = (THOUGHT, THOUGHT)

    @cached_property
    def config(self) -> TrainConfig:
        checkpoint = f"model.checkpoint={self.home / 'base'}"
        return load_preset("tiny-cpu", [*SETTINGS, *FEWER, checkpoint])

    @property
    def metrics(self) -> dict[str, Any]:
        return {}

    @property
    def mapping(self) -> Any:
        return to_mapping(self.config)

    @cached_property
    def accelerator(self) -> Accelerator:
        return Accelerator(cpu=True)

    @cached_property
    def precision(self) -> Precision:
        return Precision.of("fp32", self.device)

    @cached_property
    def stop(self) -> StopSignals:
        return StopSignals()

    @cached_property
    def pairs(self) -> Any:
        return tiny_pairs(4)

    @cached_property
    def reader(self) -> PairReader:
        reader = tiny_reader(self.pairs, self._top / "frames")
        self.stack.callback(reader.close)
        return reader

    @property
    def read(self) -> Any:
        return self.reader.rows

    @cached_property
    def rows(self) -> Any:
        return list(self.reader.rows(self.pairs[0]))

    @property
    def pad(self) -> int:
        return pad_token_id(self.processor)

    @cached_property
    def stage(self) -> Any:
        return tiny_stage("cold-start", self.config, self.pairs, self._top / "frames", self.accelerator)

    @cached_property
    def loaded(self) -> LoadedPairs:
        """The labelled pairs of the store."""
        return load_pairs(self.config.data, self.home)

    @cached_property
    def run(self) -> Run:
        """A run of the store, which waits."""
        return self.store_world.ask(stages=("cold-start",))

    @property
    def on_progress(self) -> Any:
        return lambda *_: None

    @cached_property
    def calibration(self) -> Calibration:
        return Calibration({"think": fit_mode(self.rewards_a, self.rewards_b, self.labels, self.rewards_b)})

    @cached_property
    def trained(self) -> TrainableModel:
        return load_for_training(self.config, self.device)

    @property
    def schedule(self) -> Schedule:
        return Schedule([SchedulePart("cold-start", "training", "cold-start", 24)])


class FramesWorld(TrainerWorld):
    """Pairs of the store with real files."""

    @property
    def cache_folder(self) -> Path:
        return self.folder

    @property
    def pairs_of_the_next_step(self) -> tuple[TrainingPair, ...]:
        return self.loaded.train[:2]

    @property
    def pair(self) -> TrainingPair:  # type: ignore[override]
        return self.loaded.train[0]


class ThoughtWorld(TrainerWorld):
    """A pair, and a file for thoughts that isn't there yet."""

    @property
    def pair(self) -> TrainingPair:  # type: ignore[override]
        return self.pairs[0]

    @property
    def path(self) -> Path:  # type: ignore[override]
        return self.folder / "thoughts.jsonl"


class VideoWorld(TrainerWorld):
    """A video."""

    @property
    def path(self) -> Path:  # type: ignore[override]
        return self.here / "a.mp4"


class FeaturesWorld(TrainerWorld):
    """A model whose vision tower is frozen."""

    @property
    def model(self) -> Any:
        return load_for_training(self.config, self.device).model.eval().requires_grad_(False)


class RolloutWorld(TrainerWorld):
    """Prompts as rows and as a batch, and sampled thoughts."""

    seeds = ("step 0, pair 1, A", "step 0, pair 1, B")
    video = rollout = 0

    @property
    def prompts(self) -> Any:
        return collate(self.rows, self.pad)

    @cached_property
    def rollouts(self) -> Rollouts:
        thoughts = sample(self.model, self.rows, self.seeds, num_generations=2, max_tokens=6)
        return pack_rollouts(thoughts.ids, thoughts.ends, self.device)


class RewardWorld(RolloutWorld):
    """Sampled thoughts of two videos, of one of which the sub-scores are known."""

    config: Any = RolloutRewardConfig()
    truths = (TRUTH, {})

    @cached_property
    def sampled(self) -> SampledThoughts:
        return sample(self.model, self.rows, self.seeds, num_generations=2, max_tokens=6)

    @property
    def rewards(self) -> GroupRewards:
        return rule_rewards(self.sampled, self.truths, self.config)


class BatchWorld(RolloutWorld):
    """A pair ready for rollouts."""

    config: Any = DualObjectiveConfig(num_generations=2, max_tokens=6)

    @property
    def pairs(self) -> Any:
        both = tiny_pairs(1)
        [pair], reader = both, tiny_reader(both, self._top / "pair")
        return [RLPair(pair.identity, reader.rows(pair), pair.sub_scores, pair.label)]


class PrecisionWorld(RolloutWorld):
    """A model that learns, with its loss."""

    @cached_property
    def _stage(self) -> Any:
        return tiny_stage("cold-start", self.config, self.pairs, self._top / "frames", self.accelerator)

    @property
    def batch(self) -> Any:
        return self._stage.prepare(0).micro_batches[0]

    @property
    def objective(self) -> Any:
        return lambda batch: self._stage.loss(self._stage.objective, batch)[0]


class EvaluationWorld(TrainerWorld):
    """Rewards of two checkpoints on the same pairs."""

    right_before = np.array([True, False] * 20)
    right_after = np.array([True, True, True, False] * 10)

    @property
    def identities(self) -> list[str]:
        return [f"{number:04d}" for number in range(len(self.labels))]

    @property
    def judge(self) -> Any:
        """Judges the held-out pairs with the model."""
        return lambda: judge_pairs(self.model, self.reader, self.pairs, self.accelerator, self.precision, max_tokens=6)

    def _candidate(self, name: str, rewards: Any) -> Candidate:
        rows = zip(self.identities, self.labels, rewards, self.rewards_b, strict=True)
        judged = [
            JudgedPair(identity, int(label), (float(a), float(b)), (0.0, 0.0), (THOUGHT, THOUGHT), (TRUTH, TRUTH))
            for identity, label, a, b in rows
        ]
        return Candidate(name, JudgedPairs(tuple(judged), "think-then-score"), 0.5)

    @property
    def candidate(self) -> Any:
        return self._candidate("week 12", self.rewards_a)

    @property
    def rival(self) -> Any:
        return self._candidate("base", -self.rewards_a)

    @property
    def benchmark(self) -> Benchmark:
        return Benchmark("ShapeWorld's test split", self.labels, -self.rewards_a, self.rewards_a)


class JudgingWorld(EvaluationWorld):
    """Two checkpoints in folders, and the held-out pairs of a run."""

    @property
    def pairs(self) -> Any:  # type: ignore[override]
        return self.loaded

    def _checkpoint(self, name: str) -> JudgedCheckpoint:
        place = self.home / "base"
        return JudgedCheckpoint(name, str(place), folder_fingerprint(place))

    @property
    def candidate(self) -> Any:
        return self._checkpoint("week 12")

    @property
    def rival(self) -> Any:
        return self._checkpoint("base")

    @property
    def work(self) -> GateWork:
        return GateWork(self.run_folder, self.home, pairs_at_once=4)


class ScoringWorld(EvaluationWorld):
    """A run of the store that judges the pairs of one source."""

    @cached_property
    def run(self) -> Run:
        return self.store_world.ask_to_score(sources=["videoalign"], modes=["quick"])


class RecipeWorld(TrainerWorld):
    """Judges that think shortly, and pairs of ShapeWorld."""

    count = 2

    @cached_property
    def judge(self) -> Any:
        return tiny_judge(thought_tokens=8)

    @property
    def cold_started(self) -> Any:
        return self.judge

    @property
    def trained(self) -> Any:  # type: ignore[override]
        return self.judge

    @property
    def candidates(self) -> Any:
        return list(shape_pairs("train", 2))

    @property
    def work(self) -> Path:
        return self.folder


class RunsWorld(TrainerWorld):
    """The labelled pairs of the store, to train on."""

    @property
    def pairs(self) -> Any:  # type: ignore[override]
        return self.loaded


class StoreRunWorld(RunsWorld):
    """A store with seven runs; the last one is started."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for _ in range(7):
            self.store_world.ask(stages=("cold-start",))


class TeacherWorld(TrainerWorld):
    """A teacher that answers."""

    @cached_property
    def url(self) -> str:
        return self.stack.enter_context(teacher_server(lambda *_: Answer(content=THOUGHT))).url

    @property
    def clip(self) -> Any:
        return tiny_clip(1)


WORLDS: dict[str, type[ExampleWorld]] = {
    "trainer": TrainerWorld,
    "trainer.data.frames": FramesWorld,
    "trainer.data.thought_file": ThoughtWorld,
    "trainer.data.video_stats": VideoWorld,
    "trainer.data.vision_features": FeaturesWorld,
    "trainer.engine.precision": PrecisionWorld,
    "trainer.evaluation": EvaluationWorld,
    "trainer.evaluation.gate_judging": JudgingWorld,
    "trainer.evaluation.score_pairs": ScoringWorld,
    "trainer.objectives.group_rewards": RewardWorld,
    "trainer.objectives.health": RewardWorld,
    "trainer.objectives.rollout_batch": BatchWorld,
    "trainer.recipe": RecipeWorld,
    "trainer.rollouts": RolloutWorld,
    "trainer.runs": RunsWorld,
    "trainer.runs.store_run": StoreRunWorld,
    "trainer.thoughts.teacher": TeacherWorld,
}
