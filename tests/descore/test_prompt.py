"""The judge's instruction and the text before the thought."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descore.answer import DIMENSIONS, SUB_SCORES
from descore.errors import PromptError
from descore.prompt import (
    DEFAULT_PROMPT_VERSION,
    PROMPT_CHARACTERS,
    PROMPTS,
    build_messages,
    check_prompt,
    instruction,
    prompt_problem,
    render_turns,
    text_problem,
)
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


class Untouched(str):
    """A text of which only the length may be asked: everything else takes time in proportion to it."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"{name} was called on a text that is far too long")

    def __contains__(self, _: object) -> bool:
        raise AssertionError("a text that is far too long was searched")

    def __eq__(self, _: object) -> bool:
        raise AssertionError("a text that is far too long was compared")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("length", [PROMPT_CHARACTERS + 1, 20_000, 1_000_000])
def test_a_prompt_that_is_too_long_is_refused_by_its_length_alone(length: int) -> None:
    with pytest.raises(PromptError, match=f"the prompt has {length:,} characters; at most 4,000 are allowed"):
        check_prompt(Untouched("x" * length))


@pytest.mark.parametrize(
    ("prompt", "character", "position"),
    [
        ("a\0b", "U+0000", 2),
        ("\ud800", "U+D800", 1),
        ("ab\udfff", "U+DFFF", 3),
        ("a\x1b[31m", "U+001B", 2),
        ("old\rmac", "U+000D", 4),
        ("it\x92s", "U+0092", 3),
    ],
)
def test_characters_that_are_no_text_are_refused_with_their_position(prompt: str, character: str, position: int) -> None:
    with pytest.raises(PromptError, match=rf"the prompt holds the character {re.escape(character)} at position {position},"):
        check_prompt(prompt)


@pytest.mark.parametrize("prompt", ["x" * PROMPT_CHARACTERS, "two\nlines\tand a tab", "from\r\nWindows", "猫 🐈 e\u0301"])
def test_ordinary_prompts_are_taken(prompt: str) -> None:
    check_prompt(prompt)
    assert prompt_problem(prompt) is None


def test_other_texts_may_hold_what_any_database_can_store() -> None:
    assert text_problem("a\x1bb\r") is None
    assert text_problem("abc", 3) is None
    assert text_problem("abcd", 3) == "has 4 characters; at most 3 are allowed: shorten it"
    assert str(text_problem("a\0")).startswith("holds the character U+0000 at position 2")


def test_the_rule_can_be_imported_without_the_libraries_of_the_model() -> None:
    code = "import sys, descore.prompt; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
