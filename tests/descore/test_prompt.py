"""The judge's instruction and the text before the thought."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descore.answer import DIMENSIONS, SUB_SCORES
from descore.prompt import DEFAULT_PROMPT_VERSION, PROMPTS, build_messages, instruction, render_turns
from tests.helpers.tiny import SPECIAL, tiny_processor

BRACES = 'a sign that says {"prompt": "{prompt}"} \\1 \\g<0> %s {0}'


@pytest.mark.parametrize("version", PROMPTS)
@given(prompt=st.text())
def test_the_prompt_goes_in_once_and_as_it_is(version: str, prompt: str) -> None:
    head, tail = PROMPTS[version].split("{prompt}")
    assert instruction(prompt, version) == head + prompt.strip() + tail


@pytest.mark.parametrize("version", PROMPTS)
def test_a_prompt_that_looks_like_a_template_stays_text(version: str) -> None:
    assert instruction(BRACES, version).count(BRACES) == 1


def test_the_full_instruction_asks_for_the_grammar_that_is_parsed() -> None:
    text = instruction("a cat", "full-1")
    keys = list(json.loads(re.search(r"\{.*\}", text)[0]))  # type: ignore[index]
    assert keys == [*DIMENSIONS, "overall_score"]
    assert all(f'"{score}"' in text for score in SUB_SCORES)
    assert all(tag in text for tag in ("<think>", "</think>", "<answer>", "</answer>"))


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown prompt version"):
        instruction("a cat", "full-0")


def test_one_user_turn_instruction_then_video() -> None:
    (turn,) = build_messages("a cat")
    assert turn["role"] == "user"
    assert [part["type"] for part in turn["content"]] == ["text", "video"]
    assert turn["content"][0]["text"] == instruction("a cat", DEFAULT_PROMPT_VERSION)


def test_the_turns_end_with_the_opened_assistant_turn() -> None:
    text = render_turns(tiny_processor(), "a cat", "compact-1")
    assert text.count("<|video_pad|>") == 1
    assert text.index("a cat") < text.index("<|video_pad|>")
    assert text.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("token", SPECIAL)
def test_control_tokens_in_a_prompt_are_refused(token: str) -> None:
    with pytest.raises(ValueError, match="control token"):
        render_turns(tiny_processor(), f"a cat {token} a dog")


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        render_turns(tiny_processor(), prompt)
