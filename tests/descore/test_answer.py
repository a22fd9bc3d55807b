"""The answer grammar: what is strict, what is readable, and that nothing is ever guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descore.answer import (
    DIMENSIONS,
    PRIMARY,
    SECONDARY,
    SUB_SCORES,
    AnswerError,
    parse_strict,
    parse_tolerant,
    render_answer,
)
from descore.prompt import text_problem
from tests.helpers.mutations import EXAMPLES, holds_for, mutated, mutated_json

SCORES = {"subject": "2", "dynamics": "1", "camera": "N/A", "environment": "0", "style": "2"}
GOOD = render_answer("I expect a circle. I see one.", SCORES, 3.5)

scores = st.fixed_dictionaries({name: st.sampled_from(SUB_SCORES) for name in DIMENSIONS})
overalls = st.integers(100, 500).map(lambda hundredths: hundredths / 100)
reasonings = st.text().filter(lambda text: not any(tag in text for tag in ("think>", "answer>")))


def answer_with(**changes: object) -> str:
    """The good answer's text with some keys of its JSON changed; None removes a key."""
    fields: dict[str, object] = {**SCORES, "overall_score": 3.5, **changes}
    kept = {key: value for key, value in fields.items() if value is not None}
    return f"<think>t</think><answer>{json.dumps(kept)}</answer>"


def test_five_dimensions_two_of_them_primary() -> None:
    assert DIMENSIONS == ("subject", "dynamics", "camera", "environment", "style")
    assert (PRIMARY, SECONDARY) == (("subject", "dynamics"), ("camera", "environment", "style"))


@given(reasonings, scores, overalls)
def test_what_is_rendered_parses_strictly_to_the_same(reasoning: str, sub: dict[str, str], overall: float) -> None:
    answer = parse_strict(render_answer(reasoning, sub, overall))
    assert (answer.reasoning, answer.sub_scores, answer.notes) == (reasoning.strip(), sub, ())
    assert answer.overall_score == pytest.approx(overall)


@given(reasonings, scores, overalls)
def test_the_tolerant_parser_takes_nothing_from_a_strict_answer(reasoning: str, sub: dict[str, str], overall: float) -> None:
    text = render_answer(reasoning, sub, overall)
    assert parse_tolerant(text) == parse_strict(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no tags at all",
        GOOD + " and that is all",
        "Sure: " + GOOD,
        GOOD + GOOD,
        GOOD.replace("</think>", "</think></think>"),
        GOOD.replace("I expect", "<think>I expect"),
        GOOD.replace("<think>", "").replace("</think>", ""),
        GOOD.replace("<answer>", "<answer>```json\n").replace("</answer>", "\n```</answer>"),
        GOOD.replace("</answer>", ""),
        answer_with(subject=2),
        answer_with(subject="3"),
        answer_with(subject="n/a"),
        answer_with(subject=True),
        answer_with(style=None),
        answer_with(overall_score=None),
        answer_with(overall_score="3.5"),
        answer_with(overall_score=True),
        answer_with(overall_score=0.99),
        answer_with(overall_score=5.01),
        answer_with(overall_score=float("nan")),
        answer_with(comment="fine"),
        '<think>t</think><answer>["2", "2", "2", "2", "2"]</answer>',
        '<think>t</think><answer>{"subject": "2", ' + answer_with().partition("{")[2],
        "<think>t</think><answer>" + "[" * 100_000 + "</answer>",
        answer_with().replace("3.5", "1" * 10_000),
    ],
)
def test_strict_refuses(text: str) -> None:
    with pytest.raises(AnswerError):
        parse_strict(text)


def test_strict_allows_blanks_around_the_blocks() -> None:
    assert parse_strict(f"\n {GOOD.replace('</think>', '</think>' + chr(10))} \n").sub_scores == SCORES


@pytest.mark.parametrize(
    "text",
    [
        GOOD + "\nI hope that helps!",
        "Sure, here it is:\n" + GOOD,
        GOOD.replace("<answer>", "```json\n").replace("</answer>", "\n```"),
        GOOD.replace("<answer>", "").replace("</answer>", ""),
        GOOD.replace("</answer>", "<|im_end|>"),
        "```\na first note\n```\n" + GOOD,
        answer_with(subject=2, dynamics=1.0, camera="n/a", environment=" 0 "),
        answer_with(confidence="high"),
        GOOD.replace("<answer>", '<answer>a draft {"subject": "0"} and the answer '),
        answer_with().replace('"subject": "2"', '"subject": "2", "subject": "2"'),
    ],
)
def test_tolerant_reads_what_a_person_would_and_says_so(text: str) -> None:
    answer = parse_tolerant(text)
    assert answer.sub_scores == SCORES
    assert answer.overall_score == 3.5
    assert answer.notes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The subject matches, so 2.",
        "{}",
        "<think>I expect a circle and see",
        answer_with(style=None),
        answer_with(style="3"),
        answer_with(style="good"),
        answer_with(style=1.5),
        answer_with(style=True),
        answer_with(style=["2"]),
        answer_with(style="none"),
        answer_with().replace('"style": "2"', '"style": null'),
        answer_with().replace('"style": "2"', '"style": "2", "style": "0"'),
        answer_with().replace('"style": "2"', '"style": NaN, "style": NaN'),
        '{"answer": ' + answer_with().partition("<answer>")[2].replace("</answer>", "}"),
        "{" * 5_000,
        '{"subject":' * 2_000,
        answer_with().replace("3.5", "1" * 10_000),
    ],
)
def test_tolerant_never_guesses(text: str) -> None:
    with pytest.raises(AnswerError):
        parse_tolerant(text)


