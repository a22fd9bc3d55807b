"""Everything that a GPU has to show, measured by one command into one file.

    python -m benchmarks.gpu_report --out docs/measured-gpu.json [--only judge --only quick] [--list] [--again]

Parts (`--list`) on the bundled checkpoint: judging in each mode, a table, both stages, resume, too little memory on purpose,
bfloat16 against float32, the sampler's ratio. Then on Qwen3-VL-2B and 8B with random weights, so that nothing is downloaded:
judging and a step of each stage, by the own engine and by vLLM where it is installed, beside what the planning says.

Each part has a process of its own, and its record in the file as soon as it ends: one that fails leaves its error there, and
the others go on. The same command goes on where it stopped; a part that is done for this code, this machine, these versions
and sizes is not measured again unless by `--again`. On a machine without a GPU it says so, lists what it did not run, and
writes nothing. `--device cpu --smallest` runs all parts on a CPU, to see that they run; its figures mean nothing.

A record: status (done, left out, failed), figures or the reason, seconds of the whole part, the machine with driver and
versions, the code, the number of repeats (times are medians).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.machine import machine_of, measured_code
from benchmarks.gpu.parts import PARTS, Part
from descore.modeling.backbone import check_device
from storage.atomic import write_atomic

ROOT = Path(__file__).parents[1]
_LONGEST_SECONDS = 3600  # only so that a part that hangs ends
_VERSION = 1


class Report:
    """The records of parts in one file, written after each of them."""

    def __init__(self, path: Path) -> None:
        """Open the report; it may not be there yet.

        Raises:
            SystemExit: the file holds something else.
        """
        self._path = path
        self.records: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                values = json.loads(path.read_text("utf-8"))
                assert values["version"] == _VERSION
                self.records = dict(values["parts"])
            except (ValueError, KeyError, TypeError, AssertionError):
                raise SystemExit(f"gpu_report: {path} is no report of this version; name another file by --out") from None

    def is_done(self, name: str, conditions: dict[str, Any]) -> bool:
        """Tell whether a part was measured under these conditions."""
        record = self.records.get(name, {})
        return record.get("status") == "done" and all(record.get(key) == value for key, value in conditions.items())

    def put(self, name: str, record: dict[str, Any]) -> None:
        """Write a part's record, in the place of an earlier one."""
        self.records[name] = record
        parts = {part.name: self.records[part.name] for part in PARTS if part.name in self.records} | self.records
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._path, json.dumps({"version": _VERSION, "parts": parts}, indent=1, ensure_ascii=False) + "\n")


def measure(part: Part, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a part in a process of its own; return its record without the conditions."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "outcome.json"
        command = [sys.executable, "-m", "benchmarks.gpu.run_part", part.name, "--out", str(out)]
        command += ["--device", options.device, "--repeats", str(options.repeats)]
        command += ["--smallest"] if options.smallest else []
        try:
            code = subprocess.run(command, cwd=ROOT, check=False, timeout=_LONGEST_SECONDS).returncode
            ending = f"its process ended with exit code {code}"
        except subprocess.TimeoutExpired:
            ending = f"it did not end within {_LONGEST_SECONDS} seconds"
        whole = json.loads(out.read_text("utf-8")) if out.exists() else {"status": "failed", "reason": ending}
    return {**whole, "part_seconds": round(time.monotonic() - began, 1), "measured_at": time.strftime("%Y-%m-%d")}


def run(parts: Sequence[Part], options: argparse.Namespace) -> int:
    """Measure parts and write the report; 1 where one of them failed."""
    report = Report(options.out)
    machine, code = machine_of(check_device(options.device)), measured_code()
    conditions = {"machine": machine, "code": code, "smallest": options.smallest, "repeats_asked": options.repeats}
    for number, part in enumerate(parts, start=1):
        place = f"part {number} of {len(parts)}, {part.name}"
        if not options.again and report.is_done(part.name, conditions):
            print(f"{place}: done before", flush=True)
            continue
        print(f"{place}: {part.about}", flush=True)
        report.put(part.name, {**measure(part, options), **conditions})
        record = report.records[part.name]
        reason = f" ({record['reason']})" if "reason" in record else ""
        print(f"{place}: {record['status']}{reason}, {record['part_seconds']:.0f} s", flush=True)
    failed = [part.name for part in parts if report.records[part.name]["status"] == "failed"]
    print(f"{options.out}: {len(parts) - len(failed)} of {len(parts)} parts without an error", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return int(bool(failed))


def _lines(parts: Sequence[Part]) -> str:
    return "\n".join(f"  {part.name:<26}{part.about}" for part in parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/measured-gpu.json"), help="the report")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", choices=[part.name for part in PARTS])
    parser.add_argument("--list", action="store_true", help="list the parts and measure nothing")
    parser.add_argument("--again", action="store_true", help="measure what is done, too")
    parser.add_argument("--repeats", type=int, default=3, help="of what takes time; medians count")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--smallest", action="store_true", help="sizes that only show that the parts run")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    parts = [part for part in PARTS if not options.only or part.name in options.only]
    if options.list:
        print(_lines(parts))
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("This machine has no GPU that PyTorch can use, so no part of the GPU report was run:")
        print(_lines(parts))
        return 0
    return run(parts, options)


if __name__ == "__main__":
    sys.exit(main())
