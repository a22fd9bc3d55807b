"""The device of a run of the store, chosen before PyTorch looks for devices."""

from __future__ import annotations

import os
from pathlib import Path

from storage import open_database
from storage.training.runs import get_run

_NICE = 5


def choose_device(run_id: int, home: Path | None = None) -> None:
    """Let this process see the device of the run alone. To be called before anything asks PyTorch for devices.

    Raises:
        StorageError: there is no such run.
    """
    database = open_database(home=home)
    try:
        with database.read() as session:
            device = get_run(session, run_id).device
    finally:
        database.close()
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.nice(_NICE)  # labelling and judging go on beside it
    elif device.startswith("cuda:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
