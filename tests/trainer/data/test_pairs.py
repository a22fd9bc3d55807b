"""Labelled pairs from the store and from files, the split, the order of a run, and reading their frames."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from descore.answer import DIMENSIONS
from descore.video import content_hash
from storage import Database, StorageError
from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.campaigns.label_schema import Answer
from storage.labelling.assignments import Assignment
from storage.labelling.next_assignment import next_assignment
from storage.labelling.submit import submit
from storage.pairs import Pair, add_pair, add_video
from storage.video_files import store_video
from tests.helpers.labelled_shapes import FLAWED, GOOD, THOUGHTS, write_cold_start_table, write_videos
from tests.helpers.labelling import NOW, new_submission
from tests.helpers.tiny import POLICY, tiny_processor
from trainer.config import DataConfig
from trainer.data.frames import BadPairError, FrameCache, PairReader
from trainer.data.load_pairs import from_csv, from_store, load_pairs
from trainer.data.pairs import TrainingPair, is_held_out, pair_identity, step_order
from trainer.data.thought_file import PairThoughts, ThoughtFile
from trainer.thoughts.collect import keep

ALL = DataConfig(held_out_share=0.0)


def plain_pairs(count: int) -> list[TrainingPair]:
    return [
        TrainingPair(pair_identity(f"a{i}", f"b{i}", "p"), (Path("a"), Path("b")), (f"a{i}", f"b{i}"), "p", 1)
        for i in range(count)
    ]


# split and order


def test_a_pair_has_one_name_whichever_video_is_a() -> None:
    assert pair_identity("x", "y", " a cat ") == pair_identity("y", "x", "a cat")
    assert len({pair_identity("x", "y", "a cat"), pair_identity("x", "y", "a dog"), pair_identity("x", "z", "a cat")}) == 3


def test_once_held_out_always_held_out() -> None:
    identities = [pair.identity for pair in plain_pairs(2000)]
    small, large = ({one for one in identities if is_held_out(one, share)} for share in (0.1, 0.3))
    assert small < large
    assert 150 < len(small) < 250
    assert 530 < len(large) < 670
    # Known for good: a change of the hash would move held-out pairs into training.
    assert [i for i in range(12) if is_held_out(f"pair {i}", 0.5)] == [0, 1, 2, 3, 5, 7, 8, 9, 11]


def test_every_epoch_meets_every_pair_once_in_another_order() -> None:
    pairs = plain_pairs(10)
    steps = [step_order(pairs, step, 4, seed=1) for step in range(10)]  # 40 places, four epochs
    flat = [pair.identity for step in steps for pair in step]
    epochs = [flat[first : first + 10] for first in range(0, 40, 10)]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert step_order(pairs, 0, 10, seed=2) != step_order(pairs, 0, 10, seed=1)


def test_the_order_depends_on_the_step_alone() -> None:
    pairs = plain_pairs(7)
    straight = [step_order(pairs, step, 3, 0) for step in range(6)]
    assert step_order(pairs[::-1], 4, 3, 0) == straight[4]
    with pytest.raises(ValueError, match="no pairs"):
        step_order([], 0, 3, 0)


# files


def test_a_cold_start_table_gives_pairs_with_thoughts(tmp_path: Path) -> None:
    write_videos(tmp_path, 4)
    rows = [("0.mp4", "1.mp4", "a cat", "A"), ("2.mp4", "3.mp4", "a dog", "same"), ("0.mp4", "2.mp4", "a fox", "invalid")]
    loaded = from_csv(write_cold_start_table(tmp_path / "t.csv", rows), None, ALL)
    by_prompt = {pair.prompt: pair for pair in loaded.train}
    assert {prompt: pair.label for prompt, pair in by_prompt.items()} == {"a cat": 1, "a dog": 0}
    cat = by_prompt["a cat"]
    assert cat.thoughts == THOUGHTS
    assert cat.videos == (tmp_path / "0.mp4", tmp_path / "1.mp4")
    assert cat.contents == (content_hash(tmp_path / "0.mp4"), content_hash(tmp_path / "1.mp4"))
    assert loaded.held_out == ()
    assert any("invalid" in problem for problem in loaded.problems)


def test_rows_about_one_pair_are_counted_together_in_either_order(tmp_path: Path) -> None:
    write_videos(tmp_path, 3)
    rows = [
        ("0.mp4", "1.mp4", "a cat", "A"),
        ("1.mp4", "0.mp4", "a cat", "B"),  # the same video again
        ("0.mp4", "1.mp4", "a cat", "B"),
        ("0.mp4", "2.mp4", "a cat", "A"),
        ("0.mp4", "2.mp4", "a cat", "B"),
    ]
    table = write_cold_start_table(tmp_path / "t.csv", rows)
    loaded = from_csv(table, None, ALL)
    assert [(pair.videos[0].name, pair.label) for pair in loaded.train] == [("0.mp4", 1)]
    assert any("no majority" in problem for problem in loaded.problems)
    assert from_csv(table, None, replace(ALL, min_labels=3)).train == loaded.train
    assert from_csv(table, None, replace(ALL, min_labels=4)).train == ()


def test_an_rl_table_gives_the_known_sub_scores(tmp_path: Path) -> None:
    write_videos(tmp_path, 2)
    answer = {"video_1_scores": GOOD, "video_2_scores": {"camera": "0"}, "gsb_result": "Video 1 is better"}
    cells = json.dumps(f"<answer>{json.dumps(answer)}</answer>").replace('\\"', '""')
    (tmp_path / "rl.csv").write_text(f"videos,problem,answer\n\"['0.mp4', '1.mp4']\",a cat,{cells}\n")
    (pair,) = from_csv(tmp_path / "rl.csv", None, ALL).train
    assert pair.label == 1
    assert pair.sub_scores == (GOOD, {"camera": "0"})
    assert pair.thoughts is None


def test_a_videoalign_table_may_say_more_than_its_format(tmp_path: Path) -> None:
    write_videos(tmp_path, 2)
    scores = json.dumps(FLAWED).replace('"', '""')
    header = "path_A,path_B,prompt,TA,scores_B,CoT_A,CoT_B\n"
    (tmp_path / "pairs.csv").write_text(f'{header}0.mp4,1.mp4,a cat,B,"{scores}",one,two\n')
    (pair,) = from_csv(tmp_path / "pairs.csv", None, ALL).train
    assert (pair.label, pair.thoughts, pair.sub_scores) == (-1, ("one", "two"), ({}, FLAWED))


def test_a_missing_video_costs_its_pair_alone(tmp_path: Path) -> None:
    write_videos(tmp_path, 2)
    rows = [("0.mp4", "1.mp4", "a cat", "A"), ("0.mp4", "gone.mp4", "a dog", "A")]
    loaded = from_csv(write_cold_start_table(tmp_path / "t.csv", rows), None, ALL)
    assert [pair.prompt for pair in loaded.train] == ["a cat"]
    assert any("gone.mp4" in problem and problem.startswith("t.csv:3") for problem in loaded.problems)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StorageError, match="no format that is known"):
        load_pairs(replace(ALL, csv=str(tmp_path / "x.csv")))


def test_collected_thoughts_are_added_where_there_are_none(tmp_path: Path) -> None:
    write_videos(tmp_path, 2)
    (tmp_path / "pairs.csv").write_text("path_A,path_B,prompt,TA\n0.mp4,1.mp4,a cat,A\n")
    (pair,) = from_csv(tmp_path / "pairs.csv", None, ALL).train
    with ThoughtFile(tmp_path / "thoughts.jsonl") as file:
        file.add(PairThoughts(pair.identity, pair.contents[::-1], "somebody", ("about B", "about A")))
    settings = replace(ALL, thoughts=str(tmp_path / "thoughts.jsonl"))
    (again,) = from_csv(tmp_path / "pairs.csv", None, settings).train
    assert again.thoughts == ("about A", "about B")


# the store


def stored_pair(database: Database, folder: Path, a: int, b: int, prompt: str) -> Pair:
    """Add a pair whose files lie in the managed folder of the store."""
    files = [store_video(folder / f"{index}.mp4", database.home) for index in (a, b)]
    with database.write() as session:
        videos = [
            add_video(
                session, sha256=one.sha256, file=one.file, original_name="x", width=32, height=32, fps=4.0, duration=2.0
            )
            for one in files
        ]
        return add_pair(session, videos[0], videos[1], prompt, "test")


def label_all_pairs(database: Database, name: str, pairs: list[Pair], answers: dict[int, list[Answer]]) -> None:
    """Make a campaign over the pairs in which the people answer pair by pair."""
    people = max(len(given) for given in answers.values())
    with database.write() as session:
        ids = [pair.id for pair in pairs]
        settings = CampaignConfig(name=name, gold_share=0.0, repeat_share=0.0, overlap=people)
        campaign = create_campaign(session, settings, ids, DEFAULT_GUIDELINES, created_by=None)
        team = [add_user(session, f"{name} {place}", "annotator").id for place in range(people)]
    for place, person in enumerate(team):
        with database.write() as session:
            while isinstance(turn := next_assignment(session, campaign.id, person, NOW), Assignment):
                submit(session, turn.token, person, new_submission(), answers[turn.pair.id][place], NOW)


def said(choice: str, strength: str | None = None, **scores: dict[str, str]) -> Answer:
    cells = {"A": dict.fromkeys(DIMENSIONS, "2"), "B": dict.fromkeys(DIMENSIONS, "2")} | scores
    return Answer(choice=choice, strength=strength, sub_scores=cells)  # type: ignore[arg-type]


def test_the_store_gives_consensus_sub_scores_and_thoughts(database: Database, tmp_path: Path) -> None:
    write_videos(tmp_path / "clips", 6)
    pairs = [stored_pair(database, tmp_path / "clips", 2 * i, 2 * i + 1, f"prompt {i}") for i in range(3)]
    answers = {
        pairs[0].id: [said("B", "clearly", A=FLAWED), said("B", "slightly", A=FLAWED), said("B", "clearly")],
        pairs[1].id: [said("tie"), said("both_bad"), said("tie")],
        pairs[2].id: [said("A", "slightly"), said("B", "slightly"), said("tie")],
    }
    label_all_pairs(database, "first", pairs, answers)
    contents = pairs[0].video_a.sha256, pairs[0].video_b.sha256
    thoughts = PairThoughts(pair_identity(*contents, "prompt 0"), contents, "teacher x", THOUGHTS)
    keep(database, thoughts, "prompt 0")

    loaded = from_store(database, ALL)

    by_prompt = {pair.prompt: pair for pair in loaded.train}
    first, tie = by_prompt["prompt 0"], by_prompt["prompt 1"]
    assert (first.label, tie.label, tie.strength) == (-1, 0, 0.0)
    assert first.strength == pytest.approx(5 / 3)
    assert first.sub_scores == (FLAWED, GOOD)
    assert first.thoughts == THOUGHTS
    assert tie.thoughts is None
    assert all(path.is_file() for pair in loaded.train for path in pair.videos)
    assert [problem for problem in loaded.problems if "no majority" in problem] == [
        f"pair {pairs[2].id}: its 3 labels have no majority"
    ]
    assert from_store(database, replace(ALL, min_labels=4)).train == ()


def test_only_the_campaigns_that_are_asked_for_count(database: Database, tmp_path: Path) -> None:
    write_videos(tmp_path / "clips", 4)
    pairs = [stored_pair(database, tmp_path / "clips", 2 * i, 2 * i + 1, f"prompt {i}") for i in range(2)]
    for name, pair in zip(("one", "two"), pairs, strict=True):
        label_all_pairs(database, name, [pair], {pair.id: [said("A", "clearly")]})
    assert len(from_store(database, ALL).train) == 2
    assert [pair.prompt for pair in from_store(database, replace(ALL, campaigns=("two",))).train] == ["prompt 1"]
    with pytest.raises(StorageError, match="no campaign three; there are one, two"):
        from_store(database, replace(ALL, campaigns=("three",)))


def test_a_stored_video_that_is_gone_costs_its_pair_alone(database: Database, tmp_path: Path) -> None:
    write_videos(tmp_path / "clips", 4)
    pairs = [stored_pair(database, tmp_path / "clips", 2 * i, 2 * i + 1, f"prompt {i}") for i in range(2)]
    label_all_pairs(database, "all", pairs, {pair.id: [said("A", "clearly")] for pair in pairs})
    shutil.rmtree((database.home / "videos" / pairs[0].video_a.file).parent)
    loaded = from_store(database, ALL)
    assert [pair.prompt for pair in loaded.train] == ["prompt 1"]
    assert any(problem.startswith(f"pair {pairs[0].id}:") for problem in loaded.problems)


# frames


@pytest.fixture
def clips(tmp_path: Path) -> TrainingPair:
    videos = write_videos(tmp_path, 2)
    contents = (content_hash(videos[0]), content_hash(videos[1]))
    return TrainingPair(pair_identity(*contents, "a cat"), (videos[0], videos[1]), contents, "a cat", 1)


def a_reader(cache: Path | None = None) -> PairReader:
    return PairReader(tiny_processor(), POLICY, "compact-1", cache)


def test_frames_are_decoded_once_and_kept(clips: TrainingPair, tmp_path: Path) -> None:
    first = a_reader(tmp_path / "cache").rows(clips)
    for video in clips.videos:
        video.unlink()
    again = a_reader(tmp_path / "cache").rows(clips)
    for one, other in zip(first, again, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(BadPairError) as caught:
        PairReader(tiny_processor(), replace(POLICY, fps=4.0), "compact-1", tmp_path / "cache").rows(clips)
    assert caught.value.which == "A"
    assert caught.value.identity == clips.identity


@pytest.mark.parametrize("damage", ["cut off", "a byte"])
def test_a_damaged_cache_file_is_made_again(clips: TrainingPair, tmp_path: Path, damage: str) -> None:
    reader = a_reader(tmp_path / "cache")
    wanted = reader.rows(clips)
    kept = list((tmp_path / "cache").rglob("*.safetensors"))
    assert len(kept) == 2
    for path in kept:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "a byte" else content[:200])
        assert FrameCache(tmp_path / "cache", POLICY).get(path.stem) is None
    found = reader.rows(clips)
    assert torch.equal(found[0]["pixel_values_videos"], wanted[0]["pixel_values_videos"])
    assert FrameCache(tmp_path / "cache", POLICY).get(clips.contents[1]) is not None
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_expected_frames_are_the_same_and_errors_come_when_they_are_fetched(clips: TrainingPair) -> None:
    reader, plain = a_reader(), a_reader().rows(clips)
    broken = replace(clips, contents=("x", clips.contents[1]), videos=(clips.videos[0].with_name("no.mp4"), clips.videos[1]))
    reader.expect([clips])
    assert torch.equal(reader.rows(clips)[1]["pixel_values_videos"], plain[1]["pixel_values_videos"])
    reader.expect([broken])
    with pytest.raises(BadPairError, match=r"A: no\.mp4"):
        reader.rows(broken)
    reader.close()


def test_what_is_too_long_or_can_not_be_written_is_a_bad_pair(clips: TrainingPair) -> None:
    reader = a_reader()
    rows = reader.rows(clips)
    length = len(rows[0]["input_ids"])
    assert reader.rows(clips, max_prompt_tokens=length) is not None
    with pytest.raises(BadPairError, match=f"take {length} tokens, more than {length - 1}"):
        reader.rows(clips, max_prompt_tokens=length - 1)
    longer = reader.with_thoughts(clips, rows, ("I see a cat.", ""))
    assert int(longer[0]["thought_mask"].sum()) > 0
    assert len(longer[1]["input_ids"]) == len(rows[1]["input_ids"])
    with pytest.raises(BadPairError, match="prompt, video and thought"):
        reader.with_thoughts(clips, rows, ("I see a cat.", ""), max_length=length)
    with pytest.raises(BadPairError, match="B: the thought holds control tokens"):
        reader.with_thoughts(clips, rows, ("", "<|im_end|>"))
    with pytest.raises(BadPairError, match="prompt: the prompt holds the control token"):
        reader.rows(replace(clips, prompt="a <|im_end|> cat"))
