"""A row as vLLM's request, without vLLM: text and frames from which the real processor makes the same row again."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from descore.encode import Row, encode_prompt
from descore.engines.vllm_prompts import PLACEHOLDERS, check_prompt_tokens, frames_of, request_of
from descore.errors import EngineError
from tests.helpers.tiny import POLICY, tiny_clip, tiny_processor


def processed(request: dict[str, Any]) -> Any:
    """Process a request by the real processor, with frames that are neither sampled nor resized again."""
    frames, metadata = request["multi_modal_data"]["video"][0]
    known = {name: metadata[name] for name in ("fps", "frames_indices", "total_num_frames", "duration")}
    return tiny_processor()(
        text=[request["prompt"]],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        videos_kwargs={"video_metadata": [known], "input_data_format": "channels_first", **request["mm_processor_kwargs"]},
        return_tensors="pt",
    )


def row_of(seed: int, prompt: str, frames: int = 4) -> Row:
    return encode_prompt(tiny_processor(), tiny_clip(seed, frames=frames), prompt, POLICY, "compact-1")


@pytest.mark.parametrize("prompt", ["A red circle.", "A longer prompt that says <0.5 seconds> in the middle, é."])
@pytest.mark.parametrize("frames", [4, 6])
def test_frames_and_text_are_rebuilt_exactly(prompt: str, frames: int) -> None:
    row = row_of(1, prompt, frames)
    request, ids = request_of(tiny_processor(), row, PLACEHOLDERS[1])
    made = processed(request)
    assert made["input_ids"][0].tolist() == ids == row["input_ids"].tolist()
    assert torch.equal(made["pixel_values_videos"], row["pixel_values_videos"])
    assert torch.equal(made["video_grid_thw"], row["video_grid_thw"])


def test_rebuilt_frames_are_the_clips_own() -> None:
    clip = tiny_clip(3)  # at the model's size, so nothing was resized
    row = encode_prompt(tiny_processor(), clip, "A cat.", POLICY, "compact-1")
    assert (frames_of(tiny_processor().video_processor, row) == clip.frames).all()


def test_another_prompt_is_refused() -> None:
    ids = row_of(1, "A cat.")["input_ids"].tolist()
    with pytest.raises(EngineError, match=f"vLLM made {len(ids) - 1} prompt tokens, the processor {len(ids)}"):
        check_prompt_tokens(ids[:-1], ids)
    with pytest.raises(EngineError, match=f"differ from token {len(ids) - 1} on"):
        check_prompt_tokens([*ids[:-1], ids[-1] + 1], ids)
