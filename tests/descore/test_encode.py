"""The tensors of a batch: layout, padding, timestamps, pixel budget, golden positions."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from descore.encode import content_digest, encode, encode_prompt, with_thought
from descore.modeling.model import DeScoreModel
from descore.video.types import FramePolicy, VideoClip
from tests.helpers.tiny import MERGE, PATCH, POLICY, tiny_backbone, tiny_clip, tiny_processor

CELL = PATCH * MERGE


def row(clip: VideoClip, prompt: str = "A red circle", policy: FramePolicy = POLICY) -> dict[str, torch.Tensor]:
    return encode_prompt(tiny_processor(), clip, prompt, policy, "compact-1")


def seconds(clip: VideoClip) -> list[float]:
    text = tiny_processor().tokenizer.decode(row(clip)["input_ids"])
    return [float(found) for found in re.findall(r"<([\d.]+) seconds>", text)]


def test_layout_golden() -> None:
    text = tiny_processor().tokenizer.decode(row(tiny_clip(1))["input_ids"])
    cells = "<|vision_start|>" + "<|video_pad|>" * 4 + "<|vision_end|>"
    assert text == (
        "<|im_start|>user\nJudge the video.\nPrompt: A red circle"
        f"<|vision_start|><0.5 seconds>{cells}<1.5 seconds>{cells}<|vision_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_positions_golden() -> None:
    """Three axes (time, height, width): each frame starts behind its text and takes as many places as its
    longer side."""
    model = DeScoreModel(tiny_backbone(), tiny_processor())
    clips = [tiny_clip(1, frames=2), tiny_clip(1, frames=2, height=16, width=64)]
    batch = encode(tiny_processor(), clips, ["x", "x y z"], policy=POLICY, prompt_version="compact-1")
    positions, following = model.positions(batch)
    assert positions.shape == (3, *batch["input_ids"].shape)
    is_video = batch["mm_token_type_ids"] == 2
    first = int(is_video[0].nonzero()[0]) - int((batch["attention_mask"][0] == 0).sum())
    assert positions[:, 0, is_video[0]].tolist() == [
        [first] * 4,
        [first, first, first + 1, first + 1],
        [first, first + 1, first, first + 1],
    ]
    tokens, columns = batch["attention_mask"].sum(-1), batch["video_grid_thw"][:, 1:].max(-1).values // MERGE
    assert columns.tolist() == [2, 4]
    assert following.tolist() == (tokens - is_video.sum(-1) + columns).tolist()
    assert positions[:, :, -1].tolist() == [(following - 1).tolist()] * 3


@pytest.mark.parametrize(
    ("times", "expected"),
    [([0.25, 0.75, 1.25, 1.75], [0.5, 1.5]), ([0.1, 2.5, 2.6, 61.06], [1.3, 31.8]), ([0.3], [0.3])],
)
def test_timestamps_in_the_text_are_the_real_ones(times: list[float], expected: list[float]) -> None:
    frames = tiny_clip(1, frames=len(times)).frames
    assert seconds(VideoClip(frames, np.array(times), times[-1] + 0.4, "pyav")) == expected


@pytest.mark.parametrize("frames", [1, 2, 8])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (480, 720), (96, 34), (20, 70)])
def test_pixel_budget_holds_for_any_size_and_length(frames: int, height: int, width: int) -> None:
    policy = FramePolicy(min_pixels_per_frame=32 * 32, max_pixels_per_frame=64 * 64)
    encoded = row(tiny_clip(1, frames, height, width), policy=policy)
    steps, rows, columns = encoded["video_grid_thw"][0].tolist()
    assert steps == max(1, frames // 2)
    assert 32 * 32 <= rows * PATCH * columns * PATCH <= 64 * 64
    assert encoded["pixel_values_videos"].shape[0] == steps * rows * columns
    if height == 480:
        assert (rows, columns) == (48 // PATCH, 64 // PATCH), "the aspect ratio is kept within one cell"


def test_frames_reach_the_processor_as_they_are() -> None:
    """No second sampling, no lost colour: a clip that needs no resize comes back out of the patches
    exactly."""
    clip, processor = tiny_clip(3, frames=2), tiny_processor().video_processor
    patches = row(clip)["pixel_values_videos"].reshape(2, 2, MERGE, MERGE, 3, 2, PATCH, PATCH)
    pixels = patches.permute(5, 0, 2, 6, 1, 3, 7, 4).reshape(2, 32, 32, 3)
    restored = (pixels * torch.tensor(processor.image_std) + torch.tensor(processor.image_mean)) * 255
    np.testing.assert_allclose(restored.numpy(), clip.frames, atol=1e-3)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    alone = row(tiny_clip(1))
    batch = encode(
        tiny_processor(), [tiny_clip(2, 8, 16, 64), tiny_clip(1)], ["a long prompt " * 9, "A red circle"],
        policy=POLICY, prompt_version="compact-1",
    )  # fmt: skip
    keep = batch["attention_mask"][1].bool()
    assert not keep[0]
    assert torch.equal(batch["input_ids"][1][keep], alone["input_ids"])
    assert torch.equal(batch["pixel_values_videos"][-len(alone["pixel_values_videos"]) :], alone["pixel_values_videos"])


def test_thought_follows_the_prompt_and_is_marked() -> None:
    processor, before = tiny_processor(), row(tiny_clip(1))
    after = with_thought(processor, before, "<think>ééé 日本</think>")
    thought = after["input_ids"][after["thought_mask"].bool()]
    assert processor.tokenizer.decode(thought) == "<think>ééé 日本</think>"
    assert torch.equal(after["input_ids"], torch.cat([before["input_ids"], thought]))
    assert {len(after[key]) for key in ("attention_mask", "mm_token_type_ids", "thought_mask")} == {len(after["input_ids"])}
    assert torch.equal(with_thought(processor, before, thought.tolist())["input_ids"], after["input_ids"])


@pytest.mark.parametrize("token", ["<|im_end|>", "<|video_pad|>"])
def test_control_tokens_are_refused_in_prompt_and_thought(token: str) -> None:
    with pytest.raises(ValueError, match="control token"):
        row(tiny_clip(1), f"a circle {token}")
    with pytest.raises(ValueError, match="control token"):
        with_thought(tiny_processor(), row(tiny_clip(1)), f"a circle {token}")


def test_digest_is_of_the_content_alone() -> None:
    digest = content_digest(row(tiny_clip(1)))
    assert digest == content_digest(row(tiny_clip(1)))
    others = [row(tiny_clip(2)), row(tiny_clip(1), "A blue circle"), row(tiny_clip(1, frames=6))]
    assert digest not in {content_digest(other) for other in others}
