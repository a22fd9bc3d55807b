"""The command `python -m trainer.shapeworld make | gallery | train`.

make       write pairs of ShapeWorld as mp4 files with their table
gallery    write the pairs that the app ships with
train      make the bundled checkpoint
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from trainer.shapeworld.pairs import SPLITS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.shapeworld", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write pairs of a split: mp4 files and pairs.csv")
    make.add_argument("--split", required=True, choices=SPLITS)
    make.add_argument("--pairs", required=True, type=int, help="number of pairs, from the first of the split on")
    make.add_argument("--out", required=True, type=Path, help="folder to write to")
    make.add_argument("--noise", type=float, default=0.0, help="share of labels that an annotator gets wrong (default 0)")
    make.add_argument("--workers", type=int, default=2, help="processes that draw (default 2)")
    gallery = commands.add_parser("gallery", help="write the pairs that the app ships with")
    gallery.add_argument("--out", required=True, type=Path, help="folder to write to")
    train = commands.add_parser("train", help="make the bundled checkpoint; called again, it goes on where it stopped")
    train.add_argument("--work", required=True, type=Path, help="folder for clips, runs and states")
    train.add_argument("--out", required=True, type=Path, help="checkpoint folder to write")
    train.add_argument(
        "--from",
        dest="parent",
        metavar="CHECKPOINT",
        help="begin with stage 2, from this cold-started checkpoint",
    )
    train.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return _run(parser, options)


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.command == "make":
        if options.pairs < 1 or not 0 <= options.noise <= 1:
            parser.error("--pairs must be at least 1 and --noise between 0 and 1")
        from trainer.shapeworld.write_dataset import write_split

        print(write_split(options.split, options.pairs, options.out, options.noise, options.workers))
    elif options.command == "gallery":
        from trainer.shapeworld.write_gallery import write_gallery

        print(write_gallery(options.out))
    else:
        from trainer.recipe.recipe import Recipe, make_checkpoint

        print(make_checkpoint(Recipe(), options.work, options.out, options.threads, parent=options.parent))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
