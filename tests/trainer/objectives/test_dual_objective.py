"""Stage 2 on a tiny random Qwen3-VL: what is sampled, rewarded and learnt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from descore.encode import encode_prompt
from descore.modeling.decode_batch import DecodeBatch, DecodedRow
from descore.modeling.lora import add_adapter
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_processor
from trainer.data.vision_features import VisionFeatures
from trainer.objectives.dual_objective import DualObjective
from trainer.objectives.dual_objective_config import DualObjectiveConfig
from trainer.objectives.rollout_batch import RLPair, batch_logprobs, collect
from trainer.objectives.rollout_reward import RolloutRewardConfig

pytestmark = pytest.mark.training

CONFIG = DualObjectiveConfig(num_generations=3, max_tokens=10, reward=RolloutRewardConfig(length_low=2, length_high=9))


def make_model(lora: bool = False) -> DeScoreModel:
    torch.manual_seed(3)
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    backbone = tiny_backbone(1)
    if lora:
        add_adapter(backbone, LoraConfig(r=4, target_modules=r".*language_model.*_proj", init_lora_weights=False))
    return DeScoreModel(backbone, tiny_processor(), scoring).eval()


def make_pairs(count: int = 2) -> list[RLPair]:
    processor = tiny_processor()
    pairs = []
    for index in range(count):
        rows = [encode_prompt(processor, tiny_clip(2 * index + side), f"prompt {index}", POLICY) for side in (0, 1)]
        truth = {"subject": "2", "style": "N/A"}
        pairs.append(RLPair(f"pair-{index}", (rows[0], rows[1]), (truth, {}), label=1 - 2 * (index % 2)))
    return pairs


def test_a_rollout_depends_on_nothing_else_in_the_batch() -> None:
    model, pairs = make_model(), make_pairs(3)
    together = collect(model, pairs, 7, CONFIG).thoughts
    alone = collect(model, pairs[1:2], 7, CONFIG).thoughts
    assert together.ids[2:4] == alone.ids
    assert collect(model, pairs[1:2], 8, CONFIG).thoughts.ids != alone.ids
    assert len({ids for one in together.ids for ids in one}) > 6  # rollouts of a group differ from each other


def end_with(monkeypatch: pytest.MonkeyPatch, ends: Sequence[tuple[int, int]]) -> None:
    """Let row i have a thought of ends[i][0] tokens and then the end token ends[i][1], whatever the model would say."""

    def forced(batch: DecodeBatch) -> None:
        assert batch._logits is not None
        batch._logits = batch._logits.clone()
        for index, row in enumerate(batch.rows):
            length, end = ends[row.row]
            batch._logits[index, sorted(batch._model.end_ids)] = -torch.inf
            if len(row.thought) >= length:
                batch._logits[index] = -100.0
                batch._logits[index, end] = 100.0

    def decoding(batch: DecodeBatch, steps: int) -> None:
        forced(batch)
        decode(batch, steps)

    def stopping(batch: DecodeBatch, rows: Collection[DecodedRow]) -> list[bool]:
        forced(batch)
        return stop(batch, rows)

    decode, stop = DecodeBatch.decode, DecodeBatch.stop
    monkeypatch.setattr(DecodeBatch, "decode", decoding)
    monkeypatch.setattr(DecodeBatch, "stop", stopping)


def test_the_end_tokens_that_were_sampled_are_learnt_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, backbone = tiny_processor().tokenizer, tiny_backbone(1)
    text, turn = (tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|im_end|>"))
    backbone.generation_config.eos_token_id = [turn, text]  # as Qwen3-VL-Instruct has it
    model = DeScoreModel(backbone, tiny_processor(), ScoringModule(64)).eval()
    assert model.end_ids == {turn, text}
    # Row 2 would stop right at the limit, where nothing is sampled any more; row 4 goes on.
    end_with(monkeypatch, [(1, turn), (2, text), (10, turn), (3, text), (99, turn), (4, turn)])
    batch = collect(model, make_pairs(1), 0, CONFIG)
    assert batch.thoughts.ends == ((turn, text, None), (text, None, turn))
    assert batch.thoughts.ended == ((True, True, True), (True, False, True))
    tokens, mask, lengths = batch.rollouts.tokens, batch.rollouts.mask, batch.rollouts.lengths
    assert lengths.tolist() == [1, 2, 10, 3, 10, 4]
    assert mask.sum(-1).tolist() == [2, 3, 10, 4, 10, 5]
    assert [int(tokens[row, lengths[row]]) for row in (0, 1, 3, 5)] == [turn, text, text, turn]


def test_a_group_without_truth_has_no_advantages(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    end_with(monkeypatch, [(length, min(model.end_ids)) for length in (1, 5, 9, 1, 5, 9)])
    batch = collect(model, make_pairs(1), 0, CONFIG)  # of B no sub-score is known
    assert [score.length for score in batch.scores[3:]] == [0.0, pytest.approx(3 / 7), 1.0]
    assert batch.advantages[:3].all()
    assert not batch.advantages[3:].any()
    assert batch.comparisons == 3  # the Bradley-Terry loss trains on them all the same


def test_every_trainable_weight_changes_and_no_frozen_one() -> None:
    model = make_model(lora=True)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith("scoring."))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-3, weight_decay=0.0)
    batch = collect(model, make_pairs(), 0, CONFIG)
    batch.advantages = torch.linspace(-1, 1, len(batch.advantages))  # random thoughts are all equally bad
    model.train()
    DualObjective(model, CONFIG)(batch).loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(before[name], parameter.detach()) != parameter.requires_grad, name


def test_both_objectives_reach_the_backbone_and_only_one_the_head() -> None:
    model, pairs = make_model(), make_pairs()
    batch = collect(model, pairs, 0, CONFIG)
    batch.advantages = torch.linspace(-1, 1, len(batch.advantages))

    def gradient_norms(config: DualObjectiveConfig, advantages: torch.Tensor) -> tuple[float, float]:
        batch.advantages = advantages
        model.zero_grad()
        DualObjective(model, config)(batch).loss.backward()
        backbone = sum(float(p.grad.norm()) for p in model.backbone.parameters() if p.grad is not None)
        head = float(model.require_scoring().head.weight.grad.norm())
        return backbone, head

    nothing = torch.zeros_like(batch.advantages)
    only_policy = DualObjectiveConfig(num_generations=3, max_tokens=10, bt_weight=0.0)
    policy = gradient_norms(only_policy, batch.advantages)
    preference = gradient_norms(CONFIG, nothing)
    assert policy[0] > 0
    assert policy[1] == 0
    assert preference[0] > 0
    assert preference[1] > 0


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    model, pairs = make_model(), make_pairs(2)
    objective = DualObjective(model, CONFIG)
    whole = collect(model, pairs, 0, CONFIG)
    parts = [collect(model, [pair], 0, CONFIG) for pair in pairs]
    for batch in (whole, *parts):
        rows = batch.advantages.shape[0]
        batch.advantages = torch.linspace(-1, 1, 12)[:rows] if batch is not parts[1] else torch.linspace(-1, 1, 12)[6:]
    expected = objective(whole).loss
    found = sum(objective(part, whole.tokens, whole.comparisons).loss for part in parts)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("budget", [None, 20, 4])
def test_the_chunked_backward_gives_loss_and_gradients_of_the_whole(budget: int | None) -> None:
    model = make_model()
    objective, batch = DualObjective(model, CONFIG), collect(model, make_pairs(), 0, CONFIG)
    batch.advantages = torch.linspace(-1, 1, 12)
    batch.reference = batch_logprobs(model, batch, CONFIG) + 0.1
    losses = objective(batch, 100.0, 10.0)
    (3 * losses.loss).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    parts = objective.backward(batch, 100.0, 10.0, budget, scale=3.0)
    assert parts.keys() == losses.parts.keys()
    for name, value in losses.parts.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-7, name


def test_kept_vision_features_give_the_same_rollouts_and_losses(tmp_path: Path) -> None:
    model, pairs = make_model(), make_pairs()
    model.backbone.base_model.visual.requires_grad_(False)
    plain = collect(model, pairs, 0, CONFIG)
    cache = VisionFeatures(model, tmp_path)
    rows = [row for pair in pairs for row in pair.rows]
    for _ in range(2):
        shared = collect(model, pairs, 0, CONFIG, vision=cache.of(rows))
        assert shared.thoughts.ids == plain.thoughts.ids
        a, b = (DualObjective(model, CONFIG)(one).loss for one in (plain, shared))
        torch.testing.assert_close(a, b)
    assert (cache.misses, cache.hits) == (4, 4)


def test_a_damaged_feature_file_is_made_again(tmp_path: Path) -> None:
    model = make_model()
    model.backbone.base_model.visual.requires_grad_(False)
    row = make_pairs(1)[0].rows[0]
    first = VisionFeatures(model, tmp_path).of([row])
    [file] = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    again = VisionFeatures(model, tmp_path)
    second = again.of([row])
    assert again.misses == 1
    torch.testing.assert_close(first["video"].pooler_output[0], second["video"].pooler_output[0])


def test_features_of_a_tower_in_training_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="freeze it"):
        VisionFeatures(make_model(), tmp_path)
