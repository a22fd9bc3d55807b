"""Think and score in one pass, against a clean full forward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from descore.encode import Batch, Thought, encode
from descore.errors import CheckpointError, RewardError
from descore.modeling.backbone import load_backbone
from descore.modeling.model import DeScoreModel, Thinking
from descore.modeling.prefill_pieces import video_features
from descore.modeling.scoring_head import ScoringModule
from descore.video.types import VideoClip
from tests.helpers.tiny import POLICY, SPECIAL, reads_in_pieces, tiny_backbone, tiny_clip, tiny_processor

EXACT = {"atol": 1e-4, "rtol": 0.0}
PROMPTS = ["A red circle", "A much longer prompt, so that the other row needs padding on its left"]


@pytest.fixture(scope="module")
def model() -> DeScoreModel:
    torch.manual_seed(1)
    scoring = ScoringModule(64)
    torch.nn.init.normal_(scoring.query_token)
    return DeScoreModel(tiny_backbone(), tiny_processor(), scoring).eval()


def batch(clips: Sequence[VideoClip], prompts: Sequence[str] = PROMPTS, thoughts: Sequence[Thought] | None = None) -> Batch:
    return encode(tiny_processor(), clips, prompts, thoughts, policy=POLICY, prompt_version="compact-1")


def clips() -> list[VideoClip]:
    return [tiny_clip(1, frames=4), tiny_clip(2, frames=6)]


def sample(model: DeScoreModel, inputs: Batch, steps: int = 24, seed: int = 0, temperature: float = 1.0) -> Thinking:
    state = model.prefill(inputs)
    uniforms = torch.rand(len(state.mask), steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for _ in model.think(state, steps, uniforms, temperature):
        pass
    return state


def clean_rewards(model: DeScoreModel, prompts: Sequence[str], thoughts: Sequence[Thought] | None) -> torch.Tensor:
    """Each row alone, no padding, no cache."""
    with torch.inference_mode():
        rows = zip(clips(), prompts, thoughts or ["", ""], strict=True)
        return torch.cat([model.rewards(batch([c], [p], [t])) for c, p, t in rows])


def end_after(model: DeScoreModel, monkeypatch: pytest.MonkeyPatch, lengths: Sequence[int]) -> None:
    """Let row i choose the end token at its step lengths[i], whatever the random model would say."""
    choose, end, steps = model._choose, min(model.end_ids), [0]

    def choosing(state: Thinking, *args: object) -> list[int]:
        state.logits = state.logits.clone()
        for row, length in enumerate(lengths):
            if steps[0] >= length:
                state.logits[row] = -100.0
                state.logits[row, end] = 100.0
            else:
                state.logits[row, end] = -torch.inf
        steps[0] += 1
        return choose(state, *args)

    monkeypatch.setattr(model, "_choose", choosing)


def test_reward_from_the_cache_equals_a_clean_forward(model: DeScoreModel) -> None:
    inputs = batch(clips())
    assert (inputs["attention_mask"].sum(-1) < inputs["attention_mask"].shape[1]).any(), "no row is padded"
    state = sample(model, inputs)
    found = model.score(state)
    torch.testing.assert_close(found, clean_rewards(model, PROMPTS, state.thoughts), **EXACT)
    torch.testing.assert_close(model.score(state), found, atol=0, rtol=0)  # the cache was left as it was


@pytest.mark.parametrize("lengths", [(3, 20), (20, 3), (0, 9), (7, 7)])
def test_rows_that_stop_early_keep_exactly_their_own_thought(
    model: DeScoreModel, monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, int]
) -> None:
    end_after(model, monkeypatch, lengths)
    state = sample(model, batch(clips()))
    assert [len(thought) for thought in state.thoughts] == list(lengths)
    assert state.running == [False, False]
    torch.testing.assert_close(model.score(state), clean_rewards(model, PROMPTS, state.thoughts), **EXACT)


def test_another_batch_in_between_changes_nothing(model: DeScoreModel) -> None:
    expected = model.score(sample(model, batch(clips())))
    state = model.prefill(batch(clips()))
    steps = model.think(state, 24, torch.rand(2, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    next(steps)
    other = batch([tiny_clip(5, frames=8, width=64)], ["something else"])
    model.score(sample(model, other))
    with torch.inference_mode():  # transformers' own call leaves its rope_deltas in the module
        kept = {key: value for key, value in other.items() if key != "thought_mask"}
        model.backbone.generate(**kept, max_new_tokens=2, do_sample=False)
    assert model.backbone.model.rope_deltas is not None
    for _ in steps:
        pass
    torch.testing.assert_close(model.score(state), expected, **EXACT)


def test_without_a_thought(model: DeScoreModel) -> None:
    found = model.score(model.prefill(batch(clips())))
    torch.testing.assert_close(found, clean_rewards(model, PROMPTS, None), **EXACT)


def test_training_forward_with_padding_equals_rows_alone(model: DeScoreModel) -> None:
    thoughts = ["<think>one</think>", "<think>a longer one</think><answer>"]
    found = model.rewards(batch(clips(), thoughts=thoughts))
    torch.testing.assert_close(found.detach(), clean_rewards(model, PROMPTS, thoughts), **EXACT)


def test_token_logits_of_the_training_forward_are_those_of_thinking(model: DeScoreModel) -> None:
    """One forward gives the thought's log-probabilities too: teacher forcing agrees with what was sampled
    from."""
    inputs = batch(clips())
    state = model.prefill(inputs)
    logits, steps = [state.logits.clone()], model.think(state, 5)
    for _ in range(5):
        next(steps)
        logits.append(state.logits.clone())
    with torch.inference_mode():
        forward = model(batch(clips(), thoughts=[ids[:4] for ids in state.thoughts]))
        found = model.token_logits(forward.hidden[:, -6:-1])
    torch.testing.assert_close(found, torch.stack(logits[1:], dim=1), atol=1e-3, rtol=0)


def test_gradients_reach_everything_that_trains(model: DeScoreModel) -> None:
    model.zero_grad()
    inputs = batch(clips(), thoughts=["<think>x</think>", ""])
    rewards = model.rewards(inputs)
    (-torch.nn.functional.logsigmoid(rewards[0] - rewards[1])).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    model.zero_grad()
    assert without == []


def test_greedy_thinking_is_deterministic_and_ends_at_the_limit(model: DeScoreModel) -> None:
    thoughts = []
    for _ in range(2):
        state = model.prefill(batch(clips()))
        steps = list(model.think(state, 7))
        thoughts.append(state.thoughts)
        assert len(steps) <= 7
    assert thoughts[0] == thoughts[1]


@pytest.mark.slow
def test_control_ids_are_never_sampled(model: DeScoreModel) -> None:
    tokenizer = model.processor.tokenizer
    banned = set(tokenizer.convert_tokens_to_ids(SPECIAL)) | set(range(len(tokenizer), len(tokenizer) + 5))
    seen: set[int] = set()
    for seed in range(4):
        state = sample(model, batch(clips()), steps=150, seed=seed, temperature=50.0)
        seen |= {token for thought in state.thoughts for token in thought}
    assert len(seen) > 150, "hot sampling should reach most of the vocabulary"
    assert not seen & banned


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2.0**-53])
def test_sampling_never_leaves_the_allowed_ids_at_the_ends(model: DeScoreModel, uniform: float) -> None:
    state = model.prefill(batch(clips()))
    state.logits = torch.zeros(state.logits.shape)
    chosen = model._choose(state, torch.full((2,), uniform, dtype=torch.float64), 1.0)
    allowed = (~model.never_sampled).nonzero().squeeze(1)
    assert chosen == [int(allowed[0 if uniform == 0.0 else -1])] * 2


def test_sampling_follows_the_distribution(model: DeScoreModel) -> None:
    state = model.prefill(batch(clips()))
    state.logits = torch.full(state.logits.shape, -100.0)
    state.logits[:, 10], state.logits[:, 20] = torch.tensor(0.75).log(), torch.tensor(0.25).log()
    draws = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    first = sum(model._choose(state, u.repeat(2), 1.0)[0] == 10 for u in draws) / len(draws)
    assert abs(first - 0.75) < 0.03


def test_repeated_rows_share_one_prefill_and_think_apart(model: DeScoreModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    tower = model.backbone.model.visual
    monkeypatch.setattr(tower, "forward", lambda *a, f=tower.forward, **k: (calls.append(1), f(*a, **k))[1])
    state = model.repeat(model.prefill(batch(clips())), 3)
    uniforms = torch.rand(6, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in model.think(state, 12, uniforms):
        pass
    assert calls == [1]
    assert len({tuple(t) for t in state.thoughts}) == 6
    found = model.score(state).reshape(2, 3)
    for rollout in range(3):
        expected = clean_rewards(model, PROMPTS, state.thoughts[rollout::3])
        torch.testing.assert_close(found[:, rollout], expected, **EXACT)


def test_reward_depends_on_video_frame_order_prompt_and_thought(model: DeScoreModel) -> None:
    clip = tiny_clip(1)
    turned = VideoClip(clip.frames[::-1].copy(), clip.timestamps, clip.duration, clip.reader)
    variants = {
        "same": (clip, PROMPTS[0], "<think>a</think>"),
        "other video": (tiny_clip(9), PROMPTS[0], "<think>a</think>"),
        "frames turned round": (turned, PROMPTS[0], "<think>a</think>"),
        "other prompt": (clip, "A blue square", "<think>a</think>"),
        "other thought": (clip, PROMPTS[0], "<think>b</think>"),
    }
    with torch.inference_mode():
        rewards = {name: float(model.rewards(batch([c], [p], [t]))) for name, (c, p, t) in variants.items()}
    for name, reward in rewards.items():
        if name != "same":
            assert abs(reward - rewards["same"]) > 1e-3, (name, rewards)


def test_without_scoring_module_there_are_thoughts_and_no_reward() -> None:
    bare = DeScoreModel(tiny_backbone(), tiny_processor())
    state = bare.prefill(batch(clips()))
    next(bare.think(state, 3))
    with pytest.raises(RewardError, match="no trained scoring module"):
        bare.score(state)
    with pytest.raises(RewardError):
        bare.rewards(batch(clips()))


def test_a_reward_that_is_not_finite_is_refused() -> None:
    broken = DeScoreModel(tiny_backbone(), tiny_processor(), ScoringModule(64))
    with torch.no_grad():
        broken.scoring.head.weight.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(RewardError, match="finite"):
        broken.score(broken.prefill(batch(clips())))


def test_cudnn_plans_no_attention_for_each_length_of_a_thought(tmp_path: Path) -> None:
    """On a GPU that took nine tenths of a judgement's time; the flag is there without one, too."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    tiny_backbone().save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    load_backbone(tmp_path)
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_a_scoring_module_of_another_size_is_refused() -> None:
    with pytest.raises(CheckpointError, match="channels"):
        DeScoreModel(tiny_backbone(), tiny_processor(), ScoringModule(63))


