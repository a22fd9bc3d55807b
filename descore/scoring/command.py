"""The commands `descore score` and `descore evaluate`: their options, and what they print.

    descore score pairs.csv --out scores.csv --mode quick --checkpoint our-lab/descore-8b
    descore evaluate pairs.csv --checkpoint our-lab/descore-8b

Exit code 3 says that rows failed; the next run tries them again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.engines.engine import ROWS_AT_ONCE
from descore.scoring.config import ScoreConfig, parse_shard
from descore.tables.labels import parse_words
from descore.tables.pair_columns import parse_mapping
from descore.tables.pairs import PairTable, read_pairs

if TYPE_CHECKING:
    from descore.judge import DeScore

ROWS_FAILED = 3  # exit code
_TABLE = "CSV, JSON, JSON Lines or Parquet with path_A, path_B, prompt, or columns named by --map"


def add_score(commands: Any) -> argparse.ArgumentParser:
    """Add the command `score`."""
    parser: argparse.ArgumentParser = commands.add_parser("score", help="score the pairs of a table")
    parser.add_argument("--out", type=Path, required=True, help="CSV or Parquet to write; a run that was stopped goes on")
    _add_table(parser)
    parser.add_argument("--shard", type=_shard, metavar="I/N", help="compute this part only; all parts have the same --out")
    parser.add_argument("--merge", action="store_true", help="write --out from the answers of all shards; compute nothing")
    return parser


def add_evaluate(commands: Any) -> argparse.ArgumentParser:
    """Add the command `evaluate`."""
    parser: argparse.ArgumentParser = commands.add_parser("evaluate", help="agreement with the labels of a table")
    parser.add_argument("--out", type=Path, help="where rewards go, as of score (default: TABLE.scores.csv, here)")
    _add_table(parser)
    parser.add_argument("--label", action="append", default=[], metavar="WORD=A", help="what a word of the labels means")
    parser.add_argument("--swaps", type=int, default=16, help="pairs judged once more as (B, A) (default 16)")
    parser.add_argument("--name", help="of the benchmark, for the published figures (default: the table's name and shape)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines to read")
    return parser


def score(options: argparse.Namespace, load: Callable[[], DeScore]) -> int:
    """Score a table; returns the exit code.

    Args:
        options: of `add_score`, and `checkpoint` and `mode`.
        load: loads the judge; called only when something is to be computed.
    """
    from descore.checkpoints.folder import locate
    from descore.scoring.output_rows import check_out
    from descore.scoring.score_table import score_table

    table = _table(options)  # before anything is loaded, which takes longer
    check_out(options.out)
    config = _config(options, shard=options.shard, merge=options.merge)
    summary = score_table(load, locate(options.checkpoint)[0], table, options.out, config, sys.stderr)
    print(summary.sentence, file=sys.stderr)
    return ROWS_FAILED if summary.has_failures else 0


def evaluate(options: argparse.Namespace, load: Callable[[], DeScore]) -> int:
    """Measure the agreement with a table's labels; returns the exit code.

    Args:
        options: of `add_evaluate`, and `checkpoint` and `mode`.
        load: loads the judge; called only when something is to be computed.
    """
    from descore.checkpoints.folder import locate
    from descore.scoring.evaluate_table import evaluate_table

    table = _table(options, labels=True)
    out = options.out or Path(f"{options.table.stem}.scores.csv")
    folder = locate(options.checkpoint)[0]
    evaluation = evaluate_table(load, folder, table, out, _config(options), options.swaps, options.name, sys.stderr)
    print(json.dumps(evaluation.to_dict()) if options.json else evaluation.text())
    return ROWS_FAILED if evaluation.failed else 0


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, metavar="TABLE", help=_TABLE)
    parser.add_argument("--map", action="append", default=[], metavar="ROLE=COLUMN", help="such as prompt=caption")
    parser.add_argument("--videos", type=Path, help="the folder that paths start from (default: the table's own)")
    parser.add_argument("--k", type=int, default=8, help="thoughts of mode k (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the thoughts of mode k (default 0)")
    parser.add_argument("--batch-size", type=int, default=ROWS_AT_ONCE, help=f"videos at once (default {ROWS_AT_ONCE})")
    parser.add_argument("--keep-errors", action="store_true", help="leave rows that failed before as they are")


def _table(options: argparse.Namespace, labels: bool = False) -> PairTable:
    words = parse_words(options.label) if labels else None
    table = read_pairs(options.table, parse_mapping(options.map), options.videos, labels, words)
    for note in table.notes:
        print(note, file=sys.stderr)
    return table


def _config(options: argparse.Namespace, **more: Any) -> ScoreConfig:
    return ScoreConfig(
        mode=options.mode,
        k=options.k,
        seed=options.seed,
        keep_errors=options.keep_errors,
        batch_size=options.batch_size,
        **more,
    )


def _shard(text: str) -> tuple[int, int]:
    try:
        return parse_shard(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
