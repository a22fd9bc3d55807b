"""Stage 2 for the loop: the pairs of a step, their rollouts, the reference, and the figures of the log.

`trainer.objectives` has rewards and losses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from descore.encode import Row
from trainer.engine.loop import PreparedStep
from trainer.engine.memory import Guard, TokenBudget, unguarded
from trainer.engine.train_state import is_sharded
from trainer.objectives.dual_objective import DualObjective
from trainer.objectives.group_rewards import GroupRewards, rule_rewards
from trainer.objectives.health import health_figures, health_sums
from trainer.objectives.rollout_batch import (
    RLPair,
    RolloutBatch,
    batch_logprobs,
    build_batch,
    sample_pairs,
    sample_videos,
)
from trainer.rollouts.default_tokens import default_tokens
from trainer.rollouts.sampling import OwnSampler, RolloutEngine, SampledThoughts
from trainer.rollouts.whole_copy import WholeCopy, frozen_copy

if TYPE_CHECKING:
    from accelerate import Accelerator

    from descore.modeling.model import DeScoreModel, VisionOutputs
    from trainer.config import DualRLConfig
    from trainer.data.loader import MicroBatch, PairLoader
    from trainer.data.pairs import TrainingPair
    from trainer.data.vision_features import VisionFeatures
    from trainer.engine.precision import Precision
    from trainer.objectives.dual_objective_config import DualObjectiveConfig

Rows = tuple[Row, Row]
NO_TRUTH = (
    "no training pair has a sub-score, so the thoughts get no reward and only the Bradley-Terry loss trains; "
    "let people give sub-scores, or do without this stage"
)


@dataclass
class RolloutMicroBatch:
    """Rollouts of some pairs.

    Attributes:
        weight: 0 for a repeated one, else 1.
        tokens: total of the whole step.
        comparisons: total of the whole step.
    """

    batch: RolloutBatch
    weight: float
    tokens: float = 1.0
    comparisons: float = 1.0


@dataclass(frozen=True)
class SampledStep:
    """Rollouts of a step on this process.

    Attributes:
        thoughts: of the two videos of each pair, by its identity.
        sums: `health_sums` of the first samples of its own pairs, and `sampled_again`: groups sampled after those.
    """

    thoughts: Mapping[str, SampledThoughts]
    sums: Mapping[str, float]


class Reference:
    """The policy that the KL term stays near: the one at the start of the stage.

    Its trained weights are kept and change places with the model's while it is asked; the frozen ones are the same. Where
    weights lie in pieces over processes, which nobody may exchange, it is a frozen copy.
    """

    def __init__(self, model: DeScoreModel, config: DualObjectiveConfig, sharded: bool = False) -> None:
        """Keep the model as it is now; does nothing without a KL term."""
        self._model, self._config = model, config
        self._start: list[tuple[nn.Parameter, torch.Tensor]] = []
        if config.beta <= 0:
            return
        if sharded:
            self._model = frozen_copy(model)
        else:
            trained = (parameter for parameter in model.backbone.parameters() if parameter.requires_grad)
            self._start = [(parameter, parameter.detach().clone()) for parameter in trained]

    def add(self, batch: RolloutBatch, budget: int | None = None) -> None:
        """Add the reference's log-probabilities to `batch`; `budget` as of `batch_logprobs`."""
        if self._config.beta <= 0:
            return
        with self._at_start():
            batch.reference = batch_logprobs(self._model, batch, self._config, budget)

    @contextmanager
    def _at_start(self) -> Iterator[None]:
        now = [(parameter, parameter.data) for parameter, _ in self._start]
        try:
            for parameter, kept in self._start:
                parameter.data = kept
            yield
        finally:
            for parameter, value in now:
                parameter.data = value


