"""Stage 1, the discriminative cold start: Bradley-Terry on labelled pairs with thoughts, and random CoT masking.

One step, as DeScore (arXiv 2605.05922) has it:

    1. mask        with p = 0.5 per pair the whole thought of BOTH videos is dropped, so that the scoring module learns to
                   use video and prompt as well as the reasoning, and can score without thinking
    2. forward     [prompt, video, thought, query token] of both videos                         `ColdStartObjective`
    3. loss        -log sigmoid(r_chosen - r_rejected); ties give no gradient, or count under Rao and Kupper's model
    4. update      backbone (or its adapter), query token and head

There is no language-model loss on the thoughts. For a small backbone that is trained whole, and so would forget how to
think, `anchor_weight` adds a little of one.

Rows of a batch are A, B, A, B, ... Shapes: P pairs, 2P rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from descore.encode import Batch, Row, collate, pad_token_id
from descore.modeling.model import DeScoreModel, VisionOutputs
from storage.splits import stable_share
from trainer.data.pairs import TrainingPair
from trainer.engine.loop import PreparedStep
from trainer.engine.memory import Guard, TokenBudget, unguarded
from trainer.objectives.losses import bradley_terry, bradley_terry_ties
from trainer.rollouts.shared_prefix import token_logprobs

if TYPE_CHECKING:
    from accelerate import Accelerator

    from trainer.config import ColdStartConfig
    from trainer.data.loader import PairLoader
    from trainer.data.vision_features import VisionFeatures
    from trainer.engine.precision import Precision

_CLEARLY = 2.0  # the strength with the whole margin


@dataclass
class PairBatch:
    """A micro-batch of P pairs in tensors.

    Attributes:
        inputs: 2P rows.
        vision: ready features of the videos; None: the tower runs.
        labels: (P,) +1, -1, 0.
        margins: (P,) in reward.
        has_thought: (P,) bool.
        totals: comparisons and tokens of thoughts in the whole step, over all micro-batches and processes.
        weight: 0 for a repeated one, else 1.
        parts: of which pairs and rows it was made.
    """

    inputs: Batch
    vision: VisionOutputs | None
    labels: torch.Tensor
    margins: torch.Tensor
    has_thought: torch.Tensor
    totals: tuple[float, float] = (1.0, 1.0)
    weight: float = 1.0
    parts: tuple[tuple[TrainingPair, ...], tuple[_EncodedPair, ...]] = ((), ())

    @property
    def length(self) -> int:
        """Slots of a row."""
        return int(self.inputs["input_ids"].shape[1])


class ColdStartObjective(nn.Module):
    """The loss of stage 1 as a module, so that a wrapper for several processes sees one forward."""

    def __init__(self, model: DeScoreModel, settings: ColdStartConfig) -> None:
        super().__init__()
        self.model = model
        self.settings = settings

    def forward(self, batch: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compute the batch's part of the step's loss, and sums for the log (detached scalars)."""
        comparisons, thought_tokens = batch.totals
        forward = self.model(batch.inputs, batch.vision)
        reward_a, reward_b = forward.rewards[::2], forward.rewards[1::2]
        if self.settings.loss == "ties":
            preference = bradley_terry_ties(reward_a, reward_b, batch.labels, total=comparisons)
        else:
            preference = bradley_terry(reward_a, reward_b, batch.labels, batch.margins, total=comparisons)
        loss, anchor = preference, preference.new_zeros(())
        if self.settings.anchor_weight > 0:
            anchor = self._thought_loss(batch, forward.hidden) / max(thought_tokens, 1)
            loss = loss + self.settings.anchor_weight * anchor
        decided = batch.labels != 0
        lead = batch.labels * (reward_a - reward_b)
        sums = {
            "loss": preference,
            "anchor_loss": anchor,
            "right": ((lead > 0) & decided).sum(),
            "margin": lead.sum(),
            "rewards": forward.rewards.sum(),
            "squared_rewards": forward.rewards.square().sum(),
        }
        return batch.weight * loss, {name: batch.weight * value.detach().float() for name, value in sums.items()}

    def _thought_loss(self, batch: PairBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Sum the negative log-likelihood of the thoughts' tokens; slot s predicts token s + 1."""
        device = hidden.device
        targets, mask = batch.inputs["input_ids"][:, 1:].to(device), batch.inputs["thought_mask"][:, 1:].to(device)
        return -token_logprobs(self.model, hidden[:, :-2], targets, mask).sum()


@dataclass(frozen=True)
class _EncodedPair:
    rows: tuple[Row, Row]
    has_thought: bool


class ColdStartStage:
    """Stage 1 for `trainer.engine.loop.train`."""

    name = "cold start"
    updates_per_step = 1

    def __init__(
        self,
        model: DeScoreModel,
        settings: ColdStartConfig,
        data: PairLoader[Any],
        accelerator: Accelerator,
        precision: Precision,
        vision: VisionFeatures | None = None,
        seed: int = 0,
    ) -> None:
        """Make the stage.

        Args:
            vision: kept features of a frozen tower; None: the tower runs in each forward.
        """
        self.model, self.settings, self.data, self.precision = model, settings, data, precision
        self.steps, self.optim = settings.steps, settings.optim
        self.objective = ColdStartObjective(model, settings)
        self.budget = TokenBudget("forward_tokens", settings.forward_tokens)
        self.budgets: Sequence[TokenBudget] = [self.budget]
        self._accelerator, self._vision, self._seed = accelerator, vision, seed

    def prepare(self, step: int, together: Guard = unguarded) -> PreparedStep:
        """Prepare the micro-batches of a step, with the totals that their losses are divided by."""
        micro_batches = self.data.micro_batches(step, lambda pair: self._encode(pair, step))
        batches = together(lambda: [self._batch(each.pairs, each.read, each.weight) for each in micro_batches])
        real = [batch for batch in batches if batch.weight]
        comparisons = sum(self._comparisons(batch) for batch in real)
        thought_tokens = sum(int(batch.inputs["thought_mask"].sum()) for batch in real)
        pairs = sum(len(batch.labels) for batch in real)
        masked = sum(int((~batch.has_thought).sum()) for batch in real)
        tokens = sum(int(batch.inputs["attention_mask"].sum()) for batch in real)
        decided = sum(int((batch.labels != 0).sum()) for batch in real)
        totals = self.data.total(comparisons, thought_tokens)
        for batch in batches:
            batch.totals = (totals[0], totals[1])
        sums = {"pairs": pairs, "masked": masked, "tokens": tokens, "decided": decided}
        sums["thought_tokens"] = thought_tokens
        return PreparedStep(batches, {name: float(value) for name, value in sums.items()})

    def loss(self, objective: nn.Module, work: PairBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compute the micro-batch's share of the step's loss, scaled for the mean that is taken over processes."""
        loss, sums = objective(work)
        return loss * self._accelerator.num_processes, sums

    def backward(self, work: PairBatch) -> dict[str, torch.Tensor]:
        """Add the gradients of the micro-batch's share, scaled as `loss`, as many pairs at a time as have room."""
        sums: dict[str, torch.Tensor] = {}
        for part in self._parts(work):
            with self.precision.autocast():
                loss, found = self.loss(self.objective, part)
            loss.backward()
            sums = {name: sums[name] + value for name, value in found.items()} if sums else found
        return sums

    def _parts(self, work: PairBatch) -> Iterator[PairBatch]:
        size = max(1, self.budget.tokens // (2 * work.length))
        pairs, encoded = work.parts
        if size >= len(pairs):
            yield work
            return
        for first in range(0, len(pairs), size):
            part = self._batch(pairs[first : first + size], encoded[first : first + size], work.weight)
            yield replace(part, totals=work.totals)

    def figures(self, sums: Mapping[str, float]) -> dict[str, float | None]:
        """Compute accuracy and margin over pairs with a preference, mean and spread of all rewards, for the log."""
        pairs, decided = sums["pairs"], max(sums["decided"], 1)
        if not pairs or "rewards" not in sums:
            return {"pairs": pairs}
        mean, thoughts = sums["rewards"] / (2 * pairs), 2 * (pairs - sums["masked"])
        return {
            "loss": sums["loss"],
            "anchor_loss": sums["anchor_loss"] if self.settings.anchor_weight else None,
            "accuracy": sums["right"] / decided,
            "margin": sums["margin"] / decided,
            "reward_mean": mean,
            "reward_std": max(sums["squared_rewards"] / (2 * pairs) - mean**2, 0.0) ** 0.5,
            "masked": sums["masked"] / pairs,
            "thought_tokens": sums["thought_tokens"] / thoughts if thoughts else None,
            "pairs": pairs,
        }

    def _comparisons(self, batch: PairBatch) -> int:
        return len(batch.labels) if self.settings.loss == "ties" else int((batch.labels != 0).sum())

    def _encode(self, pair: TrainingPair, step: int) -> _EncodedPair:
        rows = self.data.reader.rows(pair, self.settings.max_length)
        if pair.thoughts is None or self.settings.mask_probability == 1:
            return _EncodedPair(rows, False)
        # Masked ones too: a pair whose thoughts can't be used is left out of every step, also of a resumed run.
        with_thoughts = self.data.reader.with_thoughts(pair, rows, pair.thoughts, self.settings.max_length)
        masked = is_masked(pair.identity, step, self._seed, self.settings.mask_probability)
        return _EncodedPair(rows if masked else with_thoughts, not masked)

    def _batch(self, pairs: tuple[TrainingPair, ...], encoded: tuple[_EncodedPair, ...], weight: float) -> PairBatch:
        rows = [row for each in encoded for row in each.rows]
        device = self._accelerator.device
        margins = [self.settings.strength_margin * pair.strength / _CLEARLY for pair in pairs]
        return PairBatch(
            inputs=collate(rows, pad_token_id(self.model.processor)),
            vision=None if self._vision is None else self._vision.of(rows),
            labels=torch.tensor([pair.label for pair in pairs], device=device),
            margins=torch.tensor(margins, device=device),
            has_thought=torch.tensor([each.has_thought for each in encoded]),
            weight=weight,
            parts=(pairs, encoded),
        )


def is_masked(identity: str, step: int, seed: int, probability: float) -> bool:
    """Whether a pair loses both thoughts in a step; it may keep them when it comes again."""
    return stable_share("mask", seed, step, identity) < probability
