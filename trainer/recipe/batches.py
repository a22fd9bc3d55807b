"""Batches of the pretraining, made without decoding and without the processor's work on each clip.

The tensors equal those that `descore.encode` makes of the same clips (a test compares them). They are made faster, since
every clip of ShapeWorld has the same number of frames of the same size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descore.prompt import render_turns
from trainer.recipe.backbone import FRAME_SIDE, PATCH_SIZE
from trainer.shapeworld.language import verdict_start

PROMPT_VERSION = "compact-1"
DESCRIBE = "Describe the video."


@dataclass(frozen=True)
class TextBatch:
    """Model inputs, and the tokens that the language-model loss predicts.

    Attributes:
        inputs: keyword arguments of the backbone, rows left-padded to L tokens.
        targets: (B, L) bool, true on the tokens of the assistant's turn.
        verdicts: (B, L) bool, true on those of them that judge instead of describe.
    """

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor
    verdicts: torch.Tensor


class Batcher:
    """Maker of batches with one processor of `trainer.recipe.backbone`."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self._tokens_per_group = (FRAME_SIDE // PATCH_SIZE // 2) ** 2

    def judge_turns(self, prompt: str, times: np.ndarray) -> str:
        """Return the user turn that asks for a judgement, with the video's placeholders written out."""
        return self._with_video(render_turns(self.processor, prompt, PROMPT_VERSION), times)

    def describe_turns(self, times: np.ndarray) -> str:
        """Return the user turn that asks for a description, likewise."""
        content = [{"type": "text", "text": DESCRIBE}, {"type": "video"}]
        turns = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return self._with_video(turns, times)

    def _with_video(self, turns: str, times: np.ndarray) -> str:
        groups = "".join(
            f"<{(first + second) / 2:.1f} seconds><|vision_start|>{'<|video_pad|>' * self._tokens_per_group}<|vision_end|>"
            for first, second in times.reshape(-1, 2)
        )
        return turns.replace("<|video_pad|>", groups)

    def build(self, frames: np.ndarray, turns: Sequence[str], replies: Sequence[str], end: bool) -> TextBatch:
        """Build one batch.

        Args:
            frames: (B, FRAMES, FRAME_SIDE, FRAME_SIDE, 3) uint8.
            turns: user turns with placeholders written out.
            replies: texts of the assistant; may be empty.
            end: append the end-of-turn token to each reply, as when the backbone learns to write.
        """
        before = self.tokenizer(list(turns), add_special_tokens=False).input_ids
        replied = self.tokenizer(list(replies), add_special_tokens=False, return_offsets_mapping=True)
        judging = [
            sum(begin >= verdict_start(reply) for begin, _ in offsets)
            for reply, offsets in zip(replies, replied.offset_mapping, strict=True)
        ]
        after = replied.input_ids
        if end:
            after = [[*row, self.tokenizer.eos_token_id] for row in after]
        length = max(len(a) + len(b) for a, b in zip(before, after, strict=True))
        ids = torch.full((len(before), length), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        targets, verdicts = torch.zeros(2, len(before), length, dtype=torch.bool)
        for row, (a, b) in enumerate(zip(before, after, strict=True)):
            ids[row, length - len(a) - len(b) :] = torch.tensor(a + b)
            mask[row, length - len(a) - len(b) :] = 1
            targets[row, length - len(b) :] = True
            verdicts[row, length - judging[row] - end :] = judging[row] > 0
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": 2 * (ids == self.processor.video_token_id).int(),
            **self._pixels(frames),
        }
        return TextBatch(inputs, targets, verdicts)

    def _pixels(self, frames: np.ndarray) -> dict[str, torch.Tensor]:
        video = self.processor.video_processor
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 1, 4, 2, 3).float()
        mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (video.image_mean, video.image_std))
        patches, *grid = video.patchify((pixels - mean) / std, video.patch_size, video.merge_size, video.temporal_patch_size)
        return {
            "pixel_values_videos": patches.flatten(0, 1),
            "video_grid_thw": torch.tensor([grid]).repeat(len(frames), 1),
        }
