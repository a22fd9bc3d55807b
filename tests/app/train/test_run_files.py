"""What the Train page reads in the folder of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.train.run_files import PROBLEMS_SHOWN, notices
from app.train.views.notices import Notice, notices_view

STAGES = ("cold-start", "dual-rl")


def write_log(folder: Path, stage: str, figures: list[dict[str, Any]]) -> None:
    (folder / stage).mkdir(exist_ok=True)
    lines = (json.dumps({"step": step, **row}) + "\n" for step, row in enumerate(figures))
    (folder / stage / "metrics.jsonl").write_text("".join(lines), "utf-8")


def test_warnings_and_pairs_left_out_are_told_once(tmp_path: Path) -> None:
    assert notices(tmp_path, STAGES) == ()
    problems = [f"pair {number}: not readable" for number in range(PROBLEMS_SHOWN + 2)]
    for stage, warnings in (("cold-start", []), ("dual-rl", ["no sub-scores"])):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "report.json").write_text(json.dumps({"warnings": warnings, "problems": problems}), "utf-8")
    told = notices(tmp_path, STAGES)
    assert told[0] == Notice("warning", "No sub-scores.")
    assert told[1] == Notice("note", "left out: pair 0: not readable")
    assert told[-1].text == "and 2 more pairs; report.json has them all"
    assert len(told) == PROBLEMS_SHOWN + 2


def test_alarms_of_a_run_that_goes_on_are_read_from_its_log(tmp_path: Path) -> None:
    write_log(tmp_path, "cold-start", [{"skipped": 1}])
    assert notices(tmp_path, STAGES)[0].tone == "alarm"
    write_log(tmp_path, "dual-rl", [{"cut_off": 0.5}] * 6)
    alarm, earlier = sorted(notices(tmp_path, STAGES), key=lambda notice: notice.tone)
    assert (alarm.tone, alarm.when) == ("alarm", "dual RL, since step 5")
    assert "50 %" in alarm.text
    assert "dual_rl.objective.max_tokens" in alarm.advice
    assert (earlier.tone, earlier.when) == ("past", "cold start, since step 1"), "a later stage has begun"
    write_log(tmp_path, "dual-rl", [{"cut_off": 0.5}] * 6 + [{"cut_off": 0.0}] * 6)
    assert {notice.tone for notice in notices(tmp_path, STAGES)} == {"past"}


def test_memory_that_ran_out_is_told_in_words(tmp_path: Path) -> None:
    write_log(
        tmp_path, "dual-rl", [{"out_of_memory": 1, "forward_tokens": 512}, {"out_of_memory": 1, "forward_tokens": 512}]
    )
    [notice] = notices(tmp_path, STAGES)
    assert notice.text == "Memory ran out once; sequences now go through in pieces of 512 tokens."


def test_notices_stand_in_the_order_of_their_weight_and_are_escaped() -> None:
    told = [Notice("note", "left out"), *(Notice("past", f"over {number}") for number in range(5))]
    html = str(
        notices_view([*told, Notice("warning", "beware"), Notice("alarm", "<b>wrong", "dual RL, since step 3", "do this")])
    )
    places = [
        html.index(text) for text in ("&lt;b&gt;wrong", "since step 3", "do this", "beware", "over 0", "left out", "over 4")
    ]
    assert places[0] < places[2] < places[3] < places[4] < places[5] < places[6], "what is folded away comes last"
    assert places[1] < places[0]
    assert "2 more alarms that are over" in html
    assert notices_view([]) == ""
