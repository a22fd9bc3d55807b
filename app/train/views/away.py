"""HTML of a run that is packed: what to type to train it elsewhere, and the way back."""

from __future__ import annotations

import shlex
from pathlib import Path

from markupsafe import Markup

from app.ui.markup import joined, pill
from storage.training.runs import Run


def away_view(run: Run, pack: Path, is_finished: bool, refused: str) -> Markup:
    """Show the steps of a packed run.

    Args:
        run: the run.
        pack: folder of its pack on this machine.
        is_finished: whether that folder has the result.
        refused: why the last result that was brought was not taken.
    """
    here, name = shlex.quote(str(pack)), shlex.quote(pack.name)
    steps = (
        ("take", "Take the folder to the other machine. All that the run needs is in it.", f"rsync -a {here} MACHINE:"),
        ("train", "There, in a checkout of this program. The same command goes on after a stop.", _train(name)),
        ("return", "When it says that it is finished, bring the folder back.", f"rsync -a MACHINE:{name}/ {here}/"),
    )
    return Markup(
        '<h3 class="train-subtitle">Train it elsewhere {done}</h3><ol class="train-steps">{steps}</ol>{refused}'
        '<form class="ds-form train-return" data-act="bring_back" data-id="{id}">'
        '<label class="ds-field">Folder of the finished pack, on the machine of this app'
        '<input type="text" name="folder" value="{pack}" maxlength="4000" required spellcheck="false"></label>'
        '<button type="submit" class="ds-button{main}">Bring the result back</button></form>'
    ).format(
        done=pill("the pack here is finished", "good") if is_finished else "",
        steps=joined(_step(key, text, command) for key, text, command in steps),
        refused=Markup('<p class="train-message is-bad">{}.</p>').format(refused.rstrip(".")) if refused else "",
        id=run.id,
        pack=str(pack),
        main=" is-main" if is_finished else "",
    )


def _train(name: str) -> str:
    return f"python -m trainer run ~/{name}"


def _step(key: str, text: str, command: str) -> Markup:
    return Markup(
        '<li><p>{} <button type="button" class="ds-button" data-copy="#train-step-{}">Copy</button></p>'
        '<pre class="train-command" id="train-step-{}">{}</pre></li>'
    ).format(text, key, key, command)
