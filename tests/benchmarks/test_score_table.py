"""The table of the benchmark has the shape that it says, and its figures come from real runs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks.score_table import make_table, measure
from descore.tables.pairs import read_pairs


def test_the_table_names_every_clip_and_pairs_only_clips_of_one_prompt(tmp_path: Path) -> None:
    pairs = read_pairs(make_table(tmp_path, rows=120, clips=30), labels=True)
    assert len(pairs.rows) == 120
    assert len({path for row in pairs.rows for path in (row.path_a, row.path_b)}) == 30
    prompts: dict[str, set[str]] = {}
    for row in pairs.rows:
        for path in (row.path_a, row.path_b):
            prompts.setdefault(path, set()).add(row.prompt)
    assert all(len(of_clip) == 1 for of_clip in prompts.values())
    contents = {path.read_bytes() for path in (tmp_path / "clips").iterdir()}
    assert len(contents) == 30


@pytest.mark.endurance
def test_it_measures(tmp_path: Path) -> None:
    figures = measure(Namespace(rows=120, clips=30, sample=24, turns=1), tmp_path)
    assert (figures["clips"], figures["judged"], figures["judged_more_than_once"]) == (30, 30, 0)
    assert figures["same_file_after_kills"]
    assert figures["memory_growth_mb"] < 500