@pytest.mark.slow
def test_composes_with_the_8b_architecture() -> None:
    """Qwen3-VL-8B's own configuration, on the meta device: no memory, real shapes."""
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "max_position_embeddings": 262144,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5000000, "mrope_section": [24, 20, 20],
                                "mrope_interleaved": True},
        },
        vision_config={
            "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16,
            "out_hidden_size": 4096, "patch_size": 16, "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
        },
    )  # fmt: skip
    with torch.device("meta"):
        backbone = Qwen3VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
        model = DeScoreModel(backbone, tiny_processor(), ScoringModule(4096))
    assert sum(p.numel() for p in model.backbone.parameters()) == pytest.approx(8.77e9, rel=0.01)
    inputs = {key: value.to("meta") for key, value in batch(clips()).items() if key in ("input_ids", "attention_mask")}
    scoring = model.scoring
    assert scoring is not None
    embeds = torch.cat([backbone.get_input_embeddings()(inputs["input_ids"]), scoring.query_embeds(2, torch.bfloat16)], 1)
    hidden = backbone.model.language_model(inputs_embeds=embeds).last_hidden_state
    assert hidden.dtype == torch.bfloat16
    assert hidden.shape[-1] == 4096
    rewards = scoring(hidden[:, -1])
    assert rewards.shape == (2,)
    assert rewards.dtype == torch.float32


