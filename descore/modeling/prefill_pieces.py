"""A prompt with its video in pieces, so that reading it can be left off in the middle.

The vision tower runs once; each piece of the sequence then takes the features of the video tokens in it, deepstack features
too, where one pass would take all of them.

Shapes: B rows, S slots, F video tokens of all rows, H hidden channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from descore.modeling.decode_step import text_model
from descore.modeling.transformers_versions import takes_vision_outputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from descore.encode import Batch

# Slots of all rows that are read at a time: a pair of short clips is one piece, and a piece takes as long as a few tokens.
PREFILL_SLOTS = 256
_PIXELS, _GRID = "pixel_values_videos", "video_grid_thw"


def takes_pieces(backbone: PreTrainedModel, inputs: Batch) -> bool:
    """Tell whether a batch can be read in pieces: Qwen3-VL's layers as they are, ready features, and videos only."""
    own = text_model(backbone) is not None and takes_vision_outputs(backbone)
    return own and _PIXELS in inputs and "pixel_values" not in inputs


def video_features(backbone: PreTrainedModel, inputs: Batch) -> dict[str, Any]:
    """Run the vision tower on the videos of a batch."""
    pixels, grid = inputs[_PIXELS].to(backbone.device), inputs[_GRID].to(backbone.device)
    return {"video": backbone.base_model.get_video_features(pixels, grid, return_dict=True)}


def mean_features(vision: dict[str, Any]) -> torch.Tensor | None:
    """Return the mean over the tokens of each video's features, (videos, H) float32 on the CPU; None without videos."""
    if "video" not in vision:
        return None
    return torch.stack([video.float().mean(0) for video in vision["video"].pooler_output]).cpu()


def features_of(vision: dict[str, Any], videos: Sequence[int]) -> dict[str, Any]:
    """Return the features of some videos of a batch, in the order of `videos`, where `vision` holds them video by video."""
    features = vision["video"]
    deep = [tuple(layer[video] for video in videos) for layer in features.deepstack_features]
    pooled = tuple(features.pooler_output[video] for video in videos)
    return {"video": type(features)(pooler_output=pooled, deepstack_features=deep)}


def pieces_of(backbone: PreTrainedModel, inputs: Batch, vision: dict[str, Any], slots: int) -> Iterator[dict[str, Any]]:
    """Yield the keyword arguments of the backbone for each piece, besides positions and cache."""
    ids, mask = inputs["input_ids"].to(backbone.device), inputs["attention_mask"].to(backbone.device)
    is_video = ids == backbone.config.video_token_id  # (B, S)
    numbers = is_video.flatten().cumsum(0).view_as(ids) - 1  # (B, S): which of the F features belongs to a video token
    features = vision["video"]
    embeds = torch.cat(list(features.pooler_output))  # (F, H)
    deep = [torch.cat(list(layer)) for layer in features.deepstack_features]
    for first in range(0, ids.shape[1], slots):
        last = first + slots
        piece: dict[str, Any] = {"input_ids": ids[:, first:last], "attention_mask": mask[:, :last]}
        chosen = numbers[:, first:last][is_video[:, first:last]]
        if len(chosen):
            part = type(features)(pooler_output=(embeds[chosen],), deepstack_features=[(layer[chosen],) for layer in deep])
            piece["mm_encoder_outputs"] = {"video": part}
        yield piece
