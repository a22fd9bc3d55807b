"""Commands of the trainer that the Train page shows, to be copied into a terminal.

One has the settings of the form and needs no queue, the other does a run of the store. Both name the data folder where it is
not the default one: a terminal without it would read another store.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from app.train.run_form import RunForm
from storage.data_home import default_data_home
from storage.training.devices import process_count
from storage.training.runs import Run

_MORE = " \\\n    "  # a command goes on in the next line


def terminal_command(form: RunForm, checkpoint: str, home: Path) -> str:
    """Return a command with the form's preset, changed settings and choice of labels; it depends on no run's number.

    Args:
        form: the checked form.
        checkpoint: what the run starts from, as `--checkpoint` takes it.
        home: the data folder.
    """
    stages = form.stages[0] if len(form.stages) == 1 else "run"
    settings = [*form.overrides, *_choice_of_labels(form)]
    options = [
        f"--preset {shlex.quote(form.preset.name)} --checkpoint {shlex.quote(checkpoint)}",
        *(f"--set {shlex.quote(setting)}" for setting in settings),
        f"--out {shlex.quote(f'runs/{_folder_name(form.name)}')}",
    ]
    return _MORE.join([f"{_home(home)}{_trainer(form)} {stages}", *options])


def run_command(run: Run, home: Path) -> str:
    """Return the command that does a run of the store; "" where there is nothing to do, or another place does it."""
    if run.state == "finished" or run.place == "elsewhere":
        return ""
    return f"{_home(home)}python -m trainer run {run.id}"


def _trainer(form: RunForm) -> str:
    """Return how the trainer is started: by its launcher where the preset takes several devices of this machine."""
    processes = process_count(form.preset.device) if form.place == "here" else 1
    if processes == 1:
        return "python -m trainer"
    return f"accelerate launch --config_file trainer/accelerate/ddp.yaml --num_processes {processes} -m trainer"


def _choice_of_labels(form: RunForm) -> list[str]:
    settings = [f"data.min_labels={form.config.min_labels}"] if form.config.min_labels != 1 else []
    if form.config.campaigns:
        settings.append(f"data.campaigns={json.dumps(form.config.campaigns, ensure_ascii=False)}")
    return settings


def _folder_name(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower()).strip("-") or "retrained"


def _home(home: Path) -> str:
    return "" if home == default_data_home() else f"DESCORE_HOME={shlex.quote(str(home))} "
