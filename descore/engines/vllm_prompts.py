"""A row as a request of vLLM: text, frames and times from which vLLM makes exactly the processor's prompt.

    request, ids = request_of(processor, row, PLACEHOLDERS[1])
    check_prompt_tokens(output.prompt_token_ids, ids)

vLLM makes its own prompt tokens; where these are not, one by one, the tokens that the processor made, the request is
refused, since a thought about another prompt would say nothing about the real one.

Releases of vLLM differ in the placeholder that they replace by a video: some replace
`<|vision_start|><|video_pad|><|vision_end|>` and drop the outer pair that transformers keeps (vLLM issue 46817), others
`<|video_pad|>` alone. The first request finds out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from descore.errors import EngineError

if TYPE_CHECKING:
    from descore.encode import Row

_PIXELS, _GRID = "pixel_values_videos", "video_grid_thw"
PLACEHOLDERS = ("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
_GROUP = r"<(\d+\.\d) seconds><\|vision_start\|>(?:<\|video_pad\|>)+<\|vision_end\|>"
_WRITTEN_OUT = re.compile(rf"(?:{_GROUP})+")
_TICKS = 10  # the time stamps in a prompt have one decimal


def request_of(processor: Any, row: Row, placeholder: str) -> tuple[dict[str, Any], list[int]]:
    """Build vLLM's request for one row (text with a placeholder, frames, times), and the tokens that it must become.

    Args:
        processor: the backbone's.
        row: without padding, up to the opened assistant turn; see `descore.encode.encode_prompt`.
        placeholder: one of `PLACEHOLDERS`.

    Raises:
        EngineError: the prompt does not hold exactly one video.
    """
    ids = row["input_ids"].tolist()
    text = processor.tokenizer.decode(ids, skip_special_tokens=False)
    videos = list(_WRITTEN_OUT.finditer(text))
    if len(videos) != 1:
        raise EngineError(f"the prompt holds {len(videos)} videos; the engine takes exactly one")
    written = videos[0]
    frames = frames_of(processor.video_processor, row)
    times = [round(float(moment) * _TICKS) for moment in re.findall(_GROUP, written[0])]
    each = len(frames) // len(times)
    indices = [moment for moment in times for _ in range(each)]
    metadata = {
        "fps": float(_TICKS),
        "frames_indices": indices,
        "total_num_frames": max(indices) + 1,
        "duration": (max(indices) + 1) / _TICKS,
        "video_backend": "opencv",
        "do_sample_frames": False,
    }
    request = {
        "prompt": text[: written.start()] + placeholder + text[written.end() :],
        "multi_modal_data": {"video": [(frames, metadata)]},
        "mm_processor_kwargs": {"do_resize": False, "do_sample_frames": False},
    }
    return request, ids


def frames_of(video_processor: Any, row: Row) -> Any:
    """Restore the frames (T, H, W, 3) uint8 from the patches of a row, exactly."""
    time, height, width = row[_GRID][0].tolist()
    patch, merge, depth = video_processor.patch_size, video_processor.merge_size, video_processor.temporal_patch_size
    blocks = row[_PIXELS].reshape(time, height // merge, width // merge, merge, merge, 3, depth, patch, patch)
    pixels = blocks.permute(0, 6, 1, 3, 7, 2, 4, 8, 5).reshape(time * depth, height * patch, width * patch, 3)
    mean, std = torch.tensor(video_processor.image_mean), torch.tensor(video_processor.image_std)
    return ((pixels.float().cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def check_prompt_tokens(made: Sequence[int], expected: Sequence[int]) -> None:
    """Refuse unless vLLM's prompt is, token by token, the processor's.

    Raises:
        EngineError: it is not.
    """
    if list(made) == list(expected):
        return
    pairs = enumerate(zip(made, expected, strict=False))
    first = next((index for index, (a, b) in pairs if a != b), min(len(made), len(expected)))
    raise EngineError(
        f"vLLM made {len(made)} prompt tokens, the processor {len(expected)}; they differ from token {first} on. "
        "Another version of vLLM or transformers may agree; until then use the transformers engine"
    )
