"""The devices of a run of the store, chosen before PyTorch looks for devices."""

from __future__ import annotations

import os
from pathlib import Path

from storage import open_database
from storage.training.devices import lock_names
from storage.training.runs import get_run

_NICE = 5


def choose_device(run_id: int, home: Path | None = None) -> None:
    """Let this process see the devices of the run alone. To be called before anything asks PyTorch for devices.

    Raises:
        StorageError: there is no such run.
    """
    database = open_database(home=home)
    try:
        with database.read() as session:
            device = get_run(session, run_id).device
    finally:
        database.close()
    # A job of SLURM has its devices from SLURM.
    names = lock_names(device)
    if names == ("cpu",):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.nice(_NICE)  # labelling and judging go on beside it
    elif device.startswith("cuda:"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(name.removeprefix("cuda:") for name in names)
