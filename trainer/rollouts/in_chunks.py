"""Rollouts forward and backward in chunks under a budget of tokens, so that memory depends neither on G nor on the longest.

    chunks = plan_chunks(rollouts, budget=8192)
    logprobs = logprobs_in_chunks(model, prompts, rollouts, chunks)                     # (N, T), without gradients

`backward_in_chunks` adds the gradients of a loss on log-probabilities and rewards to those of the weights.
The prefix of each video goes forward once; its keys and values are cut off from its graph as leaves. Each chunk of rollouts
goes forward from them and backward at once, after which nothing of it is left but the gradients on the leaves; at the end
these go backward through the prefix, once. A rollout that alone is over the budget is cut along its tokens in the same
way: its own keys and values are leaves for the tokens behind them, and its pieces go backward from the last to the first.
Values and gradients are those of `trainer.rollouts.shared_prefix.rollout_forward` on the whole.

Shapes: V videos, G rollouts a video, N = V * G, T tokens of the longest, H channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from descore.modeling.prefix_attention import PrefixStore, SharedPrefix, shared_prefix, takes_prefixes
from trainer.rollouts.shared_prefix import Rollouts, axes, continuation, rollout_forward, token_logprobs

if TYPE_CHECKING:
    from descore.encode import Batch
    from descore.modeling.model import DeScoreModel, VisionOutputs

TokenLoss = Callable[[torch.Tensor, torch.Tensor, slice], torch.Tensor]
RewardLoss = Callable[[torch.Tensor], torch.Tensor]
_KeysAndValues = dict[int, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Chunk:
    """Rollouts that go forward together: the same numbers of each video.

    Attributes:
        columns: numbers of the rollouts within their groups.
        width: slots that the longest of them takes, its query token included.
        pieces: the spans of slots that go forward one after the other; one where all fit.
    """

    columns: tuple[int, ...]
    width: int
    pieces: tuple[tuple[int, int], ...]


def plan_chunks(rollouts: Rollouts, budget: int | None) -> list[Chunk]:
    """Cut rollouts into chunks of at most `budget` slots, the longest first; None is one chunk.

    A video's rollouts of like length come together, so that little is padding. Where the budget is below a slot for each
    video, a piece has one slot of each all the same.
    """
    widths = (rollouts.lengths.reshape(-1, rollouts.group).amax(0) + 1).tolist()
    if budget is None:
        return [Chunk(tuple(range(rollouts.group)), max(widths), ((0, max(widths)),))]
    videos = len(rollouts.lengths) // rollouts.group
    order = sorted(range(rollouts.group), key=lambda column: (-widths[column], column))
    chunks = []
    while order:
        width = widths[order[0]]
        count = max(1, budget // (videos * width))
        columns, order = order[:count], order[count:]
        size = max(1, budget // videos) if count == 1 else width
        pieces = tuple((start, min(start + size, width)) for start in range(0, width, size))
        chunks.append(Chunk(tuple(sorted(columns)), width, pieces))
    return chunks


def rows_of(chunk: Chunk, rollouts: Rollouts) -> torch.Tensor:
    """Return the chunk's rows among the N, (V * columns,), video by video."""
    starts = torch.arange(0, len(rollouts.lengths), rollouts.group)
    return (starts[:, None] + torch.tensor(chunk.columns)).flatten().to(rollouts.tokens.device)


def chosen(rollouts: Rollouts, chunk: Chunk) -> Rollouts:
    """Return the chunk's rollouts alone, without slots that none of them needs."""
    rows = rows_of(chunk, rollouts)
    tokens, mask = (values[rows, : chunk.width] for values in (rollouts.tokens, rollouts.mask))
    return Rollouts(tokens, mask, rollouts.lengths[rows], len(chunk.columns))


