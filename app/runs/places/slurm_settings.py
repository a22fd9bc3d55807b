"""`slurm.yaml` in the data folder: which partition, how many GPUs, how long.

partition: gpu
gpus: 8
hours: 12
options: {account: vision, mem: 200G}           # further options of sbatch
setup: [module load cuda]                       # lines of shell before the run
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from app.runs.places.place import PlaceError

FILE = "slurm.yaml"


@dataclass(frozen=True)
class SlurmSettings:
    """Settings of the jobs of all runs.

    Attributes:
        partition: of SLURM; "" for its default one.
        gpus: GPUs of a job, all on one node; with several the run starts a process for each.
        hours: after which SLURM ends a job; ten minutes before, it is asked to keep a checkpoint and stop.
        options: further options of sbatch, such as account or mem.
        setup: lines of shell that a job begins with.
        same_machine: jobs run on the machine of the app, so that they may write to a store in SQLite.
    """

    partition: str = ""
    gpus: int = 1
    hours: float = 24.0
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    setup: tuple[str, ...] = ()
    same_machine: bool = False

    @property
    def minutes(self) -> int:
        """Time limit of a job."""
        return max(1, round(60 * self.hours))


def read_settings(home: Path) -> SlurmSettings | None:
    """Read `slurm.yaml` of a data folder; None where there is none.

    Raises:
        PlaceError: it can't be read, or a setting is unknown or of the wrong kind.
    """
    path = home / FILE
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise PlaceError(f"{FILE} can't be read: {error}") from error
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise PlaceError(f"{FILE} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise PlaceError(f"{FILE} holds no settings; write lines such as gpus: 8")
    known = [setting.name for setting in fields(SlurmSettings)]
    unknown = [str(name) for name in values if name not in known]
    if unknown:
        raise PlaceError(f"{FILE}: there is no setting {', '.join(unknown)}; there are {', '.join(known)}")
    return SlurmSettings(**{name: _checked(name, value) for name, value in values.items()})


def _checked(name: str, value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "gpus" and is_number and 0 <= value <= 64 and value == int(value):
        return int(value)
    if name == "hours" and is_number and 0 < value <= 24 * 365:
        return float(value)
    if name == "partition" and isinstance(value, str):
        return value
    if name == "same_machine" and isinstance(value, bool):
        return value
    if name == "options" and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return value
    if name == "setup" and isinstance(value, list) and all(isinstance(line, str) for line in value):
        return tuple(value)
    kinds = {
        "gpus": "a whole number from 0 to 64",
        "hours": "a number of hours, such as 12 or 0.5",
        "partition": "a name",
        "same_machine": "true or false",
        "options": "a mapping, such as {account: vision}",
        "setup": "a list of lines of shell",
    }
    raise PlaceError(f"{FILE}: {name} must be {kinds[name]}, not {value!r}")
