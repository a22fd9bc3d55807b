"""Qwen3-VL of real sizes with random weights, made on the device: what its kernels take does not depend on what it knows.

    model = random_model("Qwen/Qwen3-VL-8B-Instruct", setting, torch.bfloat16)
    rows = long_rows(model.processor, range(8), lengths_of(setting))      # 2,000 tokens each, 1,568 of them a video

Nothing is downloaded. The tokenizer is the bundled checkpoint's, widened by tokens that no text makes, so that ids, special
tokens and the width of the vocabulary are Qwen's. Thoughts never end by themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from benchmarks.helpers.long_prompts import noise_clip
from benchmarks.judging_speed import never_end
from descore.checkpoints.folder import BACKBONE_DIR, BUNDLED, locate
from descore.checkpoints.manifest import Manifest
from descore.encode import Row, encode_prompt
from descore.modeling.backbone import without_cudnn_attention
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from descore.modeling.vision_attention import batch_equal_frames
from descore.video import FramePolicy
from trainer.planning.layer_costs import backbone_config
from trainer.recipe.backbone import CHAT_TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from benchmarks.gpu.setting import Setting
    from descore.video import VideoClip

NAMES = {"qwen3-vl-2b": "Qwen/Qwen3-VL-2B-Instruct", "qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct"}
PROMPT_VERSION = "compact-1"
WORD = " red"  # one token of the bundled tokenizer
# Qwen's special tokens by their ids, from the first one on; those whose names matter to nobody here are numbered.
_FIRST_SPECIAL, _SPECIALS = 151_643, 26
_NAMED = {
    151_643: "<|endoftext|>", 151_644: "<|im_start|>", 151_645: "<|im_end|>", 151_652: "<|vision_start|>",
    151_653: "<|vision_end|>", 151_654: "<|vision_pad|>", 151_655: "<|image_pad|>", 151_656: "<|video_pad|>",
}  # fmt: skip
_SMALL_TEXT = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "max_position_embeddings": 4096,
}  # fmt: skip
_SMALL_ROPE = {"mrope_section": [6, 5, 5]}
_SMALL_VISION = {
    "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64,
    "deepstack_visual_indexes": [0, 1],
}  # fmt: skip


@dataclass(frozen=True)
class Lengths:
    """Lengths of a row.

    Attributes:
        prompt: tokens of the prompt, the video's included.
        thought: tokens of a thought.
        frames: of a video.
        side: pixels of a frame's side.
    """

    prompt: int
    thought: int
    frames: int
    side: int


def lengths_of(setting: Setting) -> Lengths:
    """Return the lengths that are measured."""
    return setting.size(Lengths(2000, 1000, 16, 448), Lengths(80, 8, 4, 64))


def policy_of(lengths: Lengths) -> FramePolicy:
    """Return the policy that takes every frame of a clip."""
    area = lengths.side**2
    return FramePolicy(8.0, lengths.frames, lengths.frames, max_pixels_per_frame=area, min_pixels_per_frame=area)


def clip_of(seed: int, lengths: Lengths) -> VideoClip:
    """Return a clip of noise."""
    return noise_clip(seed, lengths.frames, lengths.side)


def config_of(name: str, setting: Setting) -> Any:
    """Return the real configuration; in the smallest form one with few narrow layers of the same kinds.

    Args:
        name: as on the Hub.
    """
    config = backbone_config(name)
    if setting.smallest:
        text = config.text_config
        text.update(_SMALL_TEXT)
        text.rope_parameters = {**text.rope_parameters, **_SMALL_ROPE}
        config.vision_config.update(_SMALL_VISION)
    return config


def build_backbone(config: Any, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """Build a backbone with random weights on a device; on "meta" without any."""
    with torch.device(device):
        backbone = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return backbone.train() if device.type == "meta" else backbone.eval()


def random_model(name: str, setting: Setting, dtype: torch.dtype) -> DeScoreModel:
    """Build backbone, processor and scoring module, ready to judge; thoughts never end by themselves."""
    without_cudnn_attention()
    torch.manual_seed(0)
    config = config_of(name, setting)
    backbone = build_backbone(config, setting.device, dtype)
    batch_equal_frames(backbone)
    scoring = ScoringModule(config.get_text_config().hidden_size)
    model = DeScoreModel(backbone, processor_of(config, lengths_of(setting)), scoring).eval()
    never_end(model)
    return model


def manifest_of(name: str, lengths: Lengths) -> Manifest:
    """Return the settings by which such a model judges."""
    return Manifest(
        name=f"{name} with random weights",
        trained_on="nothing",
        frame_policy=policy_of(lengths),
        prompt_version=PROMPT_VERSION,
        max_thought_tokens=lengths.thought,
    )


def processor_of(config: Any, lengths: Lengths) -> Qwen3VLProcessor:
    """Build the processor of a configuration's patches over `wide_tokenizer`."""
    vision = config.vision_config
    pieces: dict[str, Any] = {
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "merge_size": vision.spatial_merge_size,
    }
    area = lengths.side**2
    frame, whole = ({"shortest_edge": n * area, "longest_edge": n * area} for n in (1, lengths.frames))
    video = Qwen3VLVideoProcessor(size=whole, cap_pixels_per_frame=False, **pieces)
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=frame, image_mean=video.image_mean, image_std=video.image_std, **pieces),
        tokenizer=wide_tokenizer(),
        video_processor=video,
        chat_template=CHAT_TEMPLATE,
    )