def backward_in_chunks(
    model: DeScoreModel,
    prompts: Batch,
    rollouts: Rollouts,
    chunks: Sequence[Chunk],
    token_loss: TokenLoss,
    reward_loss: RewardLoss,
    vision: VisionOutputs | None = None,
    temperature: float = 1.0,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> None:
    """Add the gradients of a loss to those of the trained weights.

    Args:
        prompts, rollouts, vision, temperature: as of `rollout_forward`.
        chunks: of `plan_chunks`.
        token_loss: called with log-probabilities (n, t), their rows (n,) among the N and their span among the T; it returns
            a scalar. The loss is the sum over all calls, each (row, token) once.
        reward_loss: called with rewards (V, g) of g rollouts of each video; it returns a scalar. Each reward once.
        autocast: entered for what goes forward.

    Raises:
        descore.errors.RewardError: there is no scoring module.
    """
    if not takes_prefixes(model.backbone):
        for chunk in chunks:
            rows = rows_of(chunk, rollouts)
            with autocast():
                run = rollout_forward(model, prompts, chosen(rollouts, chunk), vision, temperature=temperature)
                loss = token_loss(run.logprobs, rows, slice(0, chunk.width)) + reward_loss(run.rewards)
            loss.backward()
        return
    with autocast():
        prefix = _Prefix(model, prompts, vision)
    for chunk in chunks:
        work = _ChunkWork(model, prefix, rollouts, chunk, temperature, autocast)
        if len(chunk.pieces) == 1:
            work.whole(token_loss, reward_loss)
        else:
            work.piece_by_piece(token_loss, reward_loss)
    prefix.backward()


@torch.no_grad()
def logprobs_in_chunks(
    model: DeScoreModel,
    prompts: Batch,
    rollouts: Rollouts,
    chunks: Sequence[Chunk],
    vision: VisionOutputs | None = None,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Compute the log-probabilities (N, T) of all tokens, zero outside the mask, without gradients."""
    logprobs = torch.zeros(rollouts.tokens.shape, device=rollouts.tokens.device)
    prefix = _Prefix(model, prompts, vision) if takes_prefixes(model.backbone) else None
    for chunk in chunks:
        rows = rows_of(chunk, rollouts)
        if prefix is None:
            run = rollout_forward(model, prompts, chosen(rollouts, chunk), vision, temperature=temperature)
            logprobs[rows, : chunk.width] = run.logprobs
            continue
        work = _ChunkWork(model, prefix, rollouts, chunk, temperature, nullcontext)
        for start, end in chunk.pieces:
            piece = work.forward(start, end, work.kept)
            logprobs[rows, piece.span] = piece.logprobs
            work.keep(piece.own)
    return logprobs


class _Prefix:
    """The prefixes of V videos in their graph, and their keys, values and last states as leaves.

    Attributes:
        last: (V, H), the state that predicts the first token, a leaf.
    """

    def __init__(self, model: DeScoreModel, prompts: Batch, vision: VisionOutputs | None) -> None:
        positions, following = model.positions(prompts)
        store = PrefixStore()
        hidden = model.backbone.base_model(
            position_ids=positions.to(model.device),
            use_cache=False,
            prefix_store=store,
            **model.model_inputs(prompts, vision=vision),
        ).last_hidden_state
        self.following = following.to(model.device)
        self._outputs = [hidden[:, -1], *(tensor for layer in store.layers.values() for tensor in layer)]
        self._leaves = [output.detach().requires_grad_(output.requires_grad) for output in self._outputs]
        self.last, *tensors = self._leaves
        layers = dict(zip(store.layers, zip(tensors[::2], tensors[1::2], strict=True), strict=True))
        self._shared = shared_prefix(layers, prompts["attention_mask"].to(model.device), 1)

    def shared(self, group: int, earlier: _KeysAndValues | None) -> SharedPrefix:
        """Return the prefix for `group` rows a video, and earlier slots of these rows."""
        return replace(self._shared, group=group, earlier=earlier or None)

    def backward(self) -> None:
        """Carry the gradients that the leaves have collected on through the prefix."""
        moved = [(output, leaf.grad) for output, leaf in zip(self._outputs, self._leaves, strict=True)]
        moved = [(output, grad) for output, grad in moved if grad is not None]
        if moved:
            torch.autograd.backward([output for output, _ in moved], [grad for _, grad in moved])


@dataclass
class _Piece:
    """What one forward of some slots gave.

    Attributes:
        logprobs: (n, t) of the tokens `span`.
        span: the tokens, among the T.
        rewards: (m,) of the rows whose query token lies in the piece.
        rewarded: (m,) these rows, among the chunk's.
        own: keys and values of the slots.
    """

    logprobs: torch.Tensor
    span: slice
    rewards: torch.Tensor
    rewarded: torch.Tensor
    own: _KeysAndValues


class _ChunkWork:
    """One chunk on its way forward and backward.

    Attributes:
        kept: keys and values of the chunk's slots so far, cut off from every graph.
    """

    def __init__(
        self,
        model: DeScoreModel,
        prefix: _Prefix,
        rollouts: Rollouts,
        chunk: Chunk,
        temperature: float,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._model, self._prefix, self._chunk = model, prefix, chunk
        self._temperature, self._autocast = temperature, autocast
        self._rollouts, self._rows = chosen(rollouts, chunk), rows_of(chunk, rollouts)
        self.kept: _KeysAndValues = {}

    def whole(self, token_loss: TokenLoss, reward_loss: RewardLoss) -> None:
        """Go forward and backward in one."""
        with self._autocast():
            run = self.forward(0, self._chunk.width, {})
            loss = token_loss(run.logprobs, self._rows, run.span) + reward_loss(self._by_video(run.rewards))
        loss.backward()

    def piece_by_piece(self, token_loss: TokenLoss, reward_loss: RewardLoss) -> None:
        """Go forward without a graph for keys, values and rewards, then in pieces, from the last to the first, backward."""
        rewards = self._first_pass()
        rewards.requires_grad_()
        reward_loss(self._by_video(rewards)).backward()
        of_rewards = rewards.grad if rewards.grad is not None else torch.zeros_like(rewards)
        collected = {layer: tuple(torch.zeros_like(kept) for kept in pair) for layer, pair in self.kept.items()}
        for start, end in reversed(self._chunk.pieces):
            earlier = {
                layer: (key[:, :, :start].detach().requires_grad_(), value[:, :, :start].detach().requires_grad_())
                for layer, (key, value) in (self.kept.items() if start else ())
            }
            with self._autocast():
                run = self.forward(start, end, earlier)
                loss = token_loss(run.logprobs, self._rows, run.span)
                loss = loss + (run.rewards * of_rewards[run.rewarded]).sum()
            outputs, grads = [loss], [torch.ones_like(loss)]
            for layer, pair in run.own.items():
                for own, grad in zip(pair, collected[layer], strict=True):
                    if own.requires_grad and end < self._chunk.width:
                        outputs.append(own)
                        grads.append(grad[:, :, start:end])
            torch.autograd.backward(outputs, grads)
            for layer, pair in earlier.items():
                for leaf, grad in zip(pair, collected[layer], strict=True):
                    if leaf.grad is not None:
                        grad[:, :, :start] += leaf.grad

    @torch.no_grad()
    def _first_pass(self) -> torch.Tensor:
        rewards = torch.zeros(len(self._rows), device=self._rows.device)
        for start, end in self._chunk.pieces:
            with self._autocast():
                run = self.forward(start, end, self.kept, with_logprobs=False)
            rewards[run.rewarded] = run.rewards
            self.keep(run.own)
        return rewards

    def keep(self, own: _KeysAndValues) -> None:
        """Put the keys and values of a piece behind those of the pieces before it."""
        for layer, pair in own.items():
            before = self.kept.get(layer)
            new = tuple(tensor.detach() for tensor in pair)
            if before is not None:
                new = tuple(torch.cat([one, two], dim=2) for one, two in zip(before, new, strict=True))
            self.kept[layer] = (new[0], new[1])

    def forward(self, start: int, end: int, earlier: _KeysAndValues, with_logprobs: bool = True) -> _Piece:
        """Compute some slots of all rows, from the prefix and from earlier slots."""
        model, rollouts, prefix, group = self._model, self._rollouts, self._prefix, self._rollouts.group
        embeds, offsets, query_slots = continuation(model, rollouts, start, end)
        positions = prefix.following.repeat_interleave(group)[:, None] + offsets
        store = PrefixStore()
        hidden = model.backbone.base_model(
            inputs_embeds=embeds,
            position_ids=axes(model, positions),
            use_cache=False,
            prefix_store=store,
            shared_prefix=prefix.shared(group, earlier),
        ).last_hidden_state
        rewarded = ((query_slots >= start) & (query_slots < end)).nonzero().flatten()
        rewards = model.require_scoring()(hidden[rewarded, query_slots[rewarded] - start])
        # Slot t predicts token t + 1; the prefix's last one predicts token 0.
        states, span = hidden, slice(start + 1, min(end + 1, self._chunk.width))
        if start == 0:
            states, span = torch.cat([prefix.last.repeat_interleave(group, 0)[:, None], hidden], dim=1), slice(0, span.stop)
        logprobs = hidden.new_zeros(len(hidden), span.stop - span.start, dtype=torch.float32)
        if with_logprobs:
            tokens, mask = (values[:, span] for values in (rollouts.tokens, rollouts.mask))
            logprobs = token_logprobs(model, states[:, : tokens.shape[1]], tokens, mask, self._temperature)
        return _Piece(logprobs, span, rewards, rewarded, store.layers)

    def _by_video(self, rewards: torch.Tensor) -> torch.Tensor:
        return rewards.reshape(-1, self._rollouts.group)
