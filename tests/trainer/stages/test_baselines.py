"""The baselines: the preference reward, and that the generative one trains without a scoring module."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator

from descore.answer import render_answer
from tests.helpers.tiny_runs import TRUTH, tiny_config, tiny_pairs, tiny_stage
from trainer.engine.loop import train
from trainer.engine.metrics_log import read_metrics
from trainer.engine.stop_signals import StopSignals
from trainer.rollouts.sampling import SampledThoughts
from trainer.stages.baselines import GenerativeStage, overall_score, preference_rewards, without_scoring

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_rollout_is_rewarded_where_its_score_orders_the_pair_as_people_did() -> None:
    a, b = [4.0, 2.0, None], [3.0, 3.5, 2.5]
    assert preference_rewards(a, b, 1) == ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0])  # mean of A is 3.0, of B too
    assert preference_rewards(a, b, -1) == ([0.0, 1.0, 0.0], [0.0, 1.0, 0.0])
    assert preference_rewards(a, b, 0) == ([0.0] * 3, [0.0] * 3)
    assert preference_rewards(a, [None, None], 1) == ([0.0] * 3, [0.0] * 2)


def test_swapping_the_videos_swaps_the_rewards() -> None:
    a, b = [4.0, 1.5], [2.0, 3.0]
    assert preference_rewards(a, b, 1) == preference_rewards(b, a, -1)[::-1]


def test_the_score_is_read_from_the_thought() -> None:
    assert overall_score(render_answer("why", TRUTH, 3.25)) == 3.25
    assert overall_score("<think>no end") is None


class Scripted:
    """An engine that samples what a function says."""

    is_trained_model, gpu_bytes = True, 0.0

    def __init__(self, sample: Callable[..., SampledThoughts]) -> None:
        self._sample = sample

    def __call__(self, *args: Any, **settings: Any) -> SampledThoughts:
        return self._sample(*args, **settings)


def written(score: float, processor):
    ids = processor.tokenizer(render_answer("x", TRUTH, score), add_special_tokens=False)["input_ids"]
    return tuple(ids)


def test_the_generative_baseline_trains_the_thoughts_and_not_the_head(tmp_path: Path) -> None:
    config = replace(tiny_config(), paradigm="generative")
    config = replace(config, dual_rl=replace(without_scoring(config.dual_rl), steps=1))
    accelerator = Accelerator(cpu=True)
    stage = tiny_stage("dual-rl", config, tiny_pairs(4), tmp_path / "frames", accelerator)
    assert isinstance(stage, GenerativeStage)

    def sampler(model, _rows, seeds, *, num_generations, **_):
        """Rollout 0 gives A more than B, rollout 1 the same to both."""
        texts = [[4.0 if seed.endswith("A") else 2.0, 3.0] for seed in seeds]
        ids = tuple(tuple(written(score, model.processor) for score in group) for group in texts)
        decoded = tuple(tuple(model.processor.tokenizer.batch_decode([list(one) for one in group])) for group in ids)
        ended, ends = ((value,) * num_generations for value in (True, min(model.end_ids)))
        log_probs = tuple(tuple((-1.0,) * (len(one) + 1) for one in group) for group in ids)
        return SampledThoughts(ids, decoded, (ended,) * len(seeds), (ends,) * len(seeds), log_probs)

    stage._sampler = Scripted(sampler)
    [work] = stage.prepare(0).micro_batches
    order = stage.data.micro_batches(0, lambda pair: pair)[0].pairs
    # A's 4.0 and 3.0 against B's mean 2.5; B's 2.0 and 3.0 against A's mean 3.5
    expected = [value for pair in order for value in ([1, 1, 1, 1] if pair.label > 0 else [0, 0, 0, 0])]
    assert [score.total for score in work.batch.scores] == expected
    assert not work.batch.advantages.any()  # a group of equals teaches nothing

    before = {name: p.detach().clone() for name, p in stage.model.named_parameters()}
    flipped = [replace(pair, label=1) for pair in tiny_pairs(4)]
    stage.data.pairs = tuple(flipped)

    def uneven(*args, **kwargs):
        sampled = sampler(*args, **kwargs)
        low = written(1.0, args[0].processor)
        ids = tuple((group[0], low) for group in sampled.ids)
        texts = tuple((group[0], args[0].processor.tokenizer.decode(list(low))) for group in sampled.texts)
        log_probs = tuple(tuple((-1.0,) * (len(one) + 1) for one in group) for group in ids)
        return replace(sampled, ids=ids, texts=texts, log_probs=log_probs)

    stage._sampler = Scripted(uneven)
    (tmp_path / "run").mkdir()
    train(stage, config, tmp_path / "run", accelerator, StopSignals())
    [row] = read_metrics(tmp_path / "run")
    assert 0 < row["reward"] < 1
    assert row["grad_norm"] > 0
    changed = {name for name, p in stage.model.named_parameters() if not torch.equal(before[name], p.detach())}
    assert changed
    assert not any(name.startswith("scoring.") for name in changed)


@pytest.mark.parametrize("label", [1, -1])
def test_untouched_scores_give_no_preference_to_learn(label: int) -> None:
    assert preference_rewards([3.0, 3.0], [3.0, 3.0], label) == ([0.0, 0.0], [0.0, 0.0])
