"""Rollouts by vLLM, with real vLLM where it is installed (`make test-vllm`): probabilities, new weights, old caches."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch
from peft import LoraConfig

from descore.checkpoints.folder import load_checkpoint
from descore.encode import Row, collate, encode_prompt, pad_token_id
from descore.errors import EngineError
from descore.modeling.lora import add_adapter
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from descore.video import read_clip
from tests.helpers.paths import ROOT
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_processor
from trainer.objectives.losses import ratio_figures, sampler_ratio
from trainer.rollouts.sampling import OwnSampler, SampledThoughts, packed_log_probs
from trainer.rollouts.shared_prefix import pack_rollouts, rollout_forward
from trainer.rollouts.vllm_sampler import VllmSampler, plain_weights, serves

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel as Model

INSTALLED = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed here: make test-vllm")
GALLERY = ROOT / "app" / "gallery"
TARGETS = r".*language_model.*_proj"
LIMIT, GROUP = 40, 3
LIMITS = {"max_prompt_tokens": 400, "max_tokens": LIMIT}
CLOSE = 1e-3


def adapt(model: Model) -> None:
    """Add an adapter that changes what the model says, as one in the middle of training does."""
    torch.manual_seed(0)
    copies = ["model.visual.merger"]
    add_adapter(model.backbone, LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, modules_to_save=copies))
    for name, parameter in model.backbone.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02)


@pytest.fixture(scope="module")
def model() -> Model:
    """The bundled checkpoint in training: with an adapter, in float32."""
    model, _ = load_checkpoint("bundled", device="cpu", dtype="float32")
    adapt(model)
    return model


@pytest.fixture(scope="module")
def rows(model: Model) -> list[Row]:
    _, manifest = load_checkpoint("bundled", device="cpu", dtype="float32")
    pair = json.loads((GALLERY / "pairs.json").read_text("utf-8"))[0]
    clips = [read_clip(GALLERY / pair[side], manifest.frame_policy) for side in "ab"]
    prompts = [pair["prompt"], pair["prompt"] + " A longer prompt that says <0.5 seconds> in the middle."]
    return [
        encode_prompt(model.processor, clip, prompt, manifest.frame_policy, manifest.prompt_version)
        for clip, prompt in zip(clips, prompts, strict=True)
    ]


@pytest.fixture(scope="module")
def sampler(model: Model) -> Iterator[VllmSampler]:
    sampler = VllmSampler(model, **LIMITS)
    yield sampler
    sampler.close()


def trained_log_probs(model: Model, rows: list[Row], sampled: SampledThoughts) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the sampled tokens by the training forward, and their mask."""
    rollouts = pack_rollouts(sampled.ids, sampled.ends, model.device)
    with torch.no_grad():
        run = rollout_forward(model, collate(rows, pad_token_id(model.processor)), rollouts, temperature=0.7)
    return run.logprobs, rollouts.mask


def check_ratio(model: Model, rows: list[Row], sampled: SampledThoughts) -> None:
    """The trained model gives each sampled token the probability that the engine gave it."""
    log_probs, mask = trained_log_probs(model, rows, sampled)
    ratio = sampler_ratio(log_probs, packed_log_probs(sampled, mask.shape[1], mask.device), mask)
    assert mask.sum() > 50
    assert float((ratio - 1).abs().max()) < CLOSE
    assert ratio_figures(ratio, mask, 0.2, 0.3)["ratio_outside"] == 0
    assert len({ids for group in sampled.ids for ids in group}) > len(rows), "sampled, not greedy"


def greedy(model: Model, rows: list[Row]) -> list[list[int]]:
    model.eval()
    state = model.prefill(collate(rows, pad_token_id(model.processor)))
    for _ in model.think(state, LIMIT):
        pass
    return state.thoughts


def take_a_step(model: Model, rows: list[Row]) -> None:
    """Update the adapter, far enough that the model says something else."""
    trained = [parameter for name, parameter in model.named_parameters() if "lora_" in name or "modules_to_save" in name]
    optimizer = torch.optim.Adam(trained, lr=0.02)
    model.rewards(collate(rows, pad_token_id(model.processor))).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


