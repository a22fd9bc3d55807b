"""What the Train page reads in the folder of a run."""

from __future__ import annotations

import json
from pathlib import Path

from app.train.run_files import PROBLEMS_SHOWN, notes


def test_warnings_and_pairs_left_out_are_told_once(tmp_path: Path) -> None:
    assert notes(tmp_path, ("cold-start", "dual-rl")) == ()
    problems = [f"pair {number}: not readable" for number in range(PROBLEMS_SHOWN + 2)]
    for stage, warnings in (("cold-start", []), ("dual-rl", ["no sub-scores"])):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "report.json").write_text(json.dumps({"warnings": warnings, "problems": problems}), "utf-8")
    told = notes(tmp_path, ("cold-start", "dual-rl"))
    assert told[0] == "no sub-scores"
    assert told[1] == "left out: pair 0: not readable"
    assert told[-1] == "and 2 more pairs; report.json has them all"
    assert len(told) == PROBLEMS_SHOWN + 2
