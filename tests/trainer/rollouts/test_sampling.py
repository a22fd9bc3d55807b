"""Rollouts under a budget: the same tokens whatever else is in the batch, and never more slots than allowed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from descore.encode import Row, collate, encode_prompt, pad_token_id
from descore.modeling.decode_batch import slots_of
from tests.helpers.tiny import POLICY, tiny_clip, tiny_processor
from tests.helpers.tiny_runs import tiny_model
from trainer.data.vision_features import VisionFeatures
from trainer.rollouts.refill import Refill
from trainer.rollouts.sampling import OwnSampler, SampledThoughts, packed_log_probs, sample, uniforms

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel

GROUP, LIMIT, PLENTY = 3, 20, 10**6
SEEDS = [f"5/pair/{index}" for index in range(5)]


def ends_often() -> DeScoreModel:
    """A random model whose thoughts end at different steps; few of them reach the limit."""
    model = tiny_model()
    model.end_ids = frozenset({*model.end_ids, *range(2, 300, 8)})
    model.end_tokens = torch.tensor(sorted(model.end_ids))
    return model


def five_rows() -> list[Row]:
    """Prompts and videos of different lengths."""
    rows = []
    for index in range(5):
        clip, prompt = tiny_clip(index, frames=4 + 2 * (index % 3)), "A circle" + " that moves" * (3 * index % 4)
        rows.append(encode_prompt(tiny_processor(), clip, prompt, POLICY, "compact-1"))
    return rows


@pytest.fixture(scope="module")
def model() -> DeScoreModel:
    return ends_often()


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return five_rows()


@pytest.fixture(scope="module")
def reference(model: DeScoreModel, rows: list[Row]) -> SampledThoughts:
    """One batch of all rows, which decodes until the last one ends."""
    state = model.repeat(model.prefill(collate(rows, pad_token_id(model.processor))), GROUP)
    chances = torch.stack([uniforms(f"{seed}/{g}", LIMIT) for seed in SEEDS for g in range(GROUP)])
    for _ in model.think(state, LIMIT, chances):
        pass

    def grouped(values: list) -> tuple:
        return tuple(tuple(values[first : first + GROUP]) for first in range(0, len(values), GROUP))

    return SampledThoughts(
        ids=grouped([tuple(ids) for ids in state.thoughts]),
        texts=grouped(model.processor.tokenizer.batch_decode(state.thoughts)),
        ended=grouped([not running for running in state.running]),
        ends=grouped(state.ends),
        log_probs=grouped([tuple(each) for each in state.log_probs]),
    )


def agree(found: SampledThoughts, expected: SampledThoughts) -> None:
    assert found.ids == expected.ids
    assert (found.texts, found.ended, found.ends) == (expected.texts, expected.ended, expected.ends)
    for one, other in zip(found.log_probs, expected.log_probs, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)


def drawn(model: DeScoreModel, rows: list[Row], budget: int = PLENTY, **changes: object) -> SampledThoughts:
    settings = {"num_generations": GROUP, "max_tokens": LIMIT, "budget": budget, **changes}
    return sample(model, rows, SEEDS[: len(rows)], **settings)  # type: ignore[arg-type]


def test_the_reference_has_thoughts_of_many_lengths(reference: SampledThoughts) -> None:
    lengths = {len(ids) for group in reference.ids for ids in group}
    assert len(lengths) > 5
    assert {end is None for group in reference.ends for end in group} == {True, False}


@pytest.mark.parametrize("tokens", [10**6, 1000, 400, 1])
@pytest.mark.parametrize("look_every", [1, 16])
def test_thoughts_hang_on_their_seed_alone(
    model: DeScoreModel, rows: list[Row], reference: SampledThoughts, tokens: int, look_every: int, monkeypatch
) -> None:
    monkeypatch.setattr(model, "look_every", look_every)
    agree(drawn(model, rows, tokens), reference)


def test_a_video_alone_has_the_same_thoughts(model: DeScoreModel, rows: list[Row], reference: SampledThoughts) -> None:
    found = sample(model, rows[3:4], SEEDS[3:4], num_generations=GROUP, max_tokens=LIMIT)
    agree(found, reference.of_videos([3]))


def test_backbones_without_callable_layers_take_turns(
    model: DeScoreModel, rows: list[Row], reference: SampledThoughts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.rollouts.sampling.text_model", lambda _backbone: None)
    for tokens in (10**6, 500, 1):
        agree(drawn(model, rows, tokens), reference)


def refill(model: DeScoreModel, rows: list[Row], tokens: int, limit: int = LIMIT) -> Refill:
    model.eval()
    chances = torch.stack([uniforms(f"{seed}/{g}", limit) for seed in SEEDS for g in range(GROUP)])
    return Refill(model, rows, chances, limit, tokens, 1.0, None)


@pytest.mark.parametrize("tokens", [600, 1000, 1500])
def test_no_more_slots_are_held_than_the_budget_allows(model: DeScoreModel, rows: list[Row], tokens: int) -> None:
    queue = refill(model, rows, tokens)
    assert len(queue.run()) == len(rows) * GROUP
    assert 0.5 * tokens < queue.most_held <= tokens


def test_one_row_runs_whatever_the_budget(model: DeScoreModel, rows: list[Row]) -> None:
    queue = refill(model, rows, 1)
    queue.run()
    assert queue.most_held == slots_of(1, max(len(row["input_ids"]) for row in rows), 1, LIMIT)


@pytest.mark.slow
def test_thoughts_longer_than_expected_begin_anew_and_come_out_the_same() -> None:
    model, rows, limit = tiny_model(), five_rows(), 200  # this one's thoughts go on to the limit
    plenty, tight = refill(model, rows, 10**6, limit), refill(model, rows, 3500, limit)
    expected, found = plenty.run(), tight.run()
    assert [thought.ids for thought in found] == [thought.ids for thought in expected]
    assert plenty.restarts == 0
    assert tight.restarts > 0
    assert tight.most_held <= 3500


def test_ready_vision_features_reach_their_videos(rows: list[Row], tmp_path: Path, reference: SampledThoughts) -> None:
    model = ends_often()
    model.backbone.base_model.visual.requires_grad_(False)
    vision = VisionFeatures(model, tmp_path).of(rows)
    agree(drawn(model, rows, 800, vision=vision), reference)


def test_an_adapter_is_merged_while_sampling_and_gives_the_same_thoughts(rows: list[Row]) -> None:
    model = tiny_model(lora=True)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    apart = drawn(model, rows)
    sampler = OwnSampler(model)
    agree(sampler(model, rows, SEEDS, num_generations=GROUP, max_tokens=LIMIT, budget=1000), apart)
    assert sampler.is_trained_model
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert apart.ids != drawn(tiny_model(), rows).ids


def test_log_probabilities_are_packed_beside_the_tokens(reference: SampledThoughts) -> None:
    packed = packed_log_probs(reference, LIMIT + 1, torch.device("cpu"))
    assert packed.shape == (5 * GROUP, LIMIT + 1)
    for index, row in enumerate(each for group in reference.log_probs for each in group):
        assert packed[index, : len(row)].tolist() == pytest.approx(list(row))
        assert not packed[index, len(row) :].any()


def test_parts_of_thoughts_are_joined_again(reference: SampledThoughts) -> None:
    parts = [reference.of_videos([0, 1]), reference.of_videos([2, 3, 4])]
    assert SampledThoughts.joined(parts) == reference