SEEDS = ["0/x/A", "0/x/B"]
DRAW = {"num_generations": GROUP, "max_tokens": LIMIT, "temperature": 0.7}


@pytest.mark.slow
def test_the_own_engine_samples_from_the_trained_model(model: Model, rows: list[Row]) -> None:
    check_ratio(model, rows, OwnSampler(model)(model, rows, SEEDS, **DRAW))


@needs_vllm
def test_before_the_first_update_vllm_samples_from_the_trained_model(
    model: Model, rows: list[Row], sampler: VllmSampler
) -> None:
    check_ratio(model, rows, sampler(model, rows, SEEDS, **DRAW))
    assert sampler.greedy(model, rows, LIMIT) == greedy(model, rows)


@needs_vllm
def test_after_a_step_vllm_says_what_the_trained_model_says(model: Model, rows: list[Row], sampler: VllmSampler) -> None:
    before = sampler.greedy(model, rows, LIMIT)
    for step in (1, 2):
        take_a_step(model, rows)
        expected = greedy(model, rows)
        assert expected != before
        assert sampler.greedy(model, rows, LIMIT) == expected
        check_ratio(model, rows, sampler(model, rows, [f"{step}/x/A", f"{step}/x/B"], **DRAW))
        before = expected


@needs_vllm
def test_the_same_seeds_give_the_same_thoughts(model: Model, rows: list[Row], sampler: VllmSampler) -> None:
    one, other = (sampler(model, rows, ["7/x/A", "7/x/B"], **DRAW) for _ in range(2))
    assert one.ids == other.ids
    assert sampler(model, rows, ["8/x/A", "8/x/B"], **DRAW).ids != one.ids


@needs_vllm
def test_end_tokens_are_told_apart_from_a_limit(model: Model, rows: list[Row], sampler: VllmSampler) -> None:
    sampled = sampler(model, rows, ["9/x/A", "9/x/B"], num_generations=GROUP, max_tokens=4)
    assert {len(ids) for group in sampled.ids for ids in group} == {4}
    assert sampled.ends == ((None,) * GROUP,) * 2
    assert sampled.ended == ((False,) * GROUP,) * 2
    assert {len(each) for group in sampled.log_probs for each in group} == {4}


@needs_vllm
def test_a_smaller_budget_starts_vllm_anew(model: Model, rows: list[Row], sampler: VllmSampler) -> None:
    expected, served = sampler(model, rows, SEEDS, **DRAW, budget=4000), sampler._served
    assert sampler(model, rows, SEEDS, **DRAW, budget=4000).ids == expected.ids
    assert sampler._served is served
    assert sampler(model, rows, SEEDS, **DRAW, budget=2000).ids == expected.ids
    assert sampler._served is not served


# without vLLM


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed here")
def test_without_vllm_the_error_says_what_to_install() -> None:
    model = DeScoreModel(tiny_backbone(), tiny_processor())
    with pytest.raises(EngineError, match=r"dual_rl.engine is vllm: .* pip install"):
        VllmSampler(model, **LIMITS)


def test_other_backbones_are_refused() -> None:
    model = DeScoreModel(tiny_backbone(), tiny_processor())
    assert serves(model)
    model.backbone.config.model_type = "another"
    with pytest.raises(EngineError, match=r"dual_rl\.engine=own"):
        VllmSampler(model, **LIMITS)


def test_merged_weights_answer_as_the_adapted_model_does() -> None:
    torch.manual_seed(3)
    model = DeScoreModel(tiny_backbone(), tiny_processor(), ScoringModule(64)).eval()
    adapt(model)
    plain = tiny_backbone()
    plain.load_state_dict(dict(plain_weights(model)))
    other = DeScoreModel(plain, model.processor, model.scoring).eval()
    rows = [encode_prompt(tiny_processor(), tiny_clip(seed), "A circle", POLICY, "compact-1") for seed in (1, 2)]
    batch = collate(rows, pad_token_id(model.processor))
    assert torch.allclose(other.rewards(batch), model.rewards(batch), atol=1e-4)
    untouched = DeScoreModel(tiny_backbone(), model.processor, model.scoring)
    assert not torch.allclose(untouched.rewards(batch), model.rewards(batch))
