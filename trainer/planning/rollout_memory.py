"""What forward and backward of one micro-batch of rollouts hold, as `trainer.rollouts.in_chunks` does them. Bytes, tokens.

    shape = RolloutShape(videos=2, prompt_tokens=1400, num_generations=8, thought_tokens=1250, forward_tokens=16384)
    shape.slots, shape.is_cut       # 15012 slots at a time: six rollouts of each video; none is cut

`rollout_pass` turns a shape and the costs of a backbone's layers into bytes.
Prefixes stand while chunks of rollouts come and go: the states that their backward needs, their keys and values, and the
gradients that gather on these. On top of them comes one chunk, and in it the larger of one layer's backward and the logits
that exist at a time. At the end one layer of the prefixes goes backward when no chunk is left.
`python -m benchmarks.rollout_memory` measures the same on a CPU and prints both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.planning.layer_costs import LayerCosts

_AROUND = 4  # states of a token outside the layers: embedded, before and after the last norm, and as it predicts


@dataclass(frozen=True)
class RolloutShape:
    """Numbers of one micro-batch.

    Attributes:
        videos: V.
        prompt_tokens: of each video's prompt.
        num_generations: rollouts of each video.
        thought_tokens: of the longest rollout.
        forward_tokens: slots that go forward and backward at a time; None for all.
    """

    videos: int
    prompt_tokens: float
    num_generations: int
    thought_tokens: float
    forward_tokens: int | None

    @property
    def prefix(self) -> float:
        """Tokens of all prompts."""
        return self.videos * self.prompt_tokens

    @property
    def longest(self) -> float:
        """Slots that one rollout of each video takes, its query token included."""
        return self.videos * (self.thought_tokens + 1)

    @property
    def slots(self) -> float:
        """Slots of the largest piece that goes forward and backward at a time."""
        if self.forward_tokens is None:
            return self.longest * self.num_generations
        columns = min(self.num_generations, max(1, int(self.forward_tokens // self.longest)))
        return min(columns * self.longest, max(self.videos, self.forward_tokens))

    @property
    def is_cut(self) -> bool:
        """Whether a rollout goes in pieces."""
        return self.slots < self.longest


@dataclass(frozen=True)
class RolloutPass:
    """Bytes of one micro-batch on its way forward and backward.

    Attributes:
        prefixes: held from the first chunk to the last.
        chunk: the most that comes on top while a chunk is there.
        last: what comes on top at the end.
    """

    prefixes: float
    chunk: float
    last: float

    @property
    def peak(self) -> float:
        """The most at a time."""
        return self.prefixes + max(self.chunk, self.last)


def rollout_pass(
    language: LayerCosts, shape: RolloutShape, *, cache_bytes: float, logit_bytes: float, checkpointing: bool
) -> RolloutPass:
    """Compute what a micro-batch holds.

    Args:
        cache_bytes: keys and values of one token over all layers.
        logit_bytes: of the logits that exist at a time.
        checkpointing: each layer keeps its input alone, and is computed again in the backward.
    """
    # With checkpointing, keys and values lie beside the states that are kept; without, they are some of these.
    beside = _AROUND * language.width * language.itemsize + (cache_bytes if checkpointing else 0.0)
    standing, layer = language.standing_bytes(1, checkpointing), language.layer_bytes(1, checkpointing)
    # Cut rollouts keep the keys and values of all their slots, and as many gradients of these.
    cut = 2 * shape.longest * cache_bytes if shape.is_cut else 0.0
    on_top = max(shape.slots * layer, logit_bytes)
    return RolloutPass(
        prefixes=shape.prefix * (standing + beside + cache_bytes),
        chunk=cut + shape.slots * (standing + beside) + on_top,
        last=shape.prefix * layer,
    )
