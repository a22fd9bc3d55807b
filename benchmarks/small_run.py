"""How long a retrain takes on a laptop: cold start, then dual RL, of preset tiny-cpu from labelled pairs in a store.

    python -m benchmarks.small_run [--pairs 200] [--preset tiny-cpu] [--noise 0.1]

Fresh pairs of ShapeWorld with sub-scores and noisy preferences are imported into a new store as anybody would
(`python -m app import`), then `python -m trainer run` does both stages. The last line is JSON: wall and processor seconds
of the run, and agreement with the held-out pairs before, between and after. Rendering and import are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.helpers.labelled_shapes import Taste, fresh_pairs, write_table
from descore.answer import DIMENSIONS

ROOT = Path(__file__).parents[1]
EVEN = Taste("even", dict.fromkeys(DIMENSIONS, 1.0))
_SHOWN = ("pairs", "accuracy_without_ties", "accuracy_without_ties_interval", "strict_format", "sub_score_exact_match")


def measure(pairs: int, preset: str, noise: float, folder: Path) -> dict[str, Any]:
    """Label, import, train.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    known = fresh_pairs(pairs)
    table = write_table(known, [EVEN.label(one, noise) for one in known], folder / "pairs")
    _command(folder, "app", "import", str(table), "--source", "shapes")
    before, began = _processor_seconds(), time.monotonic()
    _command(folder, "trainer", "run", "--preset", preset, "--out", str(folder / "run"))
    wall, processor = time.monotonic() - began, _processor_seconds() - before
    first, second = (json.loads((folder / "run" / stage / "report.json").read_text()) for stage in ("cold-start", "dual-rl"))
    held_out = {"before": first["before"], "after_cold_start": first["after"], "after_dual_rl": second["after"]}
    return {
        "preset": preset,
        "train_pairs": second["train_pairs"],
        "seconds": round(wall, 1),
        "processor_seconds": round(processor, 1),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "steps": {"cold_start": first["steps"], "dual_rl": second["steps"]},
        "held_out": {name: {key: figures.get(key) for key in _SHOWN} for name, figures in held_out.items()},
    }


def _command(home: Path, *arguments: str) -> None:
    environment = {**os.environ, "DESCORE_HOME": str(home / "home")}
    environment.pop("DATABASE_URL", None)
    subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, check=True)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--preset", default="tiny-cpu")
    parser.add_argument("--noise", type=float, default=0.1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options.pairs, options.preset, options.noise, Path(folder))))


if __name__ == "__main__":
    main()
