"""Reading files of pairs: every problem with its line, and nothing that leads out of the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage.exchange.format_reader import FormatReader
from storage.exchange.formats.detect import detect_format, read_file
from storage.exchange.parsed import ExchangeError, ParsedFile
from tests.helpers.exchange_world import VIDEOALIGN, make_files, write_csv

HEADER = "path_A,path_B,prompt,TA"


def read(path: Path, text: str | bytes, format: str | None = None, videos: Path | None = None) -> ParsedFile:
    """What a file of this content says."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(path, format, videos)[1]


def problems(parsed: ParsedFile) -> list[str]:
    """The problems as a person sees them."""
    return [str(problem) for problem in parsed.problems]


def test_a_table_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    rows = f'\ufeff{HEADER}\r\na.mp4,b.mp4,"two\r\nlines, ""quoted""",A\r\n\r\nc.mp4,d.mp4,zwei,same\r\n'
    parsed = read(tmp_path / "pairs.csv", rows)
    assert not parsed.problems
    assert [(pair.line, pair.prompt) for pair in parsed.pairs] == [(2, 'two\r\nlines, "quoted"'), (5, "zwei")]
    assert [pair.assignments[0].labels[0].choice for pair in parsed.pairs] == ["A", "tie"]
    assert parsed.pairs[0].a.path == tmp_path / "a.mp4"


def test_all_problems_come_together_with_the_first_line_of_their_row(tmp_path: Path) -> None:
    rows = [
        ("", "b.mp4", "", "A"),
        ("a.mp4", "../b.mp4", "one\nmore", "a"),
        ("a.mp4", "b.mp4", "fine", "B"),
        ("a.mp4", "b.mp4", "short"),
        ("/etc/passwd", "b.mp4", "absolute", "A"),
    ]
    path = write_csv(tmp_path / "pairs.csv", HEADER.split(","), rows)
    assert problems(read_file(path)[1]) == [
        "pairs.csv:2: path_A names no video",
        "pairs.csv:2: prompt is empty: enter the text that the videos were made from",
        "pairs.csv:3: video ../b.mp4: the path leads out of the folder of the videos",
        "pairs.csv:3: TA is 'a'; expected A, B, same",
        "pairs.csv:6: has 3 cells, the header has 4",
        "pairs.csv:7: video /etc/passwd: the path leads out of the folder of the videos",
    ]


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        ("\ufeff" + f"{HEADER}\na.mp4,b.mp4,schön,A\n".replace(",", ";"), []),
        (f"sep=;\r\n{HEADER}\r\na.mp4,b.mp4,schön,A\r\n".replace(",", ";"), []),
        (f"sep=,\n{HEADER}\n\n,,,\na.mp4,b.mp4,schön,A\n", []),
        (f"{HEADER}\na.mp4,b.mp4,schön,A\n".replace(",", "\t").encode("utf-16"), []),
        (f"{HEADER},\na.mp4,b.mp4,schön,A,\n", []),
        (
            f"{HEADER}\na.mp4,b.mp4,schön,A\n".encode("cp1252"),
            [
                "pairs.csv:2: byte 0xf6 is not UTF-8; the table is read as Windows-1252, check the prompts or save "
                "it as UTF-8"
            ],
        ),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, content: str | bytes, notes: list[str]) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    format, parsed = read_file(path)
    assert (format, problems(parsed)) == ("videoalign", [])
    assert [pair.prompt for pair in parsed.pairs] == ["schön"]
    assert [str(note) for note in parsed.notes] == notes


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("path_A,path_B,TA\n", "pairs.csv:1: lacks the columns prompt; it has path_A, path_B, TA"),
        ("path_A,path_B,prompt,TA,TA\n", "pairs.csv:1: repeats the columns TA"),
        ("\n\n", "pairs.csv: there is no table in it; expected the columns path_A, path_B, prompt"),
        (f'{HEADER}\na,b,c,A\na,b,"open', "pairs.csv:3: not a CSV from here on: unexpected end of data"),
        (f"{HEADER}\na,b,caf\xe9,A\n\x81".encode("latin-1"), "pairs.csv:3: byte 0x81 is neither UTF-8 nor Windows-1252"),
        (f"{HEADER},\na,b,c,A,x\n", "pairs.csv:2: holds 'x' in a column without a name"),
    ],
)
def test_a_table_that_is_none_says_so(tmp_path: Path, content: str | bytes, problem: str) -> None:
    (found,) = problems(read(tmp_path / "pairs.csv", content, "videoalign"))
    assert found.startswith(problem)


def test_only_a_given_folder_of_videos_allows_absolute_paths_and_these_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    make_files(root, ["a.mp4"])
    inside, up = str(root / "a.mp4"), "x/../a.mp4"
    rows = [(inside, up, "p", "A"), (str(tmp_path / "b.mp4"), "../b.mp4", "q", "A")]
    path = write_csv(tmp_path / "pairs.csv", HEADER.split(","), rows)
    parsed = read_file(path, videos=root)[1]
    assert parsed.pairs[0].a.path == parsed.pairs[0].b.path == root / "a.mp4"
    assert [problem.line for problem in parsed.problems] == [3, 3]
    assert len(read_file(path)[1].problems) == 4


