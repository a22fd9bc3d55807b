"""The picture of the lineage: who stands where, and what it says to those who don't see it."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from app.train.views.lineage import BOX_HEIGHT, COLUMN, MARGIN, ROW, lineage_view
from storage.training.model_registry import Checkpoint

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=timezone.utc)
PLACE = re.compile(r'<g class="([^"]*)" transform="translate\((\d+) (\d+)\)"><title>([^<]*)</title>')


def a_checkpoint(number: int, parent: int | None, verdict: str = "", **fields: Any) -> Checkpoint:
    gate = {"verdict": verdict, "candidate": {"accuracy_without_ties": 0.8}} if verdict else None
    values: dict[str, Any] = {"location": f"./{number}", "fingerprint": str(number), "run_id": None, "stage": None}
    values |= {"snapshot_hash": None, "settings": {}, "code_version": "", "metrics": {}, "disk_bytes": 0}
    values |= {"name": f"week {number}", "created_at": NOW, "deleted_at": None}
    return Checkpoint(id=number, parent_id=parent, gate=gate, **(values | fields))


def test_children_stand_right_of_their_parent_and_no_two_in_one_place() -> None:
    checkpoints = [
        a_checkpoint(1, None, name="bundled v1"),
        a_checkpoint(2, 1, "better"),
        a_checkpoint(3, 1, "not shown to be better"),
        a_checkpoint(4, 2, "worse", deleted_at=NOW),
        a_checkpoint(5, 2, "better", name="<img> with a name that no box has room for"),
        a_checkpoint(6, None, name="imported"),
    ]
    html = str(lineage_view({checkpoint.id: checkpoint for checkpoint in checkpoints}, 5, {1, 2, 5}))
    boxes = {
        title.partition(" from ")[0].partition(",")[0]: ((int(x) - MARGIN) // COLUMN, (int(y) - MARGIN) // ROW, kinds)
        for kinds, x, y, title in PLACE.findall(html)
    }
    assert boxes["bundled v1"] == (0, 0, "has-served")
    assert boxes["week 2"] == (1, 0, "has-served")
    assert boxes["week 4"] == (2, 0, "is-deleted")
    assert boxes["&lt;img&gt; with a name that no box has room for"] == (2, 1, "is-serving has-served")
    assert boxes["week 3"] == (1, 2, "")
    assert boxes["imported"] == (0, 3, "")
    assert len({place[:2] for place in boxes.values()}) == len(checkpoints)
    assert f'height="{2 * MARGIN + BOX_HEIGHT + 3 * ROW}"' in html
    assert html.count("<path") == 4
    assert html.count('class="is-better"') == 2
    assert "week 3 from bundled v1, not shown to be better, 80.0 % right" in html
    assert "<img" not in html


def test_one_checkpoint_has_no_picture_and_a_long_line_is_drawn() -> None:
    assert not lineage_view({1: a_checkpoint(1, None)}, 1, {1})
    line = {number: a_checkpoint(number, number - 1 or None) for number in range(1, 1201)}
    assert str(lineage_view(line, 1200, set())).count("<g ") == 1200
