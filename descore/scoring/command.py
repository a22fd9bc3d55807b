"""The commands `descore score` and `descore evaluate`: their options, and what they print.

    descore score pairs.csv --out scores.csv --mode quick --checkpoint our-lab/descore-8b
    descore evaluate pairs.csv --checkpoint our-lab/descore-8b
    descore score pairs.csv --out scores.csv --checkpoint our-lab/descore-8b --devices all
    descore score pairs.csv --out scores.csv --server http://gpu-1:8000,http://gpu-2:8000 --server-token-file token.txt

Exit code 3 says that rows failed; the next run tries them again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.engines.engine import ROWS_AT_ONCE
from descore.errors import EngineError
from descore.scoring.config import ScoreConfig, parse_shard
from descore.tables.labels import parse_words
from descore.tables.pair_columns import parse_mapping
from descore.tables.pairs import PairTable, read_pairs

if TYPE_CHECKING:
    from descore.judge import DeScore
    from descore.scoring.judge_source import JudgeSource

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
        options: of `add_score`, and `checkpoint`, `engine` and `mode`.
        load: loads the judge in this process; called only when something is to be computed here.
    """
    from descore.scoring.output_rows import check_out
    from descore.scoring.score_table import score_table

    table = _table(options)  # before anything is loaded, which takes longer
    check_out(options.out)
    config = _config(options, shard=options.shard, merge=options.merge)
    with _source(options, load) as source:
        summary = score_table(source, table, options.out, config, sys.stderr)
    print(summary.sentence, file=sys.stderr)
    return ROWS_FAILED if summary.has_failures else 0


def evaluate(options: argparse.Namespace, load: Callable[[], DeScore]) -> int:
    """Measure the agreement with a table's labels; returns the exit code.

    Args:
        options: of `add_evaluate`, and `checkpoint`, `engine` and `mode`.
        load: loads the judge in this process; called only when something is to be computed here.
    """
    from descore.scoring.evaluate_table import evaluate_table

    table = _table(options, labels=True)
    out = options.out or Path(f"{options.table.stem}.scores.csv")
    with _source(options, load) as source:
        evaluation = evaluate_table(source, table, out, _config(options), options.swaps, options.name, sys.stderr)
    print(json.dumps(evaluation.to_dict()) if options.json else evaluation.text())
    return ROWS_FAILED if evaluation.failed else 0


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=Path, metavar="TABLE", help=_TABLE)
    parser.add_argument("--map", action="append", default=[], metavar="ROLE=COLUMN", help="such as prompt=caption")
    parser.add_argument("--videos", type=Path, help="the folder that paths start from (default: the table's own)")
    parser.add_argument("--k", type=int, default=8, help="thoughts of mode k (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the thoughts of mode k (default 0)")
    parser.add_argument("--batch-size", type=int, default=ROWS_AT_ONCE, help=f"videos at once (default {ROWS_AT_ONCE})")
    elsewhere = parser.add_mutually_exclusive_group()
    elsewhere.add_argument("--devices", metavar="all|cuda:0,cuda:1", help="a process for each of these, sharing the work")
    elsewhere.add_argument("--server", metavar="URL,URL", help="judge by running `descore serve`, sharing the work")
    parser.add_argument("--server-token-file", type=Path, metavar="FILE", help="its first line is the servers' bearer token")
    parser.add_argument("--keep-errors", action="store_true", help="leave rows that failed before as they are")


@contextmanager
def _source(options: argparse.Namespace, load: Callable[[], DeScore]) -> Iterator[JudgeSource]:
    """Say who judges: servers, a process for each device, or this process.

    Raises:
        EngineError: settings that can't be met together, or no server answers.
    """
    from descore.checkpoints.folder import BUNDLED, locate
    from descore.judge import DeScore
    from descore.scoring.judge_source import JudgeSource
    from descore.server.local_servers import local_servers

    if options.server is not None:
        with _servers_judge(options) as judge:
            yield JudgeSource.of_judge(judge)
        return
    devices, checkpoint = _devices(options), options.checkpoint or BUNDLED
    with ExitStack() as stack:

        def load_elsewhere(devices: list[str]) -> DeScore:
            servers = stack.enter_context(local_servers(checkpoint, options.engine, devices))
            return stack.enter_context(DeScore.from_server(servers.urls, servers.token))

        here = load if devices is None else partial(load_elsewhere, devices)
        yield JudgeSource.of_folder(locate(checkpoint)[0], here)


def _servers_judge(options: argparse.Namespace) -> DeScore:
    from descore.checkpoints.folder import folder_fingerprint, locate
    from descore.engines.server_engine import ServerEngine
    from descore.judge import DeScore
    from descore.server.config import read_token

    if options.engine != "auto":
        raise EngineError("--engine says who thinks in this process; servers have been started with theirs: leave it out")
    wanted = None if options.checkpoint is None else folder_fingerprint(locate(options.checkpoint)[0])
    engine = ServerEngine(options.server, read_token(options.server_token_file), wanted)
    rows = int(engine.description["limits"]["rows"])
    if options.batch_size > rows:
        engine.close()
        raise EngineError(f"--batch-size {options.batch_size} is more than the servers take at once: at most {rows}")
    return DeScore(engine)


def _devices(options: argparse.Namespace) -> list[str] | None:
    """Return the devices that get a process each; None where this process judges itself, as where "all" is one."""
    if options.devices is None:
        return None
    from descore.server.local_servers import all_devices, parse_devices

    devices = parse_devices(options.devices)
    return None if options.devices.strip() == "all" and len(all_devices()) == 1 else devices


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