def test_other_columns_are_kept_and_no_empty_cells(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "p.csv", (*VIDEOALIGN, "seed"), [("a", "b", "", "k", "p", "A", "", "B", "=1+1")])
    (pair,) = read_file(path)[1].pairs
    assert dict(pair.extra_columns) == {"VQ": "A", "seed": "=1+1"}
    assert (pair.generator_a, pair.generator_b) == (None, "k")


def test_a_json_array_is_read_object_by_object(tmp_path: Path) -> None:
    good = {"prompt": "p", "left_video": "a", "right_video": "b", "vote_type": "bothbad_vote", "left_model": "m", "n": 3}
    text = f'[\n {json.dumps(good)},\n {{"prompt":\n  "q"}},\n 7\n]'
    parsed = read(tmp_path / "g.json", text)
    assert parsed.pairs[0].assignments[0].labels[0].choice == "both_bad"
    assert (parsed.pairs[0].generator_a, dict(parsed.pairs[0].extra_columns)) == ("m", {"n": 3})
    assert problems(parsed) == [
        "g.json:3: lacks left_video, right_video, vote_type; an object needs prompt, left_video, right_video, vote_type",
        "g.json:5: not an object but int",
    ]


@pytest.mark.parametrize("text", ["[", '[{"a": 1}', '[{"a": 1} {"b": 2}]', '{"a": 1}', "", "[nonsense]"])
def test_a_broken_json_array_ends_with_a_problem(tmp_path: Path, text: str) -> None:
    assert problems(read(tmp_path / "g.json", text, "genai-bench"))


def test_json_lines_go_on_behind_a_broken_line(tmp_path: Path) -> None:
    good = json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"})
    parsed = read(tmp_path / "p.jsonl", f'{good}\r\n\n{{"chosen": \n{good}\n"text"\n')
    assert [pair.line for pair in parsed.pairs] == [1, 4]
    assert [problem.line for problem in parsed.problems] == [3, 5]


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.csv", "path_A,path_B,prompt,VQ\n", "videoalign"),
        ("a.csv", "path_A,path_B,prompt\n", "csv"),
        ("a.txt", "\ufeffvideo_a,video_b,prompt,label\n", "csv"),
        ("a.csv", "videos,problem,answer\n", "descore-rl"),
        ("a.csv", "videos,problem,prompt,CoT_A,CoT_B,GSB\n", "descore-cold-start"),
        ("a.json", "\n [{}]", "genai-bench"),
        ("a.jsonl", '{"prompt": "p", "chosen": "a", "rejected": "b"}\n', "preference-jsonl"),
        ("a.jsonl", '{"video_a": "p"}\n', "studio-jsonl"),
        ("a.bin", "PAR1...", "parquet"),
        ("a.csv", "Path_A,path_B,prompt\n", "table"),
        ("a.csv", "path_A,path_B,caption,TA\n", "table"),
        ("a.json", '[{"prompt": "p", "video_left": "a", "video_right": "b"}]', "table"),
        ("a.jsonl", '\n{"caption": "p", "chosen": "a", "rejected": "b"}\n', "table"),
        ("a.jsonl", '{"caption": "p", "video_1": "a", "video_2": "b"}\n', "table"),
    ],
)
def test_the_format_is_seen_in_the_header(tmp_path: Path, name: str, content: str, format: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    assert detect_format(tmp_path / name) == format


def test_a_file_of_no_known_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("left,right\n")
    with pytest.raises(ExchangeError, match=r"a\.csv has no format that is known: a table needs the columns"):
        detect_format(tmp_path / "a.csv")
    with pytest.raises(ExchangeError, match=r"there is no file or folder b\.csv"):
        read_file(tmp_path / "b.csv")


def test_a_broken_parquet_file_is_a_problem_of_the_file(tmp_path: Path) -> None:
    (found,) = problems(read(tmp_path / "a.parquet", b"PAR1 and nothing more"))
    assert found.startswith("a.parquet: not a Parquet file that can be read")


def test_a_link_in_the_folder_may_lead_elsewhere(tmp_path: Path) -> None:
    """Downloaded datasets are folders of links into a cache."""
    make_files(tmp_path / "cache", ["blob"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").symlink_to(tmp_path / "cache" / "blob")
    clip = FormatReader(tmp_path / "data" / "pairs.csv").clip_at(1, "a.mp4", "path_A")
    assert clip is not None
    assert clip.path is not None
    assert clip.path.read_bytes() == b"blob"


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("x" * 20_000, "prompt has 20,000 characters; at most 4,000 are allowed: shorten it"),
        ("x" * 1_000_000, "prompt has 1,000,000 characters; at most 4,000 are allowed: shorten it"),
        ("a\x1bb", "prompt holds the character U+001B at position 2, which can't be stored: remove it"),
        ("a\0b", "prompt holds the character U+0000 at position 2, which can't be stored: remove it"),
    ],
)
def test_a_prompt_that_can_not_be_used_is_a_problem_of_its_row(tmp_path: Path, prompt: str, problem: str) -> None:
    rows = [("a.mp4", "b.mp4", "fine", "B"), ("a.mp4", "b.mp4", prompt, "A")]
    path = write_csv(tmp_path / "pairs.csv", HEADER.split(","), rows)
    assert problems(read_file(path)[1]) == [f"pairs.csv:3: {problem}"]