@reads_in_pieces
@pytest.mark.parametrize("slots", [1, 7, 16, 1000])
def test_a_prompt_read_in_pieces_is_the_same_prompt(model: DeScoreModel, slots: int) -> None:
    inputs = batch(clips(), ["a red circle bounces, then it rests for a long while beside a wall", "a dog"])
    length = inputs["input_ids"].shape[1]
    assert not inputs["attention_mask"].all(), "one row is padded"
    whole = model.prefill(inputs)
    *pauses, pieced = model.prefill_in_pieces(inputs, slots=slots)
    assert pauses == [None] * -(-length // slots)  # the vision tower, and each piece but the last
    assert pieced is not None
    torch.testing.assert_close(pieced.logits, whole.logits, atol=1e-4, rtol=1e-4)
    assert torch.equal(pieced.mask, whole.mask)
    assert torch.equal(pieced.next_position, whole.next_position)
    for one, other in zip(pieced.cache.layers, whole.cache.layers, strict=True):
        seen = inputs["attention_mask"].bool()[:, None, :, None]
        torch.testing.assert_close(one.keys * seen, other.keys * seen, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(one.values * seen, other.values * seen, atol=1e-4, rtol=1e-4)
    for state in (whole, pieced):
        for _ in model.think(state, 24):
            pass
    assert pieced.thoughts == whole.thoughts
    torch.testing.assert_close(model.score(pieced), model.score(whole), atol=1e-4, rtol=1e-4)


@reads_in_pieces
def test_ready_vision_features_can_be_read_in_pieces(model: DeScoreModel) -> None:
    inputs = batch(clips())
    vision = video_features(model.backbone, inputs)
    *pauses, state = model.prefill_in_pieces(inputs, vision, slots=20)
    assert len(pauses) == -(-inputs["input_ids"].shape[1] // 20) - 1
    assert state is not None
    torch.testing.assert_close(state.logits, model.prefill(inputs).logits, atol=1e-4, rtol=1e-4)


def test_a_backbone_that_takes_no_ready_features_reads_in_one_step(
    model: DeScoreModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("descore.modeling.prefill_pieces.takes_vision_outputs", lambda _: False)
    (state,) = model.prefill_in_pieces(batch(clips()), slots=8)
    assert state is not None
    assert torch.equal(state.logits, model.prefill(batch(clips())).logits)
