"""Real processes of one gloo group on this machine, for tests of what processes of a run share.

run_together(target, 2, folder)         # target(rank, folder) in two processes that accelerate sees as one group
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing as multiprocessing

from tests.helpers.waiting import wait_until


def run_together(target: Callable[[int, Path], None], processes: int, folder: Path, **environment: str) -> None:
    """Call `target` in so many processes and wait for all of them.

    Args:
        target: a function of a module, called with the rank and the folder.
        environment: further variables of all processes.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one of them failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    multiprocessing.spawn(_process, (target, processes, folder, environment), nprocs=processes)


def _process(
    rank: int, target: Callable[[int, Path], None], processes: int, folder: Path, environment: dict[str, str]
) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", **environment}
    os.environ["MASTER_PORT"] = str(_agreed_port(rank, folder / "port"))
    torch.set_num_threads(1)
    target(rank, folder)
    # The first one keeps the store that the others may still ask.
    (folder / f"{rank}.over").touch()
    wait_until(lambda: all((folder / f"{each}.over").exists() for each in range(processes)), "the end of all processes")
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _agreed_port(rank: int, path: Path) -> int:
    """Let the first process find a free port and the others read it."""
    if rank == 0:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        partial = path.with_suffix(".partial")
        partial.write_text(str(port))
        partial.replace(path)
        return int(port)
    wait_until(path.exists, "the port")
    return int(path.read_text())
