"""Encoding of clips, prompts and thoughts as the tensors of a batch, in the layout of `descore.prompt`.

    inputs = encode(processor, clips, prompts, thoughts, policy=policy)     # thoughts None: quick
    rewards = model.rewards(inputs)

Each row is encoded on its own and then padded on the left, so what a row holds never depends on its
neighbours.

Keys of a batch (B rows, S tokens): `input_ids`, `attention_mask`, `mm_token_type_ids`, `thought_mask` (1 on
the thought's tokens), each (B, S) int64; and the vision inputs of the processor, rows one after the other,
e.g. Qwen3-VL's `pixel_values_videos` (patches, values) float32 and `video_grid_thw` (B, 3).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

from descore.prompt import DEFAULT_PROMPT_VERSION, render_turns
from descore.video.types import VideoClip

if TYPE_CHECKING:
    from descore.video.types import FramePolicy

Row = dict[str, torch.Tensor]
Batch = dict[str, torch.Tensor]
Thought = str | Sequence[int]

SEQUENCE_KEYS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "thought_mask")
# Timestamps travel as whole milliseconds: processors know frame numbers and a rate, not times.
_TICKS_PER_SECOND = 1000


def encode(
    processor: Any,
    clips: Sequence[VideoClip],
    prompts: Sequence[str],
    thoughts: Sequence[Thought] | None = None,
    *,
    policy: FramePolicy,
    prompt_version: str = DEFAULT_PROMPT_VERSION,
) -> Batch:
    """Encode a batch, one row for each clip with its prompt and thought.

    Args:
        processor: the backbone's transformers processor.
        clips: one video a row.
        prompts: one prompt a row.
        thoughts: text, or token ids as they were sampled; "" is a row without a thought, None a batch without any. The
            end-of-turn token is no part of a thought.
        policy: the checkpoint's frame policy, which bounds the pixels of a frame.
        prompt_version: key of `descore.prompt.PROMPTS`.

    Returns:
        The batch that the top of this module describes. The query token has no id; the model adds it.

    Raises:
        ValueError: lists of unequal length, an empty prompt, control tokens inside a prompt or a thought, a frame shape
            that the processor can't take.
    """
    thoughts = [""] * len(clips) if thoughts is None else thoughts
    rows = [
        with_thought(processor, encode_prompt(processor, clip, prompt, policy, prompt_version), thought)
        for clip, prompt, thought in zip(clips, prompts, thoughts, strict=True)
    ]
    return collate(rows, pad_token_id(processor))


def encode_prompt(
    processor: Any,
    clip: VideoClip,
    prompt: str,
    policy: FramePolicy,
    prompt_version: str = DEFAULT_PROMPT_VERSION,
) -> Row:
    """Encode one row up to the opened assistant turn; sequence keys have shape (S,)."""
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)  # (T, C, H, W)
    times = [round(float(t) * _TICKS_PER_SECOND) for t in clip.timestamps]
    patch = getattr(processor.video_processor, "temporal_patch_size", 1)
    if len(times) < patch:  # a single frame fills its temporal patch by being shown twice
        frames, times = frames.expand(patch, -1, -1, -1), times * patch
    encoded = processor(
        text=[render_turns(processor, prompt, prompt_version)],
        videos=[frames],
        videos_kwargs={
            "video_metadata": [_metadata(clip, times)],
            "do_sample_frames": False,
            "input_data_format": "channels_first",
            **_size(processor.video_processor, policy, len(times)),
        },
        text_kwargs={"padding": False},
        return_tensors="pt",
    )
    row = {key: value[0] if key in SEQUENCE_KEYS else value for key, value in encoded.items()}
    row["thought_mask"] = torch.zeros_like(row["input_ids"])
    return row


def largest_row(processor: Any, policy: FramePolicy, prompt_version: str = DEFAULT_PROMPT_VERSION) -> int:
    """Return the number of tokens of a one-letter prompt beside the largest video that a frame policy allows.

    The video is a black one with the most and largest frames, hours long, so that its timestamps are long too.
    """
    side, frames = math.isqrt(policy.max_pixels_per_frame), policy.max_frames
    duration = 9 * 3600.0
    clip = VideoClip(
        frames=np.zeros((frames, side, side, 3), dtype=np.uint8),
        timestamps=(np.arange(frames) + 0.5) * duration / frames,
        duration=duration,
        reader="pyav",
    )
    return len(encode_prompt(processor, clip, "a", policy, prompt_version)["input_ids"])


def with_thought(processor: Any, row: Row, thought: Thought) -> Row:
    """Copy a row without a thought and put the thought's tokens at its end.

    Raises:
        ValueError: the thought holds control tokens, which would be read as such.
    """
    tokenizer = processor.tokenizer
    ids = tokenizer(thought, add_special_tokens=False)["input_ids"] if isinstance(thought, str) else list(thought)
    if control := set(ids) & set(tokenizer.all_special_ids):
        tokens = ", ".join(tokenizer.convert_ids_to_tokens(sorted(control)))
        raise ValueError(f"the thought holds control tokens ({tokens}); remove them")
    tail = {key: torch.zeros(len(ids), dtype=torch.long) for key in SEQUENCE_KEYS if key in row}
    tail["input_ids"] = torch.tensor(ids, dtype=torch.long)
    tail["attention_mask"] = tail["thought_mask"] = torch.ones(len(ids), dtype=torch.long)
    return {key: torch.cat([value, tail[key].to(value.dtype)]) if key in tail else value for key, value in row.items()}


def collate(rows: Sequence[Row], pad_id: int) -> Batch:
    """Pad the rows on the left to one length and put their vision inputs one after the other.

    Raises:
        ValueError: a backbone whose processor stacks frames (Qwen's does not) with clips that differ in shape.
    """
    length = max(len(row["input_ids"]) for row in rows)
    batch = {}
    for key in rows[0]:
        if key in SEQUENCE_KEYS:
            fill = pad_id if key == "input_ids" else 0
            padded = [torch.nn.functional.pad(row[key], (length - len(row[key]), 0), value=fill) for row in rows]
            batch[key] = torch.stack(padded)
        else:
            values = [torch.as_tensor(row[key]) for row in rows]
            if len({value.shape[1:] for value in values}) > 1:
                raise ValueError(f"this backbone's {key} can't hold clips of different lengths or sizes in one batch")
            batch[key] = torch.cat(values)
    return batch


def content_digest(row: Row) -> str:
    """Return the SHA-256 of everything in the row: the same video, prompt and thought give the same digest anywhere."""
    digest = hashlib.sha256()
    for key in sorted(row):
        value = torch.as_tensor(row[key]).contiguous()
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def pad_token_id(processor: Any) -> int:
    """Return the id of padded slots; they are masked, so any id will do where a tokenizer has none."""
    return int(processor.tokenizer.pad_token_id or 0)


def _metadata(clip: VideoClip, times: Sequence[int]) -> Mapping[str, Any]:
    height, width = clip.frames.shape[1:3]
    total = max(round(clip.duration * _TICKS_PER_SECOND), max(times) + 1)
    return {
        "fps": float(_TICKS_PER_SECOND),
        "frames_indices": list(times),
        "total_num_frames": total,
        "duration": clip.duration,
        "height": height,
        "width": width,
    }


def _size(video_processor: Any, policy: FramePolicy, frames: int) -> Mapping[str, Any]:
    """Express the pixel budget in the terms of Qwen's processors.

    Qwen3-VL's `size` bounds the pixels of ALL frames together, that of Qwen2-VL and Qwen2.5-VL those of each one. Their own
    cap is off, since Qwen3-VL's compares one frame with the bound of all frames and so lifts the budget of short clips.
    Processors of other families keep their own sizing.
    """
    each = isinstance(video_processor, Qwen2VLVideoProcessor) and not isinstance(video_processor, Qwen3VLVideoProcessor)
    capped = hasattr(video_processor, "cap_pixels_per_frame")
    if not each and not capped:
        return {}
    bounded = 1 if each else frames
    size = {
        "shortest_edge": policy.min_pixels_per_frame * bounded,
        "longest_edge": policy.max_pixels_per_frame * bounded,
    }
    return {"size": size, "cap_pixels_per_frame": False} if capped else {"size": size}
