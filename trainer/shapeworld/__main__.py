"""`python -m trainer.shapeworld make | gallery | train`: write pairs, write the app's gallery, make the bundled
checkpoint."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from trainer.shapeworld.pairs import SPLITS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.shapeworld", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write a split's pairs: mp4 files and pairs.csv")
    make.add_argument("--split", required=True, choices=SPLITS)
    make.add_argument("--pairs", required=True, type=int, help="how many, from the split's first on")
    make.add_argument("--out", required=True, type=Path)
    make.add_argument("--noise", type=float, default=0.0, help="share of labels an annotator gets wrong (default 0)")
    make.add_argument("--workers", type=int, default=2, help="processes that render (default 2)")
    gallery = commands.add_parser("gallery", help="write the pairs that the app ships with")
    gallery.add_argument("--out", required=True, type=Path)
    train = commands.add_parser("train", help="make the bundled checkpoint, start to end; resumes")
    train.add_argument("--work", required=True, type=Path, help="folder for clips, states and logs")
    train.add_argument("--out", required=True, type=Path, help="the checkpoint folder to write")
    train.add_argument(
        "--from",
        dest="parent",
        metavar="CHECKPOINT",
        help="a cold-started checkpoint to begin from; only the RL stage and what follows it are done",
    )
    train.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
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
