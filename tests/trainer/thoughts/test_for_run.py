"""The backbone's own thoughts before stage 1: what any process of the run has thought is not thought again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from accelerate import Accelerator

from descore.video import content_hash
from tests.helpers.labelled_shapes import THOUGHTS, write_videos
from tests.helpers.tiny import tiny_judge
from trainer.data.frames import PairReader
from trainer.data.pairs import TrainingPair, expected_cost, pair_identity
from trainer.data.thought_file import PairThoughts, ThoughtFile, read_lines
from trainer.engine.precision import Precision
from trainer.engine.stop_signals import StopSignals
from trainer.thoughts.for_run import with_own_thoughts


def some_pairs(folder: Path, count: int) -> list[TrainingPair]:
    videos, pairs = write_videos(folder, 2 * count), []
    for index in range(count):
        a, b = videos[2 * index], videos[2 * index + 1]
        contents = content_hash(a), content_hash(b)
        pairs.append(TrainingPair(pair_identity(*contents, f"p{index}"), (a, b), contents, f"p{index}", 1))
    return pairs


def test_a_pair_costs_more_with_larger_files_and_longer_texts(tmp_path: Path) -> None:
    (pair,) = some_pairs(tmp_path, 1)
    assert 0 < expected_cost(pair) < expected_cost(replace(pair, thoughts=THOUGHTS))
    pair.videos[0].write_bytes(bytes(10_000_000))
    assert expected_cost(pair) > expected_cost(replace(pair, thoughts=THOUGHTS, videos=(pair.videos[1],) * 2))
    assert expected_cost(replace(pair, videos=(tmp_path / "none", tmp_path / "none"))) == 2 * len(pair.prompt)


@pytest.mark.slow
def test_thoughts_of_every_process_count_and_the_rest_is_sampled(tmp_path: Path) -> None:
    judge, pairs = tiny_judge(), some_pairs(tmp_path / "videos", 4)
    manifest = replace(judge.manifest, max_thought_tokens=4)
    run = tmp_path / "run"
    with ThoughtFile(run / "thoughts-00003.jsonl") as file:  # of a process that this run no longer has
        file.add(PairThoughts(pairs[2].identity, pairs[2].contents, "earlier", THOUGHTS))
        file.add(PairThoughts(pairs[1].identity, pairs[1].contents, "earlier", THOUGHTS, whole=False))
    pairs[0] = replace(pairs[0], thoughts=THOUGHTS)
    told: list[tuple[int, int]] = []
    reader = PairReader(judge.model.processor, manifest.frame_policy, manifest.prompt_version, None)
    accelerator = Accelerator(cpu=True)
    found = with_own_thoughts(
        pairs,
        judge.model,
        manifest,
        reader,
        run,
        accelerator,
        Precision.of("fp32", accelerator.device),
        StopSignals(),
        pairs_at_once=2,
        seed=0,
        on_progress=lambda done, total: told.append((done, total)),
    )
    reader.close()
    assert [pair.identity for pair in found] == [pair.identity for pair in pairs]
    assert found[2].thoughts == THOUGHTS
    assert found[1].thoughts is None  # cut off at the limit, and not tried again
    assert [line.identity for line in read_lines(run / "thoughts-00000.jsonl")] == [pairs[3].identity]
    assert told == [(3, 3)]
