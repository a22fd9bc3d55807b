"""What each format says, and what its rows can get wrong."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descore.answer import DIMENSIONS
from descore.prompt import prompt_problem
from storage.exchange.formats.detect import ROUND_TRIP, read_file, write_folder
from storage.exchange.parsed import Clip, ExchangeError, ParsedAssignment, ParsedFile, ParsedLabel, ParsedPair, flipped
from tests.helpers.exchange_world import cells, make_files, write_csv

VIDEOS = "['a.mp4', 'b.mp4']"


def answer(result: str, first: dict[str, Any], second: dict[str, Any]) -> str:
    """A cell of the RL table."""
    fields = {"video_1_scores": first, "video_2_scores": second, "gsb_result": result}
    return f"<answer>{json.dumps(fields)}</answer>"


def rl_file(path: Path, *answers: str, columns: tuple[str, ...] = ("videos", "problem", "answer")) -> ParsedFile:
    """What the RL table with these answers says."""
    return read_file(write_csv(path, columns, [(VIDEOS, "a red circle", text) for text in answers]))[1]


@pytest.mark.parametrize(
    ("words", "choice"),
    [
        ("Video 1 is better", "A"),
        ("video 2 is much better than video 1", "B"),
        ("Video 1 is better than Video 2", "A"),
        ("Same", "tie"),
        ("Both videos are equally good", "tie"),
        ("B", "B"),
    ],
)
def test_an_rl_answer_is_a_label_with_sub_scores(tmp_path: Path, words: str, choice: str) -> None:
    parsed = rl_file(tmp_path / "rl.csv", answer(words, cells("2"), {"subject": 1, "style": "N/A"}))
    (pair,) = parsed.pairs
    label = pair.assignments[0].labels[0]
    assert not parsed.problems
    assert (pair.prompt, dict(pair.extra_columns)) == ("a red circle", {})
    assert label.choice == choice
    assert label.sub_scores == {"A": cells("2"), "B": {"subject": "1", "style": "N/A"}}


def test_rl_answers_that_say_something_else_are_problems(tmp_path: Path) -> None:
    parsed = rl_file(
        tmp_path / "rl.csv",
        answer("Video 3 is better", {}, {}),
        answer("Same", {"subject": "3"}, {}),
        answer("Same", {"beauty": "2"}, {}),
        "<answer>nothing</answer>",
        '<answer>{"gsb_result": "Same"}</answer>',
    )
    assert [str(problem) for problem in parsed.problems] == [
        "rl.csv:2: answer: gsb_result is 'Video 3 is better'; expected Video 1 is better, Video 2 is better or Same",
        "rl.csv:3: answer: subject of A is '3'; a sub-score is one of 2, 1, 0, N/A",
        f"rl.csv:4: answer: unknown dimension 'beauty'; known are {', '.join(DIMENSIONS)}",
        "rl.csv:5: answer: inside of <answer>...</answer>: not JSON: Expecting value: line 1 column 1 (char 0)",
        "rl.csv:6: answer: lacks video_1_scores, video_2_scores",
    ]


def test_an_instruction_beside_the_prompt_is_kept(tmp_path: Path) -> None:
    columns = ("videos", "problem", "prompt", "answer")
    path = write_csv(tmp_path / "rl.csv", columns, [(VIDEOS, "Judge: a dog", "a dog", answer("Same", {}, {}))])
    (pair,) = read_file(path)[1].pairs
    assert (pair.prompt, dict(pair.extra_columns)) == ("a dog", {"problem": "Judge: a dog"})


def test_the_cold_start_table_brings_thoughts_and_pairs_without_a_verdict(tmp_path: Path) -> None:
    columns = ("videos", "problem", "prompt", "CoT_A", "CoT_B", "GSB")
    rows = [
        ('("a.mp4", "b.mp4")', "judge", "p", "<think>1", " two\n", "same"),
        (VIDEOS, "p", "p", "", "", "invalid"),
        ("a.mp4", "p", "p", "", "", "A"),
        ("__import__('os')", "p", "p", "", "", "C"),
    ]
    parsed = read_file(write_csv(tmp_path / "cold.csv", columns, rows))[1]
    first, second = parsed.pairs
    assert (first.thought_a, first.thought_b, first.assignments[0].labels[0].choice) == ("<think>1", " two\n", "tie")
    assert second.assignments == ()
    assert [note.line for note in parsed.notes] == [4]
    assert [problem.line for problem in parsed.problems] == [5, 6, 6]


def test_a_preference_without_a_side_has_no_order(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    keys = {"prompt": "p", "chosen": "good.mp4", "rejected": "bad.mp4", "chosen_model": "sora", "score": 0.5}
    path.write_text("\n".join(json.dumps(keys | more) for more in ({}, {"chosen_side": "B"}, {"chosen_side": "C"})))
    parsed = read_file(path)[1]
    free, second, _ = parsed.pairs
    assert not free.ordered
    assert free.a.name == "good.mp4"
    assert free.assignments[0].labels[0].choice == "A"
    assert second.ordered
    assert second.b.name == "good.mp4"
    assert second.assignments[0].labels[0].choice == "B"
    assert (second.generator_b, dict(second.extra_columns)) == ("sora", {"score": 0.5})
    assert [problem.line for problem in parsed.problems] == [3]


def test_a_plain_table_may_have_labels_of_any_depth(tmp_path: Path) -> None:
    columns = ("video_a", "video_b", "prompt", "label", "strength", "subject_B", "note", "annotator")
    rows = [
        ("a", "b", "p", "both_bad", "", "0", "blurred", "anna"),
        ("a", "b", "q", "", "", "", "", ""),
        ("a", "b", "r", "", "clearly", "", "", ""),
        ("a", "b", "s", "A", "very", "5", "", ""),
    ]
    parsed = read_file(write_csv(tmp_path / "t.csv", columns, rows))[1]
    (assignment,) = parsed.pairs[0].assignments
    assert (assignment.annotator, assignment.labels[0].choice, assignment.labels[0].note) == ("anna", "both_bad", "blurred")
    assert assignment.labels[0].sub_scores == {"B": {"subject": "0"}}
    assert parsed.pairs[1].assignments == ()
    assert [problem.line for problem in parsed.problems] == [4, 5, 5]


def clips_folder(root: Path) -> Path:
    """Three generators, three prompts; not everybody made each."""
    for name in ("sora", "kling", "veo"):
        make_files(root / name, ["red.mp4", "v1.5 blue.webm"])
    make_files(root / "veo", ["alone.mp4", "notes.doc", ".hidden"])
    write_csv(root / "prompts.csv", ("name", "prompt"), [("red.mp4", "a red circle"), ("ghost", "nothing")])
    (root / "v1.5 blue.txt").write_text("a blue square\n", "utf-8")
    return root


def test_a_folder_pairs_the_generators_of_each_prompt(tmp_path: Path) -> None:
    format, parsed = read_file(clips_folder(tmp_path / "clips"))
    assert (format, parsed.problems) == ("folder", ())
    found = {(pair.generator_a, pair.generator_b, pair.prompt) for pair in parsed.pairs}
    two = [("kling", "sora"), ("kling", "veo"), ("sora", "veo")]
    assert found == {(*names, prompt) for names in two for prompt in ("a red circle", "a blue square")}
    assert all(not pair.ordered and pair.a.path is not None and pair.a.path.is_file() for pair in parsed.pairs)
    assert [note.message for note in parsed.notes] == [
        "veo/notes.doc is not a video and was left out",
        "prompts.csv has a prompt for ghost, and there is no video of that name",
        "veo/alone.mp4: no other generator has a video of this name",
    ]


def test_a_folder_says_which_prompts_are_missing_or_contradict(tmp_path: Path) -> None:
    root = clips_folder(tmp_path / "clips")
    (root / "v1.5 blue.txt").unlink()
    (root / "sora" / "red.txt").write_text("a green circle", "utf-8")
    make_files(root / "kling", ["red.mov"])
    assert [problem.message for problem in read_file(root)[1].problems] == [
        "kling/red.mov and kling/red.mp4: two videos of one generator and one prompt",
        "sora/red.txt has another prompt for red than the rest of the folder",
        "no prompt for v1.5 blue: neither prompts.csv nor v1.5 blue.txt has one",
    ]
    with pytest.raises(ExchangeError, match="holds its videos itself"):
        read_file(root, videos=tmp_path)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"choice": "C"}, "choice is 'C'; expected A, B, tie, both_bad"),
        ({"choice": "A", "action": "skip"}, "action skip with the choice A: a label has a choice, everything else has none"),
        ({"action": "label"}, "action label with the choice None: a label has a choice, everything else has none"),
        ({"choice": "A", "strength": 2}, "strength is 2; expected slightly, clearly"),
        ({"choice": "A", "round": 3}, "round is 3; expected 0, 1 for a planned repeat, or 2 for an adjudication"),
        ({"choice": "A", "seconds": -1}, "seconds is -1; expected a number that is not negative"),
        ({"choice": "A", "marks": [{"video": "C"}]}, "a mark is {'video': 'C'}; expected an object with video"),
        ({"choice": "A", "playback": "no"}, "playback is not a JSON object"),
        ({"choice": "A", "created_at": "2026-01-31T12:00:00"}, "created_at is datetime.datetime(2026, 1, 31, 12, 0)"),
        ({"choice": "A", "created_at": "yesterday"}, "created_at is 'yesterday'; expected a moment"),
        ({"choice": "A", "sub_scores": {"C": {}}}, "sub-scores belong to A or B, not 'C'"),
        ({"choice": "A", "token": "x" * 65}, "token must be text of at most 64 characters"),
        ({"choice": "A", "revision": 1}, "one annotator, round 0: the revisions are [1]; they must be counted from 0"),
        ({"facts": "[1]"}, "facts is not a JSON object"),
        ({"video_a": 7}, "needs text in video_a"),
    ],
)
def test_a_record_of_the_studio_is_checked(tmp_path: Path, fields: dict[str, Any], problem: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"video_a": "a", "video_b": "b", "prompt": "p"} | fields))
    (found,) = read_file(path)[1].problems
    assert found.line == 1
    assert found.message.startswith(problem)


def test_two_records_of_one_revision_must_agree(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    common = {"video_a": "a", "video_b": "b", "prompt": "p", "annotator": "anna"}
    lines = [common | {"choice": "A"}, common | {"choice": "A"}, common | {"choice": "B", "revision": 1}]
    path.write_text("\n".join(map(json.dumps, lines)))
    parsed = read_file(path)[1]
    assert not parsed.problems
    assert [label.choice for label in parsed.pairs[0].assignments[0].labels] == ["A", "B"]
    path.write_text("\n".join(map(json.dumps, [*lines, common | {"choice": "tie"}, common | {"generator_a": "sora"}])))
    assert [str(problem) for problem in read_file(path)[1].problems] == [
        "labels.jsonl:5: says something else of the pair than line 1",
        "labels.jsonl:1: anna, round 0: revision 0 is there twice, with different contents",
    ]


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1).filter(str.strip)
PROMPTS = TEXTS.filter(lambda text: prompt_problem(text) is None)
LABEL = ParsedLabel(choice="A", strength="clearly", sub_scores={"A": cells("1"), "B": cells("N/A")})


@pytest.mark.parametrize("format", ROUND_TRIP)
@settings(max_examples=25)
@given(prompt=PROMPTS, fact=TEXTS, generator=TEXTS)
def test_any_text_survives_any_format(
    tmp_path_factory: pytest.TempPathFactory, format: str, prompt: str, fact: str, generator: str
) -> None:
    folder = tmp_path_factory.mktemp("out")
    pair = ParsedPair(
        line=None,
        a=Clip("videos/a.mp4", None, "0" * 64, 24.0, 48),
        b=Clip("videos/b.mp4", None, "1" * 64, 24.0, 48),
        prompt=prompt,
        generator_a=generator,
        extra_columns={"a fact": fact},
        assignments=(ParsedAssignment((LABEL,), annotator="anna"),),
        thought_a=prompt,
    )
    written = write_folder([pair], format, folder)
    assert written.rows == 1
    name, parsed = read_file(folder if format == "hf-dataset" else folder / written.files[0])
    assert (name, parsed.problems) == (format, ())
    (found,) = parsed.pairs
    assert (found.prompt, found.generator_a, found.extra_columns["a fact"]) == (prompt, generator, fact)
    assert found.assignments[0].annotator == "anna"
    assert found.assignments[0].labels[0].choice == "A"


def test_a_flipped_pair_says_the_same_of_each_video() -> None:
    label = ParsedLabel(
        choice="B",
        sub_scores={"A": {"style": "1"}},
        marks=({"video": "B", "time": 1.0},),
        left_video="A",
        playback={"B": {"plays": 2}},
        created_at=datetime(2026, 1, 31, tzinfo=timezone.utc),
    )
    pair = ParsedPair(1, Clip("x"), Clip("y"), "p", "sora", None, {}, (ParsedAssignment((label,)),), thought_b="of y")
    turned = flipped(pair)
    found = turned.assignments[0].labels[0]
    assert (turned.a.name, turned.generator_b, turned.thought_a) == ("y", "sora", "of y")
    assert (found.choice, found.left_video) == ("A", "B")
    assert found.sub_scores == {"B": {"style": "1"}}
    assert found.marks == ({"video": "A", "time": 1.0},)
    assert found.playback == {"A": {"plays": 2}}
    assert flipped(turned) == pair