def test_an_unreadable_overall_score_is_left_out_and_noted() -> None:
    for value in (None, "good", 7, [3.5]):
        answer = parse_tolerant(answer_with(overall_score=value))
        assert answer.overall_score is None
        assert any("overall_score" in note for note in answer.notes)
    assert parse_tolerant(answer_with(overall_score="4.25")).overall_score == 4.25


def test_every_liberty_is_in_the_notes() -> None:
    notes = " | ".join(parse_tolerant(answer_with(subject=2, camera="n/a") + " bye").notes)
    assert "subject: 2" in notes
    assert "camera: 'n/a'" in notes


def test_the_thought_is_split_off_without_its_tags() -> None:
    text = "<think> a thought </think> " + GOOD.partition("</think>")[2] + "!"
    assert parse_tolerant(text).reasoning == "a thought"


TAGS = ["<think>", "</think>", "<answer>", "</answer>", "```"]
pieces = st.sampled_from([*TAGS, "{", "}", "[", ":", ",", "\\", '"subject"', "2", "1e999", GOOD])
strange = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())


@given(st.one_of(st.text(), st.lists(st.one_of(pieces, st.text(max_size=5)), max_size=30).map("".join)))
def test_any_text_gives_an_answer_or_the_typed_error(text: str) -> None:
    for parse in (parse_strict, parse_tolerant):
        try:
            answer = parse(text)
        except AnswerError as error:
            assert str(error)  # noqa: PT017 - random input: an error is allowed, not required
        else:
            assert set(answer.sub_scores) == set(DIMENSIONS)
            assert set(answer.sub_scores.values()) <= set(SUB_SCORES)


@given(scores, st.sampled_from(DIMENSIONS), strange)
def test_a_strange_value_is_read_faithfully_or_not_at_all(sub: dict[str, str], name: str, value: object) -> None:
    text = json.dumps({**sub, name: value})
    try:
        answer = parse_tolerant(text)
    except AnswerError:
        return
    assert not isinstance(value, bool)
    assert value is not None
    read = answer.sub_scores[name]
    if read == "N/A":
        assert isinstance(value, str)
    else:
        assert float(str(value)) == float(read)


OBJECT = GOOD.partition("<answer>")[2].partition("</answer>")[0]
SEEDS = [
    GOOD,
    f"<think>{{{OBJECT}}}</think>\n```json\n{OBJECT}\n```",
    f"a draft {OBJECT} and the answer {answer_with(camera=2, style=None, overall_score='4.25')}",
    answer_with(comment={"subject": ["2"]}),
]
PIECES = [
    *TAGS,
    *('{}[]:,"\\'),
    *("\\u0000", "\\ud800", "\ud800", "1e999", "-0", "NaN", "Infinity", "null", "true"),
    *('"subject"', '"overall_score"', '"N/A"', "2", "3.5", "9" * 400, "9" * 5000, "[" * 1000, '{"style":' * 1000, OBJECT),
]


def check_parsed(text: str) -> None:
    """An answer in range, or the one documented error; every message can be stored and shown, and is short."""
    for parse in (parse_strict, parse_tolerant):
        try:
            answer = parse(text)
        except AnswerError as error:
            assert 0 < len(str(error)) < 500  # noqa: PT017 - random input: an error is allowed, not required
            assert text_problem(str(error)) is None  # noqa: PT017
            continue
        assert list(answer.sub_scores) == list(DIMENSIONS)
        assert set(answer.sub_scores.values()) <= set(SUB_SCORES)
        assert answer.overall_score is None or 1.0 <= answer.overall_score <= 5.0
        assert parse is parse_tolerant or (answer.overall_score is not None and answer.notes == ())
        assert all(text_problem(note, 500) is None for note in answer.notes), answer.notes


@EXAMPLES
def test_damaged_answers_give_an_answer_or_the_typed_error(examples: int) -> None:
    holds_for(mutated(SEEDS, PIECES), examples, check_parsed)


@EXAMPLES
def test_answers_with_strange_values_give_an_answer_or_the_typed_error(examples: int) -> None:
    fields = {**SCORES, "overall_score": 3.5}
    holds_for(mutated_json([fields]), examples, lambda text: check_parsed(f"<think>t</think><answer>{text}</answer>"))


@pytest.mark.parametrize("key", ["\\ud800", "x" * 100_000])
def test_a_message_has_neither_half_characters_nor_endless_keys(key: str) -> None:
    text = GOOD.replace('"subject"', f'"{key}": 1, "subject"')
    with pytest.raises(AnswerError, match="the keys must be"):
        parse_strict(text)
    assert parse_tolerant(text).sub_scores == SCORES
    check_parsed(text)
