"""Measure one part of the GPU report in a process of its own, for `benchmarks.gpu_report`.

    python -m benchmarks.gpu.run_part judge --out judge.json --device cuda --repeats 3

A GPU that failed fails everything that its process does afterwards, and an engine may keep memory: so no part shares its
process. The file says how the part ended; it is always written, unless the process was killed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu.parts import Part
    from benchmarks.gpu.setting import Setting


def parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.run_part")
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--smallest", action="store_true")
    return parser


def outcome_of(part: Part, setting: Setting) -> dict[str, Any]:
    """Measure a part; return its status ("done", "left out" or "failed") and its figures, or the reason."""
    from benchmarks.gpu.setting import LeftOutError

    try:
        return {"status": "done", "figures": part.measure(setting)}
    except LeftOutError as error:
        return {"status": "left out", "reason": str(error)}
    except Exception as error:  # whatever a part meets: the others go on
        traceback.print_exc()
        return {"status": "failed", "reason": f"{type(error).__name__}: {error}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the file; 0 unless the part failed."""
    options = parser().parse_args(arguments)
    if options.device == "cpu":  # also for what a part starts, and for libraries that look for a GPU by themselves
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    from benchmarks.gpu.parts import PARTS
    from benchmarks.gpu.setting import Setting
    from descore.modeling.backbone import check_device

    part = next(each for each in PARTS if each.name == options.name)
    with tempfile.TemporaryDirectory(prefix=f"descore-{part.name}-") as folder:
        os.environ |= {"DESCORE_HOME": f"{folder}/home", "DESCORE_CACHE": f"{folder}/cache"}
        setting = Setting(check_device(options.device), options.smallest, options.repeats, Path(folder))
        outcome = outcome_of(part, setting)
    options.out.write_text(json.dumps(outcome), "utf-8")
    return int(outcome["status"] == "failed")


if __name__ == "__main__":
    sys.exit(main())
