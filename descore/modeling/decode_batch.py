"""Rows of several videos that think together while rows come and go: a row that ends makes room for one that waits.

`DecodeBatch.add_videos` takes over prompts that were read, once for all rows of a video; `DecodeBatch.arrange` lets rows
leave and come in; `DecodeBatch.decode` draws tokens for those that run.

What a row thinks depends on its video and its random numbers alone. Rows of a video share its keys and values; a row's own
lie in a cache that has no slots from before it came. The numbers are those of `DeScoreModel.think` up to the order of float
additions. It needs the layers of `descore.modeling.decode_step.text_model`.

Shapes: N rows, V videos, P slots of prefix, T tokens a thought may have.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from descore.modeling.decode_step import decode_step, text_model
from descore.modeling.prefix_attention import SharedPrefix
from descore.modeling.uneven_rows import largest_group, uneven_rows

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel, Thinking

_Layer = tuple[torch.Tensor, torch.Tensor]
# Slots made at a time: few beside a thought, enough that growing, which copies everything, is rare.
_SLOTS = 64


@dataclass(eq=False)
class DecodedRow:
    """One thought on its way.

    Attributes:
        row: its random numbers among all.
        video: the name of its video.
        thought: its tokens so far, without an end token.
        log_probs: of these and of the end token, under the distribution that they were drawn from.
        end: the end token that it drew; None while it runs, and where it was cut off.
        running: it draws further tokens.
    """

    row: int
    video: int
    thought: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    end: int | None = None
    running: bool = True


class DecodeBatch:
    """Rows that decode together.

    Attributes:
        rows: in the order of the batch.
        videos: the names of the videos whose keys and values are held.
    """

    def __init__(self, model: DeScoreModel, uniforms: torch.Tensor, temperature: float = 1.0) -> None:
        """Make an empty batch.

        Args:
            uniforms: (all rows, T) float64 in [0, 1).
            temperature: divides the logits.

        Raises:
            ValueError: the backbone's layers can't be called one by one.
        """
        text = text_model(model.backbone)
        if text is None:
            raise ValueError(f"the layers of {type(model.backbone).__name__} can't be called one by one; use `think`")
        self.rows: list[DecodedRow] = []
        self.videos: list[int] = []
        self._model, self._text, self._temperature = model, text, temperature
        self._uniforms = uniforms.to(model.device)
        self._own = RowCache(model.device)
        self._layers: dict[int, _Layer] = {}
        self._mask = torch.zeros(0, 0, dtype=torch.bool, device=model.device)  # (V, P)
        self._first_logits: torch.Tensor | None = None  # (V, vocabulary)
        self._first_position = torch.zeros(0, dtype=torch.long, device=model.device)  # (V,)
        self._logits: torch.Tensor | None = None  # (N, vocabulary)
        self._position = self._first_position  # (N,)
        self._prefix: SharedPrefix | None = None

    @property
    def held(self) -> int:
        """Number of cached slots: those of the videos, padding included, and those of the rows."""
        return int(self._mask.numel()) + len(self.rows) * self._own.slots

    @torch.inference_mode()
    def add_videos(self, names: Sequence[int], state: Thinking) -> None:
        """Take over the cache of prompts that were read, as `DeScoreModel.prefill` returns it."""
        mask, logits = state.mask.bool(), state.logits
        width = max(self._mask.shape[1], mask.shape[1])
        for index, layer in enumerate(state.cache.layers):
            keys, values = (_padded(each, width, slots=2) for each in (layer.keys, layer.values))
            layer.keys = layer.values = None  # so that both copies are there for one layer at a time only
            if (before := self._layers.get(index)) is not None:
                keys = torch.cat([_padded(before[0], width, slots=2), keys])
                values = torch.cat([_padded(before[1], width, slots=2), values])
            # As they were computed, heads lie between the slots, and each step would copy all to multiply with it.
            self._layers[index] = (keys.contiguous(), values.contiguous())
        self._mask = torch.cat([_padded(self._mask, width, slots=1), _padded(mask, width, slots=1)])
        self._first_logits = logits if self._first_logits is None else torch.cat([self._first_logits, logits])
        self._first_position = torch.cat([self._first_position, state.next_position])
        self.videos += names

    @torch.inference_mode()
    def arrange(
        self, leaving: Collection[DecodedRow], joining: Sequence[tuple[int, int]], needed: Collection[int] = ()
    ) -> list[DecodedRow]:
        """Let rows leave, and rows come in behind the others.

        Args:
            joining: random numbers and video of each new row.
            needed: videos to hold although none of the rows is theirs.

        Returns:
            The new rows.
        """
        gone = set(leaving)
        stay = [index for index, row in enumerate(self.rows) if row not in gone]
        new = [DecodedRow(row, video) for row, video in joining]
        self.rows = [*(self.rows[index] for index in stay), *new]
        self._drop_videos({row.video for row in self.rows} | set(needed))
        index_of = {name: index for index, name in enumerate(self.videos)}
        order = torch.tensor(stay, dtype=torch.long, device=self._model.device)
        chosen = torch.tensor([index_of[row.video] for row in new], dtype=torch.long, device=self._model.device)
        assert self._first_logits is not None
        first = self._first_logits[chosen]
        self._logits = first if self._logits is None else torch.cat([self._logits[order], first])
        self._position = torch.cat([self._position[order], self._first_position[chosen]])
        self._own.arrange(stay, len(new), max((len(row.thought) for row in self.rows), default=0))
        if self.rows:
            video_of_row = [index_of[row.video] for row in self.rows]
            uneven = uneven_rows(video_of_row, len(self.videos), self._model.device)
            mask = None if bool(self._mask.all()) else self._mask
            self._prefix = SharedPrefix(self._layers, mask, largest_group(video_of_row), uneven=uneven)
        return new

    @torch.inference_mode()
    def decode(self, steps: int) -> None:
        """Draw up to `steps` tokens for each running row, without waiting for the device in between.

        A row must have room for them within T. Steps after the end of a row are lost work.
        """
        device, ends = self._model.device, self._model.end_tokens
        running = torch.tensor([row.running for row in self.rows], device=device)
        numbers = torch.tensor([row.row for row in self.rows], device=device)
        counts = torch.tensor([len(row.thought) for row in self.rows], device=device)
        tokens, runs, log_probs = [], [], []
        for step in range(steps):
            uniforms = self._uniforms[numbers, (counts + step).clamp(max=self._uniforms.shape[1] - 1)]
            token, drawn = self._model.draw(self._logits, uniforms, self._temperature)
            running = running & ~(token[:, None] == ends).any(-1)
            tokens.append(token)
            runs.append(running)
            log_probs.append(drawn)
            if steps == 1 and not bool(running.any()):  # who looks after each token needn't feed the last one
                break
            self._feed(token * running, running, looks=steps == 1)
        self._note(torch.stack(tokens).tolist(), torch.stack(runs).tolist(), torch.stack(log_probs).tolist())

    @torch.inference_mode()
    def stop(self, rows: Collection[DecodedRow]) -> list[bool]:
        """Cut rows off; return for each whether it would have ended by itself just now, an end token being most likely."""
        chosen = torch.tensor([self.rows.index(row) for row in rows], dtype=torch.long, device=self._model.device)
        assert self._logits is not None
        likeliest, _ = self._model.draw(self._logits[chosen], None, self._temperature)
        for row in rows:
            row.running = False
        return [token in self._model.end_ids for token in likeliest.tolist()]

    def _feed(self, ids: torch.Tensor, alive: torch.Tensor, looks: bool) -> None:
        embeds = self._text.embed_tokens(ids)
        hidden = decode_step(self._text, embeds, self._position, self._own.seen(), self._own, self._prefix, looks)
        self._logits = self._model.token_logits(hidden)
        self._position = self._position + alive
        self._own.advance(alive)

    def _note(self, tokens: list[list[int]], runs: list[list[bool]], log_probs: list[list[float]]) -> None:
        """Write what was drawn in each step to the rows."""
        for drawn, running, sampled in zip(tokens, runs, log_probs, strict=True):
            for row, token, on, log_prob in zip(self.rows, drawn, running, sampled, strict=True):
                if not row.running:
                    continue
                row.log_probs.append(log_prob)
                if on:
                    row.thought.append(token)
                else:
                    row.end, row.running = token, False

    def _drop_videos(self, needed: set[int]) -> None:
        """Let go of videos that no row needs, and of slots that are padding in all the others."""
        if needed.issuperset(self.videos):
            return
        kept = [index for index, name in enumerate(self.videos) if name in needed]
        order = torch.tensor(kept, dtype=torch.long, device=self._model.device)
        mask = self._mask[order]
        first = int(mask.any(0).int().argmax()) if kept else mask.shape[1]
        self.videos = [self.videos[index] for index in kept]
        self._mask = mask[:, first:]
        assert self._first_logits is not None
        self._first_logits, self._first_position = self._first_logits[order], self._first_position[order]
        for index, (keys, values) in self._layers.items():
            self._layers[index] = (keys[order, :, first:], values[order, :, first:])


class RowCache:
    """Keys and values of the rows' own tokens: each row's lie in its first slots, whatever the others have.

    transformers' caches write every row's new token into the same slot, so a row that comes later would carry empty slots
    from all steps before it. Shapes: B rows, K key heads, S slots, D channels.

    Attributes:
        lengths: (B,) filled slots of each row, on the device.
        width: slots that the next step reads, its own included: at least those of the longest row.
        slots: slots that each row has room for.
    """

    def __init__(self, device: torch.device) -> None:
        self.lengths = torch.zeros(0, dtype=torch.long, device=device)
        self.width = 1
        self.slots = 0
        self._rooms: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def arrange(self, stay: Sequence[int], joining: int, longest: int) -> None:
        """Keep some rows in the order of `stay`, and add `joining` empty ones behind them.

        Args:
            longest: filled slots of the longest row that stays.
        """
        order = torch.tensor(stay, dtype=torch.long, device=self.lengths.device)
        self.lengths = torch.cat([self.lengths[order], self.lengths.new_zeros(joining)])
        self.width = longest + 1
        self.slots = slots_for(self.width)
        for layer, room in self._rooms.items():
            keys, values = (self._arranged(each, order, joining, longest) for each in room)
            self._rooms[layer] = (keys, values)

    def seen(self) -> torch.Tensor:
        """Return (B, S) bool for the next step: the filled slots of each row and its new one."""
        return torch.arange(self.width, device=self.lengths.device) <= self.lengths[:, None]

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Put keys and values (B, K, 1, D) into the next slot of each row; return the first `width` slots of all."""
        room = self._rooms.get(layer)
        if room is None or room[0].shape[2] < self.width:
            self.slots = slots_for(self.width)
            before = room or (None, None)
            self._rooms[layer] = room = (self._grown(before[0], key), self._grown(before[1], value))
        rows = torch.arange(len(key), device=key.device)
        for kept, new in zip(room, (key, value), strict=True):
            kept[rows, :, self.lengths] = new[:, :, 0]
        keys, values = (kept[:, :, : self.width] for kept in room)
        return keys, values

    def advance(self, alive: torch.Tensor) -> None:
        """Count the slot of this step for the rows that live, (B,) bool; the others write over theirs in the next step."""
        self.lengths = self.lengths + alive
        self.width += 1

    def _arranged(self, room: torch.Tensor, order: torch.Tensor, joining: int, longest: int) -> torch.Tensor:
        arranged = room.new_zeros(len(order) + joining, room.shape[1], self.slots, room.shape[3])
        arranged[: len(order), :, :longest] = room[order, :, :longest]
        return arranged

    def _grown(self, room: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """Copy to a room with more slots. They hold zeros: a weight of 0 times whatever lay there might not be 0."""
        grown = like.new_zeros(*like.shape[:2], self.slots, like.shape[3])
        if room is not None:
            grown[:, :, : room.shape[2]] = room
        return grown


def slots_for(tokens: int) -> int:
    """How many slots a row of `tokens` tokens takes."""
    return -(-tokens // _SLOTS) * _SLOTS


def slots_of(videos: int, longest_prompt: int, rows: int, longest_thought: int) -> int:
    """How many slots a batch takes: those of the videos once, those of the rows each, all as long as the longest."""
    return videos * longest_prompt + rows * slots_for(longest_thought + 1)


def _padded(values: torch.Tensor, width: int, slots: int) -> torch.Tensor:
    """Put empty slots before the others, up to `width`; slots: the dimension that they are."""
    missing = width - values.shape[slots]
    return F.pad(values, (*[0, 0] * (values.ndim - 1 - slots), missing, 0)) if missing else values
