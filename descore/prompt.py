"""The judge's instruction and the sequence layout, the same in training, RL and inference.

    [user turn: instruction with the prompt text, then the video] [assistant turn: thought] [query token]

The layout is text up to the assistant's turn (made by the backbone's own chat template), then the thought as plain
tokens, then one query embedding that has no id of its own. Without a thought (`quick`) the query token follows the
opened assistant turn at once. The end-of-turn token is never part of the sequence: the query token takes its place.
"""

from __future__ import annotations

import re
from typing import Any

COMPACT_INSTRUCTION = "Judge the video.\nPrompt: {prompt}"

FULL_INSTRUCTION = """\
You are an expert judge of generated videos. Decide how faithfully the video shows what its text prompt asks for.

Think first, inside <think> and </think>, in three parts:
1. Expectation: what the prompt leads one to expect.
2. Observation: what is really seen in the video, from its first frame to its last.
3. Assessment: compare the two, dimension by dimension.

The dimensions:
- subject (primary): who or what is shown, with its attributes, number and identity over time.
- dynamics (primary): the actions and motions of the subject, their order and their completeness.
- camera (secondary): camera motion, angle, distance.
- environment (secondary): place, background, light, weather.
- style (secondary): artistic style, tone, look.
Give each dimension "2" (matches the prompt), "1" (matches partly), "0" (fails), or "N/A" (the prompt does not ask for it).

Then give the result inside <answer> and </answer> as one JSON object with exactly these keys:
{"subject": "...", "dynamics": "...", "camera": "...", "environment": "...", "style": "...", "overall_score": 0.00}
overall_score runs from 1.00 to 5.00: 5 when both primary dimensions are "2" and every secondary one is "2" or "N/A";
4 to 5 when only secondary dimensions are flawed; 3 to 4 when a primary one is "1"; 2 to 3 when a primary one is "0";
1 to 2 when both primary ones are "0".

The text prompt: {prompt}"""

PROMPTS = {"full-1": FULL_INSTRUCTION, "compact-1": COMPACT_INSTRUCTION}
DEFAULT_PROMPT_VERSION = "full-1"


def instruction(prompt: str, version: str = DEFAULT_PROMPT_VERSION) -> str:
    """Return the user turn's text. The slot is filled by regex, since instructions hold JSON braces.

    Raises:
        ValueError: an unknown prompt version.
    """
    if version not in PROMPTS:
        raise ValueError(f"unknown prompt version {version!r}; this code knows {', '.join(PROMPTS)}")
    return re.sub(r"\{prompt\}", lambda _: prompt.strip(), PROMPTS[version])


def build_messages(prompt: str, version: str = DEFAULT_PROMPT_VERSION) -> list[dict[str, Any]]:
    """Return the chat messages of one video's user turn; the video itself is a placeholder."""
    content = [{"type": "text", "text": instruction(prompt, version)}, {"type": "video"}]
    return [{"role": "user", "content": content}]


def render_turns(processor: Any, prompt: str, version: str = DEFAULT_PROMPT_VERSION) -> str:
    """Render the sequence's text before the thought: the user turn and the opened assistant turn.

    Args:
        processor: a transformers processor with a chat template.

    Special tokens written inside `prompt` would be read as control tokens, so they are refused.

    Raises:
        ValueError: the prompt is empty or holds a special token of the tokenizer.
    """
    if not prompt.strip():
        raise ValueError("the prompt is empty: enter the text that the videos were made from")
    for token in processor.tokenizer.all_special_tokens:
        if token in prompt:
            raise ValueError(f"the prompt holds the control token {token}; remove it")
    messages = build_messages(prompt, version)
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