class RLStage:
    """Stage 2 for `trainer.engine.loop.train`."""

    name = "dual-objective RL"

    def __init__(
        self,
        model: DeScoreModel,
        settings: DualRLConfig,
        data: PairLoader[Any],
        accelerator: Accelerator,
        precision: Precision,
        vision: VisionFeatures | None = None,
        seed: int = 0,
        sampler: RolloutEngine | None = None,
        whole: WholeCopy | None = None,
    ) -> None:
        """Make the stage.

        Args:
            vision: kept features of a frozen tower; None: the tower runs in each forward.
            sampler: the rollout engine; None: this package's own.
            whole: where the model's weights will lie in pieces, its copy; the engine is that of the copy.
        """
        self.model, self.settings, self.data, self.precision = model, settings, data, precision
        self.steps, self.optim, self.updates_per_step = settings.steps, settings.optim, settings.updates_per_step
        self.config = settings.objective
        self.objective = DualObjective(model, self.config)
        self.budget = TokenBudget("forward_tokens", settings.forward_tokens)
        self._reference = Reference(model, self.config, is_sharded(accelerator))
        self._accelerator, self._vision, self._seed = accelerator, vision, seed
        # The model that samples: the trained one, or its copy.
        self._whole, self._policy = whole, model if whole is None else whole.model
        self._sampler = sampler or OwnSampler(self._policy)
        tokens = settings.sampling_tokens or default_tokens(model, self._sampler.gpu_bytes)
        self.sampling_budget = TokenBudget("sampling_tokens", tokens)
        self.budgets: Sequence[TokenBudget] = [self.budget, self.sampling_budget]
        without_dropout(model)

    def prepare(self, step: int, together: Guard = unguarded) -> PreparedStep:
        """Sample and reward the rollouts of a step."""
        if self._whole is not None:
            self._whole.refresh(self.model)
        encoded = self.data.micro_batches(step, lambda pair: self.data.reader.rows(pair, self.settings.max_prompt_tokens))

        def rolled_out() -> tuple[list[RolloutMicroBatch], SampledStep]:
            sampled = self._sample(encoded, step)
            return [self._collect(each, sampled.thoughts) for each in encoded], sampled

        micro_batches, sampled = together(rolled_out)
        real = [each.batch for each in micro_batches if each.weight]
        tokens, comparisons = self.data.total(sum(batch.tokens for batch in real), sum(batch.comparisons for batch in real))
        for each in micro_batches:
            each.tokens, each.comparisons = tokens, comparisons
        return PreparedStep(micro_batches, {**self._sums(real), **sampled.sums})

    def loss(self, objective: nn.Module, work: RolloutMicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compute the micro-batch's share of the step's loss, scaled for the mean that is taken over processes."""
        losses = objective(work.batch, work.tokens, work.comparisons)
        parts = {name: value * work.weight for name, value in losses.parts.items()}
        return losses.loss * work.weight * self._accelerator.num_processes, parts

    def backward(self, work: RolloutMicroBatch) -> dict[str, torch.Tensor]:
        """Add the gradients of the micro-batch's share, scaled as `loss`, in chunks under the budget of tokens."""
        scale = work.weight * self._accelerator.num_processes
        parts = self.objective.backward(
            work.batch, work.tokens, work.comparisons, self.budget.tokens, scale, self.precision.autocast
        )
        return {name: value * work.weight for name, value in parts.items()}

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Compute the figures of the log.

        Returns:
            `reward`, `reward_quality`, `reward_format`, `reward_length`: by rule, means over rollouts. `reward_mean`,
            `reward_std`: of the scoring module's rewards. `accuracy`, `margin`: of the same, over comparisons of
            rollouts. `without_truth`: pairs with no known sub-score, whose rollouts the policy loss leaves alone.
            `cut_off`, `entropy`, `repetition`, `no_spread`: of the first samples, see `trainer.objectives.health`.
            `left_out`: share of groups that are in no token loss; `sampled_again`: groups sampled another time.
            `sampler_ratio`, `sampler_ratio_max`, `sampler_ratio_outside`: of a sampled token's probability under the trained
            model to that of the rollout engine, mean, largest, and share of tokens outside the clip.
        """
        rollouts = sums["rollouts"]
        if not rollouts or "loss" not in sums:
            return {"pairs": sums["pairs"]}
        comparisons = max(sums["comparisons"], 1)
        mean = sums["rewards"] / rollouts
        return {
            "loss": sums["loss"],
            "policy_loss": sums["policy"],
            "bradley_terry": sums["bradley_terry"],
            "kl": sums.get("kl"),
            "clip_share": sums["clip_share"],
            "accuracy": sums["right"] / comparisons,
            "margin": sums["margin"] / comparisons,
            "reward": sums["reward"] / rollouts,
            "reward_quality": sums["quality"] / sums["with_truth"] if sums["with_truth"] else None,
            "reward_format": sums["format"] / rollouts,
            "reward_length": sums["length"] / rollouts,
            "reward_spread": sums["spread"] / rollouts,
            "reward_mean": mean,
            "reward_std": max(sums["squared_rewards"] / rollouts - mean**2, 0.0) ** 0.5,
            "thought_tokens": sums["tokens"] / rollouts,
            **health_figures(sums),
            "left_out": sums["groups_left_out"] / (2 * sums["pairs"]),
            "sampled_again": sums["sampled_again"],
            "pairs": sums["pairs"],
            "without_truth": sums["without_truth"],
            "sampler_ratio": sums["ratio"] / max(sums["ratio_tokens"], 1),
            "sampler_ratio_max": sums["largest_ratio"],
            "sampler_ratio_outside": sums["ratio_outside"] / max(sums["ratio_tokens"], 1),
        }

    def _sample(self, encoded: Sequence[MicroBatch[Rows]], step: int) -> SampledStep:
        """Sample the rollouts of all pairs of the step in one call, and again where the settings want other ones.

        It waits for no other process, so each may need another number of samplings.
        """
        by_identity = {pair.identity: (pair, rows) for each in encoded for pair, rows in each.items()}
        own = {pair.identity for each in encoded if each.weight for pair in each.pairs}
        pairs = [pair for pair, _ in by_identity.values()]
        rl_pairs = [self._rl_pair(pair, rows) for pair, rows in by_identity.values()]
        if not pairs:
            return SampledStep({}, {**health_sums(SampledThoughts.joined([]), GroupRewards((), ())), "sampled_again": 0})
        with self.precision.sampling():
            features, budget = self._features(rl_pairs), self.sampling_budget.tokens
            sampled = sample_pairs(self._policy, rl_pairs, step, self.config, features, self._sampler, budget)
            videos = [2 * index + side for index, pair in enumerate(pairs) if pair.identity in own for side in (0, 1)]
            first = sampled.of_videos(videos)
            sums = health_sums(first, self._rewards([pair for pair in pairs if pair.identity in own], first))
            again = 0
            if self.config.groups_without_spread == "sample_again":
                sampled, again = self._sampled_again(pairs, rl_pairs, set(videos), sampled, step)
        thoughts = {pair.identity: sampled.of_videos([2 * index, 2 * index + 1]) for index, pair in enumerate(pairs)}
        return SampledStep(thoughts, {**sums, "sampled_again": again})

    def _sampled_again(
        self,
        pairs: Sequence[TrainingPair],
        rl_pairs: Sequence[RLPair],
        own: Collection[int],
        sampled: SampledThoughts,
        step: int,
    ) -> tuple[SampledThoughts, int]:
        """Replace groups without a spread by other rollouts, a few times at most; return how many groups were sampled too.

        A group's seed is that of its step, pair and side with the number of the attempt, so nothing is to be remembered.

        Args:
            own: the videos that count on this process.
        """
        rows = [row for pair in rl_pairs for row in pair.rows]
        again = 0
        for attempt in range(1, self.config.extra_samplings + 1):
            videos = [video for video in self._rewards(pairs, sampled).without_spread if video in own]
            if not videos:
                break
            seeds = [f"{step}/{rl_pairs[video // 2].identity}/{'AB'[video % 2]}/again-{attempt}" for video in videos]
            features = None if self._vision is None else self._vision.of([rows[video] for video in videos])
            some, budget = [rows[video] for video in videos], self.sampling_budget.tokens
            other = sample_videos(self._policy, some, seeds, self.config, features, self._sampler, budget)
            sampled, again = sampled.replaced(videos, other), again + len(videos)
        return sampled, again

    def _collect(self, encoded: MicroBatch[Rows], sampled: Mapping[str, SampledThoughts]) -> RolloutMicroBatch:
        pairs = [self._rl_pair(pair, rows) for pair, rows in encoded.items()]
        thoughts = SampledThoughts.joined([sampled[pair.identity] for pair in encoded.pairs])
        rewards = self._rewards(encoded.pairs, thoughts)
        batch = build_batch(self.model, pairs, thoughts, self.config, self._features(pairs), rewards)
        batch.by_trained_model = self._sampler.is_trained_model
        # In the numbers of the training forward, so that what differs is the policy and not the rounding.
        with self.precision.step(), self.precision.autocast():
            self._reference.add(batch, self.budget.tokens)
            if self.updates_per_step > 1:
                batch.old_logprobs = batch_logprobs(self._policy, batch, self.config, self.budget.tokens)
        return RolloutMicroBatch(batch, encoded.weight)

    def _features(self, pairs: Sequence[RLPair]) -> VisionOutputs | None:
        return None if self._vision is None else self._vision.of([row for pair in pairs for row in pair.rows])

    def _rl_pair(self, pair: TrainingPair, rows: Rows) -> RLPair:
        return RLPair(f"{self._seed}/{pair.identity}", rows, pair.sub_scores, pair.label)

    def _rewards(self, pairs: Sequence[TrainingPair], sampled: SampledThoughts) -> GroupRewards:
        """Reward the rollouts of some pairs, whose videos come in the order A, B, A, B, ..."""
        return rule_rewards(sampled, [truth for pair in pairs for truth in pair.sub_scores], self.config.reward)

    def _sums(self, real: list[RolloutBatch]) -> dict[str, float]:
        scores = [score for batch in real for score in batch.scores]
        qualities = [score.quality for score in scores if score.quality is not None]
        groups = [torch.tensor([score.total for score in batch.scores]).reshape(-1, batch.rollouts.group) for batch in real]
        return {
            "pairs": sum(len(batch.labels) for batch in real),
            "rollouts": len(scores),
            "comparisons": sum(batch.comparisons for batch in real),
            "reward": sum(score.total for score in scores),
            "quality": sum(qualities),
            "with_truth": len(qualities),
            "without_truth": sum(_without_truth(batch) for batch in real),
            "format": sum(score.format for score in scores),
            "length": sum(score.length for score in scores),
            "spread": sum(float(group.std(-1).sum()) * group.shape[1] for group in groups),
            "tokens": sum(batch.thoughts.tokens for batch in real),
            "groups_left_out": sum(batch.left_out for batch in real),
        }


def without_dropout(model: nn.Module) -> None:
    """Switch dropout off for good: with it, the policy whose gradient is taken would not be the one that sampled."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _without_truth(batch: RolloutBatch) -> int:
    """Count the pairs without any known sub-score."""
    has_truth = torch.tensor([score.quality is not None for score in batch.scores])
    return int((~has_truth.reshape(len(batch.labels), -1).any(-1)).sum())
