"""The log of a run: what its process says goes into the run's folder, wherever that process was started."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def logged_into(path: Path) -> Iterator[None]:
    """Write log messages into a run's log too, unless stderr of this process goes there already."""
    log_file = path.stat() if path.exists() else None
    if log_file is not None and os.path.samestat(os.fstat(2), log_file):
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
