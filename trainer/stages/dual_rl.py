"""Stage 2 for the loop: rollouts of a step's pairs, their rewards and totals, around `trainer.objectives.dual_objective`.

What stage 2 computes stands in `trainer.objectives.dual_objective`; here is what a run adds: which pairs, in which
passes, with which
reference and rollout engine, and what its log says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from descore.encode import Row
from descore.modeling.lora import adapter_config, adapter_off
from descore.modeling.model import DeScoreModel
from trainer.engine.loop import PreparedStep
from trainer.objectives.dual_objective import (
    DualObjective,
    DualObjectiveConfig,
    RLPair,
    RolloutBatch,
    add_reference,
    collect,
)
from trainer.rollouts.sampling import SampledThoughts, sample
from trainer.rollouts.shared_prefix import rollout_forward

if TYPE_CHECKING:
    from accelerate import Accelerator

    from trainer.config import DualRLConfig
    from trainer.data.loader import MicroBatch, PairLoader
    from trainer.data.pairs import TrainingPair
    from trainer.data.vision_features import VisionFeatures
    from trainer.engine.precision import Precision

Rows = tuple[Row, Row]
NO_TRUTH = (
    "no training pair has a sub-score, so the thoughts get no reward and only the Bradley-Terry loss trains; "
    "let people give sub-scores, or do without this stage"
)


@dataclass
class RolloutMicroBatch:
    """Rollouts of some pairs. tokens, comparisons: totals of the whole step. weight: 0 where it only keeps in step."""

    batch: RolloutBatch
    weight: float
    tokens: float = 1.0
    comparisons: float = 1.0


class Reference:
    """The policy that the KL term stays near: the model without its adapter, or a frozen copy of one that trains whole."""

    def __init__(self, model: DeScoreModel, config: DualObjectiveConfig) -> None:
        self._adapted = adapter_config(model.backbone) is not None
        self._config = config
        self._policy = model
        self._copy = None
        if config.beta > 0 and not self._adapted:
            backbone = copy.deepcopy(model.backbone).requires_grad_(False)
            self._copy = DeScoreModel(backbone, model.processor, copy.deepcopy(model.scoring)).eval()

    def add(self, batch: RolloutBatch) -> None:
        """Put the reference's log-probabilities into `batch`; nothing where no KL is asked for."""
        if self._config.beta <= 0:
            return
        if self._copy is not None:
            add_reference(self._copy, batch, self._config, nullcontext())
        else:
            add_reference(self._policy, batch, self._config, _switched_off(self._policy))


