"""Many pairs at once: a table and its videos, dropped together, judged one pair after the other.

    panel = batch_panel()                                  # the component; it triggers `table` and `reopen`
    table_view(Path("pairs.csv"), "pairs.csv", turn=1)     # its value: the pairs that a table names, or why not

The browser does the work (`static/judge/batch.js`): it uploads two videos, asks for a judgement as programs do
(docs/api.md), and goes on. So a batch has the place in the queue, the quota and the limits of its visitor. It ends when its
page is left, and every judgement that was made is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app.ui.assets import mount_script, read_static
from descore.errors import TableError
from descore.tables.pairs import read_pairs

LARGEST_TABLE = 20 << 20  # bytes
MOST_PAIRS = 5000
NO_TABLE: dict[str, Any] = {"turn": 0, "pairs": [], "notes": [], "error": ""}


def table_view(path: Path, name: str, turn: int) -> dict[str, Any]:
    """Return the component's value: the pairs of an uploaded table, or why it can't be used.

    Args:
        path: of the uploaded file.
        name: that the person knows it by.
        turn: of the event that this answers; the browser counts them.
    """
    view = NO_TABLE | {"turn": turn}
    try:
        size = path.stat().st_size
    except OSError:
        return view | {"error": f"{name} is not here any more. Choose it again."}
    if size > LARGEST_TABLE:
        return view | {"error": f"{name} is over {LARGEST_TABLE >> 20} MB; score it by `descore score` (docs/tables.md)."}
    try:
        table = read_pairs(path)
    except TableError as error:
        return view | {"error": str(error).replace(path.name, name)}
    if len(table.rows) > MOST_PAIRS:
        more = f"{name} has {len(table.rows)} pairs, and {MOST_PAIRS} is the most here"
        return view | {"error": f"{more}; score it by `descore score` (docs/tables.md)."}
    pairs = [{"line": row.line, "a": row.path_a, "b": row.path_b, "prompt": row.prompt} for row in table.rows]
    return view | {"pairs": pairs, "notes": [note.replace(path.name, name) for note in table.notes]}


def batch_panel(elem_id: str = "batch") -> gr.HTML:
    """Build the component.

    Its events: `table` has path and name of an uploaded table and a turn; `reopen` has a, b, prompt, mode and k of a pair.
    """
    return gr.HTML(
        NO_TABLE,
        html_template=read_static("judge/batch.html"),
        js_on_load=mount_script("judge/batch.js", ["table", "reopen"]),
        apply_default_css=False,
        elem_id=elem_id,
    )
