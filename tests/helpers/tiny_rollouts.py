"""Two videos of different length with three rollouts each, of unequal lengths, one of them empty and some cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from descore.encode import Batch, encode_prompt
from tests.helpers.tiny import POLICY, tiny_clip, tiny_processor
from trainer.rollouts.shared_prefix import Rollouts, pack_rollouts

if TYPE_CHECKING:
    from descore.modeling.model import DeScoreModel

THOUGHTS = [
    [[40, 41, 42, 43, 44], [50], []],
    [[60, 61], [70, 71, 72, 73, 74, 75, 76, 77], [80, 81, 82]],
]
ENDED = [[True, False, True], [True, False, True]]


def prompt_rows() -> list[Batch]:
    """Two videos of different length, so that one row is padded."""
    processor = tiny_processor()
    clips = [tiny_clip(1, frames=4), tiny_clip(2, frames=8)]
    prompts = ["A red circle.", "A blue square that bounces on a checkerboard."]
    return [encode_prompt(processor, clip, prompt, POLICY) for clip, prompt in zip(clips, prompts, strict=True)]


def tiny_rollouts(model: DeScoreModel) -> Rollouts:
    end = model.processor.tokenizer.eos_token_id
    return pack_rollouts(THOUGHTS, [[end if one else None for one in some] for some in ENDED], model.device)
