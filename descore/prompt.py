"""The judge's instruction and the sequence layout, the same in training, RL and inference.

    [user turn: instruction with the prompt text, then the video] [assistant turn: thought] [query token]

The layout is text up to the assistant's turn (made by the backbone's own chat template), then the thought as plain
tokens, then one query embedding that has no id of its own. Without a thought (`quick`) the query token follows the
opened assistant turn at once. The end-of-turn token is never part of the sequence: the query token takes its place.

What a prompt may be is said here too, once for every way in: library, command line, app and store. This module imports
neither torch nor transformers, so that the store may use it.
"""

from __future__ import annotations

import re
from typing import Any

from descore.errors import PromptError

# The longest prompts of VideoGen-RewardBench and GenAI-Bench stay below 1,500.
PROMPT_CHARACTERS = 4000
# No database can hold NUL everywhere, and half of a surrogate pair, which JSON can smuggle in, is no text.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# In a prompt also every control character but tab and newline, with the carriage return that Windows puts before it.
_NOT_IN_PROMPTS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]|\r(?!\n)")

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


def text_problem(text: str, limit: int | None = None, forbidden: re.Pattern[str] = _UNSTORABLE) -> str | None:
    """Say why a text can't be kept, as what follows its name in a sentence; None for one that can.

    The length comes first, since it costs nothing: nothing else may be done to a text before its length is known.

    Args:
        text: any text.
        limit: characters at most; None for a text whose length is bounded elsewhere.
        forbidden: the characters that it can't hold, by default those that no database can store.
    """
    if limit is not None and len(text) > limit:
        return f"has {len(text):,} characters; at most {limit:,} are allowed: shorten it"
    match = forbidden.search(text)
    if match is None:
        return None
    return f"holds the character U+{ord(match[0]):04X} at position {match.start() + 1}, which can't be stored: remove it"


def prompt_problem(prompt: str) -> str | None:
    """Say why a text can't be a prompt, as what follows "the prompt"; None for one that can.

    Special tokens and the limit in tokens belong to a checkpoint, see `descore.judge.DeScore.check_prompt`.
    """
    problem = text_problem(prompt, PROMPT_CHARACTERS, _NOT_IN_PROMPTS)
    if problem is None and not prompt.strip():
        return "is empty: enter the text that the videos were made from"
    return problem


def check_prompt(prompt: str) -> None:
    """Refuse what can't be a prompt, whichever checkpoint reads it.

    Raises:
        PromptError: it is empty, longer than `PROMPT_CHARACTERS`, or holds a control character.
    """
    problem = prompt_problem(prompt)
    if problem is not None:
        raise PromptError(f"the prompt {problem}")


def check_special_tokens(tokenizer: Any, prompt: str) -> None:
    """Refuse special tokens written inside a prompt, which would be read as control tokens.

    Raises:
        PromptError: the prompt holds one.
    """
    for token in tokenizer.all_special_tokens:
        if token in prompt:
            raise PromptError(f"the prompt holds the control token {token}; remove it")


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

    Prompts of older stores may be longer than a new one, so lengths are not checked here.

    Raises:
        PromptError: the prompt is empty or holds a special token of the tokenizer.
    """
    if not prompt.strip():
        raise PromptError("the prompt is empty: enter the text that the videos were made from")
    check_special_tokens(processor.tokenizer, prompt)
    messages = build_messages(prompt, version)
    return str(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