class RLStage:
    """Stage 2 for `trainer.engine.loop.train`."""

    name = "dual-objective RL"

    def __init__(
        self,
        model: DeScoreModel,
        settings: DualRLConfig,
        data: PairLoader,
        accelerator: Accelerator,
        precision: Precision,
        vision: VisionFeatures | None = None,
        seed: int = 0,
        sampler: Callable[..., SampledThoughts] = sample,
    ) -> None:
        """sampler: the rollout engine, with the signature of `trainer.rollouts.sampling.sample`."""
        self.model, self.settings, self.data, self.precision = model, settings, data, precision
        self.steps, self.optim, self.updates_per_step = settings.steps, settings.optim, settings.updates_per_step
        self.config = settings.objective
        self.objective = DualObjective(model, self.config)
        self._reference = Reference(model, self.config)
        self._accelerator, self._vision, self._seed, self._sampler = accelerator, vision, seed, sampler

    def prepare(self, step: int) -> PreparedStep:
        """Sample and reward the rollouts of a step."""
        parts = self.data.micro_batches(step, lambda pair: self.data.reader.rows(pair, self.settings.max_prompt_tokens))
        passes = [self._collect(part, step) for part in parts]
        real = [one.batch for one in passes if one.weight]
        tokens, comparisons = self.data.total(sum(one.tokens for one in real), sum(one.comparisons for one in real))
        for one in passes:
            one.tokens, one.comparisons = tokens, comparisons
        return PreparedStep(passes, self._sums(real))

    def loss(self, objective: nn.Module, work: RolloutMicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The pass's share of the step's loss, scaled for the mean that is taken over processes."""
        losses = objective(work.batch, work.tokens, work.comparisons)
        share = work.batch.tokens / work.tokens if work.tokens else 0.0
        parts = losses.parts | {"loss": losses.loss.detach(), "clip_share": losses.parts["clip_share"] * share}
        return losses.loss * work.weight * self._accelerator.num_processes, {
            name: value * work.weight for name, value in parts.items()
        }

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """For the log.

        reward, reward_quality, reward_format, reward_length: by rule, means over rollouts. reward_mean, reward_std: of what
        the scoring module gives them. accuracy, margin: of its rewards, over comparisons of rollouts. without_truth: pairs
        with no known sub-score, whose rollouts the policy loss leaves alone.
        """
        rollouts = sums["rollouts"]
        if not rollouts or "loss" not in sums:
            return {"pairs": sums["pairs"]}
        compared = max(sums["comparisons"], 1)
        mean = sums["rewards"] / rollouts
        return {
            "loss": sums["loss"],
            "policy_loss": sums["policy"],
            "bradley_terry": sums["bradley_terry"],
            "kl": sums.get("kl"),
            "clip_share": sums["clip_share"],
            "accuracy": sums["right"] / compared,
            "margin": sums["margin"] / compared,
            "reward": sums["reward"] / rollouts,
            "reward_quality": sums["quality"] / sums["with_truth"] if sums["with_truth"] else None,
            "reward_format": sums["format"] / rollouts,
            "reward_length": sums["length"] / rollouts,
            "reward_spread": sums["spread"] / rollouts,
            "reward_mean": mean,
            "reward_std": max(sums["squared_rewards"] / rollouts - mean**2, 0.0) ** 0.5,
            "thought_tokens": sums["tokens"] / rollouts,
            "cut_off": sums["cut_off"] / rollouts,
            "pairs": sums["pairs"],
            "without_truth": sums["without_truth"],
        }

    def _collect(self, part: MicroBatch[Rows], step: int) -> RolloutMicroBatch:
        pairs = [self._rl_pair(pair, rows) for pair, rows in zip(part.pairs, part.read, strict=True)]
        vision = None if self._vision is None else self._vision.of([row for rows in part.read for row in rows])
        with self.precision.sampling():
            batch = collect(self.model, pairs, step, self.config, vision, self._sampler)
        self._rewarded(batch, part.pairs)
        # In the numbers of the training forward, so that what differs is the policy and not the rounding.
        with self.precision.step(), self.precision.autocast():
            self._reference.add(batch)
            if self.updates_per_step > 1:
                batch.old_logprobs = self._logprobs(batch)
        return RolloutMicroBatch(batch, part.weight)

    def _rl_pair(self, pair: TrainingPair, rows: Rows) -> RLPair:
        return RLPair(f"{self._seed}/{pair.identity}", rows, pair.sub_scores, pair.label)

    def _rewarded(self, batch: RolloutBatch, pairs: tuple[TrainingPair, ...]) -> None:
        """Where another way of training gives rewards of its own; here `collect` has given them."""

    @torch.no_grad()
    def _logprobs(self, batch: RolloutBatch) -> torch.Tensor:
        """Of the rollouts under the policy that sampled them, before it moves."""
        was_training = self.model.training
        self.model.eval()
        try:
            run = rollout_forward(
                self.model,
                batch.prompts,
                batch.rollouts,
                batch.vision,
                temperature=self.config.temperature,
            )
        finally:
            self.model.train(was_training)
        return run.logprobs

    def _sums(self, real: list[RolloutBatch]) -> dict[str, float]:
        scores = [score for one in real for score in one.scores]
        known = [score.quality for score in scores if score.quality is not None]
        groups = [torch.tensor([score.total for score in one.scores]).reshape(-1, one.rollouts.group) for one in real]
        return {
            "pairs": sum(len(one.labels) for one in real),
            "rollouts": len(scores),
            "comparisons": sum(one.comparisons for one in real),
            "reward": sum(score.total for score in scores),
            "quality": sum(known),
            "with_truth": len(known),
            "without_truth": sum(_untold(one) for one in real),
            "format": sum(score.format for score in scores),
            "length": sum(score.length for score in scores),
            "spread": sum(float(group.std(-1).sum()) * group.shape[1] for group in groups),
            "tokens": sum(one.thoughts.tokens for one in real),
            "cut_off": sum(not end for one in real for ends in one.thoughts.ended for end in ends),
        }


def _untold(batch: RolloutBatch) -> int:
    """Pairs without any known sub-score."""
    told = torch.tensor([score.quality is not None for score in batch.scores])
    return int((~told.reshape(len(batch.labels), -1).any(-1)).sum())


@contextmanager
def _switched_off(model: DeScoreModel) -> Iterator[None]:
    """`adapter_off`, and afterwards the same weights train as before: peft lets all of an adapter's train again."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    off: AbstractContextManager[None] = adapter_off(model.backbone)
    try:
        with off:
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