@cache
def wide_tokenizer() -> PreTrainedTokenizerFast:
    """Build the bundled tokenizer with Qwen's special tokens at their ids, and tokens that no text makes between the two."""
    core = json.loads((locate(BUNDLED)[0] / BACKBONE_DIR / "tokenizer.json").read_text("utf-8"))
    special = {each["content"] for each in core["added_tokens"]}
    texts = [token for token, _ in sorted(core["model"]["vocab"].items(), key=lambda each: each[1]) if token not in special]
    texts += [f"Ġtoken{number}" for number in range(_FIRST_SPECIAL - len(texts))]
    core["model"]["vocab"] = {token: number for number, token in enumerate(texts)}
    core["added_tokens"] = []
    ids = range(_FIRST_SPECIAL, _FIRST_SPECIAL + _SPECIALS)
    names = [_NAMED.get(number, f"<|reserved_{number}|>") for number in ids]
    tokenizer = Tokenizer.from_str(json.dumps(core))
    tokenizer.add_special_tokens(names)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=[name for name in names if name not in ("<|im_end|>", "<|endoftext|>")],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def prompt_of(processor: Any, lengths: Lengths) -> str:
    """Return a prompt of words that, with its video, takes `lengths.prompt` tokens.

    Raises:
        ValueError: the video alone takes more.
    """

    def tokens(prompt: str) -> int:
        return len(_encoded(processor, 0, prompt, lengths)["input_ids"])

    missing = lengths.prompt - tokens("a")
    if missing < 0:
        raise ValueError(f"a video of {lengths.frames} frames takes {-missing} tokens more than {lengths.prompt}")
    prompt = "a" + WORD * missing
    if tokens(prompt) != lengths.prompt:
        raise ValueError(f"{WORD!r} is no single token of this tokenizer")
    return prompt


def long_rows(processor: Any, seeds: Sequence[int], lengths: Lengths) -> list[Row]:
    """Encode clips of noise, each with a prompt that fills the row up to `lengths.prompt` tokens."""
    prompt = prompt_of(processor, lengths)
    return [_encoded(processor, seed, prompt, lengths) for seed in seeds]


def renewed(row: Row, tokenizer: Any, seed: int) -> Row:
    """Copy a row of `long_rows` with other words and another video, as long as before: engines keep what they have read."""
    generator = torch.Generator().manual_seed(seed)
    ids, words = row["input_ids"].clone(), _words(tokenizer)
    filled = ids == tokenizer(WORD, add_special_tokens=False)["input_ids"][0]
    ids[filled] = words[torch.randint(len(words), (int(filled.sum()),), generator=generator)]
    pixels = row["pixel_values_videos"]
    shift = int(torch.randint(1, len(pixels), (1,), generator=generator))
    return {**row, "input_ids": ids, "pixel_values_videos": pixels.roll(shift, 0)}


@cache
def _words(tokenizer: Any) -> torch.Tensor:
    """Return the ids of all words that are one token, with the space before them."""
    texts = [token.replace("Ġ", " ") for token in tokenizer.get_vocab() if re.fullmatch("Ġ[a-z]+", token)]
    ids = tokenizer(sorted(texts), add_special_tokens=False)["input_ids"]
    return torch.tensor([each[0] for each in ids if len(each) == 1])


def _encoded(processor: Any, seed: int, prompt: str, lengths: Lengths) -> Row:
    return encode_prompt(processor, clip_of(seed, lengths), prompt, policy_of(lengths), PROMPT_VERSION)
