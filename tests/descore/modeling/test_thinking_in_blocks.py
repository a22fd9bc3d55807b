"""Thinking as on a GPU: tokens stay on the device, and nothing waits for it within a block of steps."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from descore.encode import encode
from tests.helpers.tiny import POLICY, tiny_clip, tiny_judge, tiny_processor

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel, Thinking

# Operations that read a value on the host, or whose result's shape does.
WAITING = ("_local_scalar_dense", "nonzero", "item", "equal", "is_nonzero")


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> int:
        """How many there were."""
        return sum(self.seen[name] for name in WAITING)


@pytest.fixture
def model() -> DeScoreModel:
    return tiny_judge().model


def think(model: DeScoreModel, every: int, steps: int, seed: int | None, times: int = 1) -> tuple[Thinking, list[Any]]:
    """A padded batch of two rows, thought about with a look every so many steps; its state, and what was given out."""
    clips, prompts = [tiny_clip(1, 4), tiny_clip(2, 6)], ["A circle", "A longer prompt, which pads the other row"]
    state = model.prefill(encode(tiny_processor(), clips, prompts, policy=POLICY, prompt_version="compact-1"))
    if times > 1:
        state = model.repeat(state, times)
    uniforms = None
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        uniforms = torch.rand(2 * times, steps, generator=generator, dtype=torch.float64)
    model.look_every = every
    return state, list(model.think(state, steps, uniforms))


@pytest.mark.parametrize("every", [5, 16])
@pytest.mark.parametrize(("seed", "times"), [(None, 1), (3, 1), (4, 4)])
@pytest.mark.parametrize("ends_often", [False, True])
def test_thoughts_and_rewards_are_those_of_single_steps(
    model: DeScoreModel, every: int, seed: int | None, times: int, ends_often: bool
) -> None:
    if ends_often:  # rows stop at different steps, all of them within the limit
        more = torch.arange(97, 110)
        model.end_ids = frozenset({*model.end_ids, *more.tolist()})
        model.end_tokens = torch.tensor(sorted(model.end_ids))
    alone, given = think(model, 1, 24, seed, times)
    blocks, given_in_blocks = think(model, every, 24, seed, times)
    assert given_in_blocks == given
    assert (blocks.thoughts, blocks.running, blocks.ends) == (alone.thoughts, alone.running, alone.ends)
    assert torch.allclose(model.score(blocks), model.score(alone), atol=1e-4)
    assert len(blocks.log_probs) == len(alone.log_probs)
    for one, other in zip(blocks.log_probs, alone.log_probs, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    if seed is not None and ends_often:
        assert not all(alone.running)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("text_model", [True, False])
def test_a_block_of_steps_waits_for_nothing(
    model: DeScoreModel, seed: int | None, text_model: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not text_model:
        monkeypatch.setattr("descore.modeling.model.text_model", lambda _: None)
    state, _ = think(model, 16, 2, seed)
    uniforms = None if seed is None else torch.rand(2, 16, dtype=torch.float64)
    made: list[Any] = []
    tensor = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda *a, **k: (made.append(a), tensor(*a, **k))[1])
    with Waits() as counted:
        model._block(state, 16, uniforms, 1.0)
    steps = counted.seen["argmax" if seed is None else "searchsorted"]
    assert steps == 16
    if text_model:  # a backbone's own forward asks what it likes
        assert counted.waits == 0
        assert len(made) == 1, "which rows run is sent once a block"


def test_single_steps_would_be_counted(model: DeScoreModel) -> None:
    with Waits() as counted:
        think(model, 1, 4, None)
    assert counted.waits >= 4
