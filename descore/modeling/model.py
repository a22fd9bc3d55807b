"""Backbone and scoring module as one model: think, score from the same KV cache, forward for training.

    model = DeScoreModel(backbone, processor, scoring)
    rewards = model.rewards(inputs)                      # training: one differentiable pass, (B,)

    state = model.prefill(inputs)                        # inference: video and prompt once ...
    for tokens in model.think(state, max_tokens=400):    # ... the thought token by token ...
        ...
    rewards = model.score(state)                         # ... and the query token on the same cache

The backbone is composed, not subclassed, and nothing is kept in it between calls: positions, masks and caches
live in the `Thinking` state, so several judgements may share one model as long as its single calls do not
overlap.

Shapes: B rows, S tokens so far, H hidden channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn
from transformers import Cache, PreTrainedModel

from descore.encode import SEQUENCE_KEYS, Batch
from descore.errors import CheckpointError, RewardError
from descore.modeling.decode_step import decode_step, text_model
from descore.modeling.kv_cache import growing_cache
from descore.modeling.layer_states import hold_rows, states_of, undo_step, unsupported_layers
from descore.modeling.lora import adapter_config, merge_adapter
from descore.modeling.prefill_pieces import PREFILL_SLOTS, mean_features, pieces_of, takes_pieces, video_features
from descore.modeling.prefix_attention import SharedPrefix, enable_prefixes, prefix_of_cache, takes_prefixes
from descore.modeling.transformers_versions import cache_argument, takes_vision_outputs

if TYPE_CHECKING:
    from descore.familiarity import Familiarity
    from descore.modeling.scoring_head import ScoringModule

# Ready outputs of the vision tower for a batch's videos, as transformers' own forward takes them (`mm_encoder_outputs`).
VisionOutputs = dict[str, Any]
# Steps on a GPU between two looks at the tokens, each of which waits for all kernels so far.
LOOK_EVERY = 16


@dataclass
class Forward:
    """The result of one training pass.

    Attributes:
        rewards: (B,) float32.
        hidden: (B, S + 1, H); the last one is the query token's.
    """

    rewards: torch.Tensor
    hidden: torch.Tensor


@dataclass
class Thinking:
    """Rows in the middle of a thought: all that the next token and the reward depend on.

    Attributes:
        cache: keys and values of S slots.
        mask: (B, S), 1 where a row may look.
        next_position: (B,), the same on all position axes.
        logits: (B, V) of the next token.
        thoughts: the token ids of each row's thought so far, without an end token.
        running: rows whose thought has not ended; after `think`, these were cut off at the limit.
        ends: the end token that each row chose; None where it chose none, as at the limit.
        prefix: keys and values that the rows share in groups, before the slots of the cache.
        log_probs: of each row's sampled tokens and its end token, under the distribution they were drawn from; empty where
            the most likely token is taken.
        vision: mean vision features of each row's video, (B, H) float32 on the CPU; None where the tower's output was not
            at hand. `repeat` does not pass them on.
    """

    cache: Cache
    mask: torch.Tensor
    next_position: torch.Tensor
    logits: torch.Tensor
    thoughts: list[list[int]] = field(default_factory=list)
    running: list[bool] = field(default_factory=list)
    ends: list[int | None] = field(default_factory=list)
    prefix: SharedPrefix | None = None
    log_probs: list[list[float]] = field(default_factory=list)
    vision: torch.Tensor | None = None


class DeScoreModel(nn.Module):
    """A backbone (any image-text-to-text model that takes video), with a scoring module or without one.

    Attributes:
        look_every: steps of a thought between two looks at its tokens; None for 1 on a CPU and 16 on a GPU, where each look
            waits for the device.
        familiarity: the videos that the checkpoint knows; None where it does not say.
    """

    never_sampled: torch.Tensor
    end_tokens: torch.Tensor

    def __init__(self, backbone: PreTrainedModel, processor: Any, scoring: ScoringModule | None = None) -> None:
        """Compose them; the scoring module moves to the backbone's device.

        Raises:
            CheckpointError: backbone and scoring module differ in their number of channels, or the backbone has layers on
                which rewards can't be read exactly.
        """
        super().__init__()
        _refuse_unsupported_layers(backbone)
        enable_prefixes(backbone)
        hidden = backbone.config.get_text_config().hidden_size
        if scoring is not None and scoring.hidden_size != hidden:
            raise CheckpointError(f"the scoring module has {scoring.hidden_size} channels, the backbone {hidden}")
        self.backbone = backbone
        self.processor = processor
        self.scoring = None if scoring is None else scoring.to(backbone.device)
        self.takes_vision = takes_vision_outputs(backbone)
        self._cache_argument = cache_argument(backbone)
        self.adapter_is_merged = False
        self.end_ids = _end_ids(backbone, processor)
        self.look_every: int | None = None
        self.familiarity: Familiarity | None = None
        self.register_buffer("end_tokens", torch.tensor(sorted(self.end_ids), device=backbone.device), persistent=False)
        self.register_buffer("never_sampled", _never_sampled(backbone, processor, self.end_ids), persistent=False)

    @property
    def device(self) -> torch.device:
        """The backbone's device; of its first layers where it is spread over several."""
        return self.backbone.device

    def merge_adapter(self) -> bool:
        """Add the backbone's adapter to its weights, for judging; return whether there was one.

        Quantised weights keep theirs apart, since their sums would be quantised again.

        Raises:
            CheckpointError: as `descore.modeling.lora.merge_adapter`.
        """
        if adapter_config(self.backbone) is None or getattr(self.backbone, "is_quantized", False):
            return False
        merge_adapter(self.backbone)
        self.adapter_is_merged = True
        return True

    # training

    def forward(self, inputs: Batch, vision: VisionOutputs | None = None) -> Forward:
        """Make one pass over whole sequences, the query token last; differentiable in every trained weight.

        Row b's hidden state at slot s predicts token s + 1; the last slot of the sequence (S - 1) predicts
        the end of the turn, which stands in no sequence, and slot S is the query token's. Being causal and
        last, it disturbs none of them.

        Args:
            inputs: a batch of `descore.encode.encode`.
            vision: ready outputs of the vision tower for the batch's videos; None: the tower runs here.

        Raises:
            RewardError: there is no scoring module.
        """
        scoring = self.require_scoring()
        positions, next_position = self.positions(inputs)
        embeds = self.backbone.get_input_embeddings()(inputs["input_ids"].to(self.device))
        embeds = torch.cat([embeds, scoring.query_embeds(len(embeds), embeds.dtype)], dim=1)
        last = next_position[:, None].expand(*positions.shape[:-1], 1)
        extended = {key: _append(inputs[key], int(key == "attention_mask")) for key in SEQUENCE_KEYS if key in inputs}
        hidden = self.backbone.base_model(
            inputs_embeds=embeds,
            position_ids=torch.cat([positions, last], dim=-1).to(self.device),
            use_cache=False,
            **self.model_inputs({**inputs, **extended}, ("input_ids",), vision),
        ).last_hidden_state
        return Forward(scoring(hidden[:, -1]), hidden)

    def rewards(self, inputs: Batch, vision: VisionOutputs | None = None) -> torch.Tensor:
        """Return the rewards (B,) of `forward`."""
        return self.forward(inputs, vision).rewards

    def token_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return next-token logits (..., V) of hidden states (..., H), e.g. of the slots that predict a thought."""
        return self.backbone.get_output_embeddings()(hidden)

    # one pass: prefill, think, score

    def prefill(self, inputs: Batch, vision: VisionOutputs | None = None) -> Thinking:
        """Read prompt and video (and a thought already in the batch, if any) into a new cache; `vision` as in `forward`."""
        (state,) = self.prefill_in_pieces(inputs, vision, slots=None)
        assert isinstance(state, Thinking)
        return state

    @torch.inference_mode()
    def prefill_in_pieces(
        self, inputs: Batch, vision: VisionOutputs | None = None, slots: int | None = PREFILL_SLOTS
    ) -> Iterator[Thinking | None]:
        """`prefill` in steps, between which a caller may leave off: the vision tower, then `slots` slots of each row.

        The numbers are those of one pass up to the order of float additions. A backbone whose vision features can't be
        handed over piece by piece reads everything in one step.

        Args:
            slots: None reads everything in one step.

        Yields:
            None after each step but the last, then the state.
        """
        positions, next_position = self.positions(inputs)
        cache = growing_cache(self.backbone.config.get_text_config())
        length = inputs["input_ids"].shape[1]
        arguments = {**self.cache_inputs(cache), "logits_to_keep": 1}
        if slots is None or not takes_pieces(self.backbone, inputs):
            slots, named = length, iter([self.model_inputs(inputs, vision=vision)])
        else:
            if vision is None:
                vision = video_features(self.backbone, inputs)
                yield None
            named = pieces_of(self.backbone, inputs, vision, slots)
        for first, piece in zip(range(0, length, slots), named, strict=True):
            if first:
                yield None
            part = positions[..., first : first + slots].to(self.device)
            logits = self.backbone(position_ids=part, **arguments, **piece).logits[:, -1]
        rows = len(logits)
        yield Thinking(
            cache=cache,
            mask=inputs["attention_mask"].to(self.device),
            next_position=next_position.to(self.device),
            logits=logits,
            thoughts=[[] for _ in range(rows)],
            running=[True] * rows,
            ends=[None] * rows,
            log_probs=[[] for _ in range(rows)],
            vision=None if vision is None else mean_features(vision),
        )

    def repeat(self, state: Thinking, times: int) -> Thinking:
        """Return the state with each row `times` times (row 0, row 0, ..., row 1, ...); it takes over the cache.

        Where the backbone allows it, the rows share the keys and values so far instead of each holding a copy.
        """
        mask, position, logits = (x.repeat_interleave(times, dim=0) for x in (state.mask, state.next_position, state.logits))
        cache, prefix = state.cache, None
        if state.prefix is None and takes_prefixes(self.backbone):
            prefix = prefix_of_cache(cache, state.mask, times)
            cache, mask = growing_cache(self.backbone.config.get_text_config()), mask[:, :0]
        else:
            cache.batch_repeat_interleave(times)
        thoughts = [list(ids) for ids in state.thoughts for _ in range(times)]
        running = [on for on in state.running for _ in range(times)]
        ends = [end for end in state.ends for _ in range(times)]
        log_probs = [list(sampled) for sampled in state.log_probs for _ in range(times)]
        return Thinking(cache, mask, position, logits, thoughts, running, ends, prefix, log_probs)

    def think(
        self, state: Thinking, max_tokens: int, uniforms: torch.Tensor | None = None, temperature: float = 1.0
    ) -> Iterator[list[int | None]]:
        """Continue every row's thought until it ends or has `max_tokens` tokens.

        Args:
            state: as `prefill` or `repeat` return it; it is changed in place.
            max_tokens: a thought is cut off there.
            uniforms: (B, max_tokens) float64 in [0, 1): the random number of each row and step, so that a row's thought
                depends on no other row. None: greedy, the most likely token at each step.
            temperature: divides the logits when sampling.

        Yields:
            After each step the new token of each row, None for a row that has ended. On a GPU the tokens of 16 steps
            come one right after the other.
        """
        every = self.look_every or (1 if self.device.type == "cpu" else LOOK_EVERY)
        if every > 1:
            yield from self._think_in_blocks(state, max_tokens, uniforms, temperature, every)
            return
        for step in range(max_tokens):
            ran = state.running
            choices = self._choose(state, None if uniforms is None else uniforms[:, step], temperature)
            ended = (was and not on for was, on in zip(ran, state.running, strict=True))
            state.ends = [token if now else end for token, now, end in zip(choices, ended, state.ends, strict=True)]
            if not any(state.running):
                return
            tokens = [token if running else None for token, running in zip(choices, state.running, strict=True)]
            for thought, token in zip(state.thoughts, tokens, strict=True):
                if token is not None:
                    thought.append(token)
            yield tokens
            self._append_tokens(state, tokens)
        # A row that would have stopped by itself just now was not cut off.
        self._choose(state, None, temperature)

    @torch.inference_mode()
    def score(self, state: Thinking) -> torch.Tensor:
        """Return rewards (B,) float32 on the CPU: one step of the query token on a fork of the state, which stays as it is.

        Raises:
            RewardError: there is no scoring module, or a reward is not finite.
        """
        scoring = self.require_scoring()
        query = scoring.query_embeds(len(state.mask), self.backbone.dtype)
        text, mask, kept = text_model(self.backbone), _append(state.mask, 1), states_of(state.cache)
        if text is not None:
            hidden = decode_step(text, query[:, 0], state.next_position, mask, state.cache, state.prefix)
        else:
            inputs = self._continued(state)
            hidden = self.backbone.base_model(inputs_embeds=query, attention_mask=mask, **inputs).last_hidden_state[:, -1]
        undo_step(state.cache, kept)
        rewards = scoring(hidden.to(scoring.query_token.device)).cpu()  # the last layers may be on another GPU
        if not torch.isfinite(rewards).all():
            raise RewardError(f"the reward is not a finite number: {rewards.tolist()}")
        return rewards

    # positions

    def positions(self, inputs: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the position ids of a batch and each row's next position.

        Returns:
            (3, B, S) for backbones with multimodal rotary positions (their own `get_rope_index`), else
            (B, S); and (B,): the number of a row's tokens + the rope delta of that row.
        """
        mask = inputs["attention_mask"]
        rope_index = getattr(self.backbone.base_model, "get_rope_index", None)
        if rope_index is None:
            return (mask.cumsum(-1) - 1).clamp(min=0), mask.sum(-1)
        names = [key for key in inputs if not key.startswith("pixel_values") and key != "thought_mask"]
        positions, deltas = rope_index(**{key: inputs[key] for key in names})
        return positions, mask.sum(-1) + deltas.reshape(-1)

    def _continued(self, state: Thinking) -> dict[str, Any]:
        """Return keyword arguments of a step that continues from a state, besides its token and mask."""
        position = state.next_position[:, None]
        axes = position.expand(3, -1, -1) if hasattr(self.backbone.base_model, "get_rope_index") else position
        inputs = {"position_ids": axes, **self.cache_inputs(state.cache)}
        return inputs if state.prefix is None else {**inputs, "shared_prefix": state.prefix}

    # steps

    @torch.inference_mode()
    def _choose(self, state: Thinking, uniforms: torch.Tensor | None, temperature: float) -> list[int]:
        """Choose the next token of each row; rows that choose an end token stop running."""
        tokens, log_probs = self.draw(state.logits, uniforms, temperature)
        choices: list[int] = tokens.tolist()
        if log_probs is not None:
            for row, (on, log_prob) in enumerate(zip(state.running, log_probs.tolist(), strict=True)):
                if on:
                    state.log_probs[row].append(log_prob)
        state.running = [on and token not in self.end_ids for on, token in zip(state.running, choices, strict=True)]
        return choices

    def draw(
        self, logits: torch.Tensor, uniforms: torch.Tensor | None, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Choose tokens of logits (B, V) without waiting for the device: ids (B,), and log P (B,) where they are sampled."""
        logits = logits.float().masked_fill(self.never_sampled, -torch.inf)
        if uniforms is None:
            return logits.argmax(-1), None
        # Inverse distribution function: one number a row and step, whatever the size of the vocabulary.
        probabilities = (logits.double() / temperature).softmax(-1)
        distribution = probabilities.cumsum(-1)
        target = uniforms.to(logits.device)[:, None] * distribution[:, -1:]
        sampled = torch.searchsorted(distribution, target, right=True)
        return sampled.squeeze(-1), probabilities.gather(-1, sampled).squeeze(-1).log()

    def _think_in_blocks(
        self, state: Thinking, max_tokens: int, uniforms: torch.Tensor | None, temperature: float, every: int
    ) -> Iterator[list[int | None]]:
        """`think` where asking the device for a token costs more than a step: it is asked once in `every` steps.

        Steps after the end of all rows are lost work; they fill slots that no row looks at.
        """
        uniforms = None if uniforms is None else uniforms.to(self.device)
        for first in range(0, max_tokens, every):
            last = min(first + every, max_tokens)
            tokens, runs, log_probs = self._block(
                state, last - first, None if uniforms is None else uniforms[:, first:last], temperature
            )
            for step, (choices, running) in enumerate(zip(tokens.tolist(), runs.tolist(), strict=True)):
                if log_probs is not None:
                    for row, on in enumerate(state.running):
                        if on:
                            state.log_probs[row].append(log_probs[step][row])
                ended = [was and not on for was, on in zip(state.running, running, strict=True)]
                state.ends = [token if now else end for token, now, end in zip(choices, ended, state.ends, strict=True)]
                state.running = running
                if not any(running):
                    return
                given = [token if on else None for token, on in zip(choices, running, strict=True)]
                for thought, token in zip(state.thoughts, given, strict=True):
                    if token is not None:
                        thought.append(token)
                yield given
        self._choose(state, None, temperature)

    @torch.inference_mode()
    def _block(
        self, state: Thinking, steps: int, uniforms: torch.Tensor | None, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor, list[list[float]] | None]:
        """Make steps without a copy to or from the device; return tokens and which rows run, (steps, B), on the CPU."""
        running = torch.tensor(state.running, device=self.device)
        tokens, runs, drawn = [], [], []
        for step in range(steps):
            token, log_probs = self.draw(state.logits, None if uniforms is None else uniforms[:, step], temperature)
            running = running & ~(token[:, None] == self.end_tokens).any(-1)
            tokens.append(token)
            runs.append(running)
            drawn += [] if log_probs is None else [log_probs]
            self._feed(state, token * running, running, looks=False)
        # One copy of each kind for the whole block, which waits for its steps.
        return torch.stack(tokens).cpu(), torch.stack(runs).cpu(), torch.stack(drawn).tolist() if drawn else None

    @torch.inference_mode()
    def _append_tokens(self, state: Thinking, tokens: list[int | None]) -> None:
        """Feed one token to each row. Rows that have ended get a masked slot, which they never look at."""
        alive = torch.tensor([token is not None for token in tokens], device=self.device)
        self._feed(state, torch.tensor([token or 0 for token in tokens], device=self.device), alive)

    def _feed(self, state: Thinking, ids: torch.Tensor, alive: torch.Tensor, looks: bool = True) -> None:
        """Feed a token to each row, ids (B,); rows that are not alive keep their states. `looks` as in `decode_step`."""
        state.mask = torch.cat([state.mask, alive[:, None].to(state.mask.dtype)], dim=1)
        text, kept = text_model(self.backbone), states_of(state.cache)
        if text is not None:
            embeds = text.embed_tokens(ids)
            hidden = decode_step(text, embeds, state.next_position, state.mask, state.cache, state.prefix, looks)
            state.logits = self.token_logits(hidden)
        else:
            inputs = self._continued(state)
            state.logits = self.backbone(input_ids=ids[:, None], attention_mask=state.mask, **inputs).logits[:, -1]
        if kept and not (looks and bool(alive.all())):
            hold_rows(kept, alive)
        state.next_position = state.next_position + alive

    # arguments of the backbone

    def require_scoring(self) -> ScoringModule:
        """Return the scoring module.

        Raises:
            RewardError: there is none.
        """
        scoring: ScoringModule | None = self.scoring
        if scoring is None:
            raise RewardError("this backbone has no trained scoring module (query token and head), so it gives no reward")
        return scoring

    def cache_inputs(self, cache: Cache) -> dict[str, Any]:
        """Return a KV cache as keyword arguments of the backbone."""
        return {self._cache_argument: cache, "use_cache": True}

    def model_inputs(
        self, inputs: Batch, without: tuple[str, ...] = (), vision: VisionOutputs | None = None
    ) -> dict[str, Any]:
        """Return a batch as keyword arguments of the backbone, on its device; `vision` takes the place of the pixels.

        Raises:
            ValueError: `vision` is given, and the backbone would ignore it (`takes_vision`).
        """
        if vision is not None and not self.takes_vision:
            raise ValueError(
                f"{type(self.backbone).__name__} of transformers {transformers.__version__} takes no ready vision features "
                "(mm_encoder_outputs); pass the pixels instead, or update transformers"
            )
        named = {
            name: value.to(self.device)
            for name, value in inputs.items()
            if name not in ("thought_mask", *without) and not (vision is not None and name.startswith("pixel_values"))
        }
        return named if vision is None else {**named, "mm_encoder_outputs": dict(vision)}


def _append(values: torch.Tensor, value: int) -> torch.Tensor:
    """Extend (B, S) to (B, S + 1) with `value` in the last column."""
    return torch.nn.functional.pad(values, (0, 1), value=value)


def _refuse_unsupported_layers(backbone: PreTrainedModel) -> None:
    if kinds := unsupported_layers(backbone.config.get_text_config()):
        raise CheckpointError(
            f"{type(backbone).__name__} has layers of {', '.join(kinds)}, on which rewards can't be read exactly: "
            "choose a backbone with full or linear attention, such as Qwen3-VL or Qwen3.5"
        )


def _end_ids(backbone: PreTrainedModel, processor: Any) -> frozenset[int]:
    """Return the tokens that end a turn, by the tokenizer and by the backbone's generation settings."""
    configured = backbone.generation_config.eos_token_id if backbone.generation_config else None
    ids = configured if isinstance(configured, list) else [configured]
    ends = frozenset(int(i) for i in [*ids, processor.tokenizer.eos_token_id] if i is not None)
    if not ends:
        raise CheckpointError("the tokenizer has no end-of-sequence token, so a thought could never end; set eos_token")
    return ends


def _never_sampled(backbone: PreTrainedModel, processor: Any, end_ids: frozenset[int]) -> torch.Tensor:
    """Mark in (V,) bool the control tokens except the end of the turn, vision tokens, and ids unknown to the tokenizer.

    A sampled vision token would crash the next forward, and a forged turn would break the sequence layout.
    """
    tokenizer, config = processor.tokenizer, backbone.config
    vocabulary = backbone.get_output_embeddings().weight.shape[0]
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    banned = {getattr(config, name, None) for name in names} | set(tokenizer.all_special_ids)
    banned |= {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    banned |= set(range(len(tokenizer), vocabulary))
    mask = torch.zeros(vocabulary, dtype=torch.bool)
    mask[[i for i in banned - end_ids - {None} if i < vocabulary]] = True
    return mask.to(backbone.device)
