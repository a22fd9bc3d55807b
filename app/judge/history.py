"""What was judged in this browser: pairs with their verdicts, searched by prompt, opened again by a click.

    panel = history_panel()                                # the component; it triggers `reopen` with an entry
    history_view(None)                                     # its value for nobody in particular, with nothing new

The list lives in the browser (`static/judge/history.js`); the app keeps no record of who asked for what. A browser that
several people sign in with keeps a list for each of them.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import gradio as gr

from app.judge.api import Selection
from app.serving.answer import Answer
from app.ui.answer_panel import answer_view
from app.ui.assets import mount_script, read_static
from storage.accounts.users import User


def history_view(person: User | None, entry: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the component's value.

    Args:
        person: who is signed in, whose list it is.
        entry: a judgement that is new in it.
    """
    return {"owner": "" if person is None else str(person.id), "entry": entry}


def history_entry(selection: Selection, prompt: str, answer: Answer) -> dict[str, Any]:
    """Return a judgement as the list shows it, with what it takes to open the pair again."""
    return {
        "a": selection.a,
        "b": selection.b,
        "bundled": selection.bundled,
        "prompt": prompt.strip(),
        "mode": answer.mode,
        "k": answer.k,
        "verdict": None if answer.comparison is None else answer.comparison.verdict,
        "headline": answer_view(answer)["headline"],
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def history_panel(elem_id: str = "history") -> gr.HTML:
    """Build the component; choosing an entry triggers `reopen` with its a, b, bundled, prompt, mode and k."""
    return gr.HTML(
        history_view(None),
        html_template=read_static("judge/history.html"),
        js_on_load=mount_script("judge/history.js", ["reopen"]),
        apply_default_css=False,
        elem_id=elem_id,
    )
