"""A small backbone of the real Qwen3-VL architecture with its own tokenizer, processor and chat template.

The code that loads the 8B loads it too; no other module knows that it is small.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from descore.video import FramePolicy

FRAME_SIDE = 64
FRAMES = 8
PATCH_SIZE = 8
POLICY = FramePolicy(
    fps=4.0, min_frames=FRAMES, max_frames=FRAMES,
    min_pixels_per_frame=FRAME_SIDE**2, max_pixels_per_frame=FRAME_SIDE**2,
)  # fmt: skip

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}"
    "{% if part.type == 'video' %}<|video_pad|>"
    "{% elif part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# Time stamps, tags, JSON keys and scores are one piece each, so that a thought costs few tokens; then words with their
# leading space, single digits, and the characters between them.
_PIECES = Regex(
    r'<\d+\.\d seconds>|</?[a-z]+>|[",{ ]*"[a-z_]+": "?|N/A|\d\.\d\d| ?[A-Za-z]+|\d|[^A-Za-z\d]+?(?= ?[A-Za-z]|\d|<|"|$)'
)


def build_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on texts; the special tokens are Qwen's, and bytes encode any other text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=5,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[token for token in SPECIAL_TOKENS if token not in ("<|im_end|>", "<|endoftext|>")],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLProcessor:
    """Build the processor over a tokenizer, for frames of `FRAME_SIDE` pixels in patches of `PATCH_SIZE`."""
    shared: dict[str, Any] = {"patch_size": PATCH_SIZE, "temporal_patch_size": 2, "merge_size": 2}
    pixels = {"shortest_edge": FRAME_SIDE**2, "longest_edge": FRAME_SIDE**2}
    frames = {name: edge * FRAMES for name, edge in pixels.items()}
    video = Qwen3VLVideoProcessor(size=frames, cap_pixels_per_frame=False, **shared)
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=pixels, image_mean=video.image_mean, image_std=video.image_std, **shared),
        tokenizer=tokenizer,
        video_processor=video,
        chat_template=CHAT_TEMPLATE,
    )


def build_backbone(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """Build a randomly initialised Qwen3-VL of about three million parameters for the tokenizer's vocabulary."""
    torch.manual_seed(seed)
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in (
        "image_pad", "video_pad", "vision_start", "vision_end")}  # fmt: skip
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 5,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 48, "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 8, 8], "mrope_interleaved": True,
            },
            "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "depth": 3, "hidden_size": 96, "intermediate_size": 256, "num_heads": 3, "patch_size": PATCH_SIZE,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 192,
            "num_position_embeddings": (FRAME_SIDE // PATCH_SIZE) ** 2, "deepstack_visual_indexes": [1],
        },
        image_token_id=ids["image_pad"], video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"], vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")
