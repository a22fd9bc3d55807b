"""`python -m trainer evaluate`: how well a checkpoint agrees with the exact labels of a ShapeWorld split."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.shapes.pairs import SPLITS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (2 with one line on stderr where the user has to act)."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    evaluate = commands.add_parser("evaluate", help="accuracy, sub-scores and format on freshly rendered pairs")
    evaluate.add_argument("--checkpoint", default="bundled", help="name, folder or Hub id (default: bundled)")
    evaluate.add_argument("--split", required=True, choices=SPLITS)
    evaluate.add_argument("--pairs", type=int, default=400, help="how many, from the split's first on (default 400)")
    evaluate.add_argument("--clips", type=Path, help="folder to render into and keep (default: a temporary one)")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object instead of lines to read")
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        parser.error("--pairs must be at least 1")
    logging.basicConfig(level=logging.WARNING)
    return _evaluate(options)


def _evaluate(options: argparse.Namespace) -> int:
    from descore.errors import CheckpointError, RewardError
    from descore.judge import DeScore
    from trainer.evaluate import evaluate

    try:
        judge = DeScore.from_pretrained(options.checkpoint)
        report = evaluate(judge, options.split, options.pairs, folder=options.clips).to_dict()
    except (CheckpointError, RewardError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
