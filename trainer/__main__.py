"""`python -m trainer`: train a checkpoint on labelled pairs, collect thoughts for it, plan a run, measure a checkpoint.

python -m trainer run --preset tiny-cpu --out runs/first          # cold start, then dual-objective RL
python -m trainer run --out runs/first                            # go on where it stopped
python -m trainer run 7                                           # a run that was started on the Train page
python -m trainer pack 7 run-7                                    # that run in one folder, for another machine:
python -m trainer run run-7                                       # trains it there; `unpack run-7` takes it back
python -m trainer evaluate --checkpoint runs/first/dual-rl/checkpoint
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.paradigm import PARADIGMS
from trainer.shapeworld.pairs import SPLITS

# Options of a run in a folder alone.
_NEW_RUN = ("out", "preset", "set", "paradigm", "checkpoint", "csv", "videos")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 2 with one line on stderr where the user must act; 1 where training failed; 130 or 143 where SIGINT or SIGTERM
        ended it at a step boundary.
    """
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__, formatter_class=_Formatter)
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "cold-start": "stage 1: Bradley-Terry on pairs with thoughts",
        "dual-rl": "stage 2: GRPO on thoughts and Bradley-Terry on rewards",
        "run": "both stages, one after the other",
    }
    for name, help_text in helps.items():
        training = commands.add_parser(name, help=help_text)
        if name == "run":
            where = "a run of the store, or the folder of a pack, instead of --out"
            training.add_argument("id", nargs="?", metavar="ID|PACK", help=where)
        _training_arguments(training)
    pack = commands.add_parser("pack", help="a run of the store in one folder, to be trained on any machine")
    pack.add_argument("id", type=int, metavar="RUN", help="its number")
    pack.add_argument("out", type=Path, metavar="OUT", help="the folder of the pack")
    unpack = commands.add_parser("unpack", help="take the result of a pack back into the store, and compare it")
    unpack.add_argument("out", type=Path, metavar="OUT", help="the folder of the finished pack")
    _evaluate_arguments(
        commands.add_parser("evaluate", help="agreement with labels: held-out pairs, or a split of ShapeWorld")
    )
    _thoughts_arguments(commands.add_parser("collect-thoughts", help="thoughts for pairs that have none"))
    _plan_arguments(commands.add_parser("plan", help="parameters, memory and time of a run, without any weights"))
    preflight_help = "which presets this machine can run on a checkpoint, and how long they take"
    _preflight_arguments(commands.add_parser("preflight", aliases=["offer"], help=preflight_help))
    demo = commands.add_parser("demo", help="make the store of `python app.py --demo`")
    demo.add_argument("home", type=Path, metavar="HOME", help="an empty or new folder")
    options = parser.parse_args(arguments)
    if options.command == "demo":
        return _demo(options.home)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for noisy in ("alembic", "accelerate", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if options.command == "evaluate":
        if options.pairs < 1:
            parser.error("--pairs must be at least 1")
        return _evaluate(options)
    if options.command == "collect-thoughts":
        from trainer.thoughts import collect as thoughts

        return thoughts.run(options)
    if options.command == "plan":
        from trainer.planning import plan

        return plan.run(options)
    if options.command in ("preflight", "offer"):
        from trainer.planning import preflight

        return preflight.run(options)
    if options.command in ("pack", "unpack"):
        return _pack(options) if options.command == "pack" else _unpack(options)
    if getattr(options, "id", None) is not None:
        given = [name for name in _NEW_RUN if getattr(options, name.replace("-", "_"))]
        if given:
            parser.error(f"a run of the store, or a pack, has its settings; leave out --{' --'.join(given)}")
        return _store_run(int(options.id)) if options.id.isdigit() else _run_pack(Path(options.id))
    if options.out is None:
        parser.error(
            "--out is needed: the run's folder" + (", the ID of a run, or a pack" if options.command == "run" else "")
        )
    return _train(options)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The module's text as it is written."""


def _training_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="the run's folder; a run that is there goes on")
    parser.add_argument("--preset", help="name of a preset, or a YAML file (only for a new run)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="such as cold_start.steps=100")
    parser.add_argument("--paradigm", choices=PARADIGMS, help="the method, or one of the baselines")
    parser.add_argument("--checkpoint", help="what to start from: a name, folder or Hub id")
    _data_arguments(parser)


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="bundled", help="name, folder or Hub id (default: bundled)")
    parser.add_argument("--split", choices=SPLITS, help="of ShapeWorld; without it, the held-out labelled pairs")
    parser.add_argument("--pairs", type=int, default=400, help="of the split, from its first on (default 400)")
    parser.add_argument("--clips", type=Path, help="folder to render a split into and keep (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines to read")
    _data_arguments(parser)


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--csv", type=Path, help="a table of labelled pairs, instead of the store")
    parser.add_argument("--videos", type=Path, help="the folder that its paths start from (default: the table's own)")


def _thoughts_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--preset", default="tiny-cpu", help="preset or YAML file: its checkpoint, frames and data (default: tiny-cpu)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting, as in data.csv=pairs.csv")
    add("--home", type=Path, help="data folder of the store (default: the user's)")
    add("--out", type=Path, default=Path("thoughts.jsonl"), help="file to append to (default: thoughts.jsonl)")
    add("--pairs", type=int, help="number of pairs at most")
    add("--batch", type=int, default=8, help="pairs at the same time (default 8)")
    add("--teacher", metavar="URL", help="ask this OpenAI-compatible endpoint (.../v1) instead of the own backbone")
    add("--model", help="the teacher's model name")
    add("--key-variable", default="OPENAI_API_KEY", help="environment variable with the teacher's key")
    add("--requests-per-minute", type=float, default=0.0, help="limit for the teacher (default: none)")
    add("--max-tokens", type=int, default=4096, help="of one of the teacher's answers (default 4096)")
    add("--price-in", type=float, default=0.0, help="price of a million prompt tokens, for the cost line")
    add("--price-out", type=float, default=0.0, help="price of a million completion tokens")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--preset", required=True, help="name of a preset, or a YAML file")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting, as in model.lora.r=16")
    add("--gpus", type=int, default=1, help="how many share the work (default 1)")
    add("--gpu-memory", type=float, default=80.0, metavar="GB", help="of each GPU (default 80)")
    add("--tflops", type=float, default=400.0, help="bf16 TFLOP/s that a GPU sustains (default 400, an H100 at 40 %%)")
    add("--bandwidth", type=float, default=2.5, metavar="TB/S", help="of a GPU's memory, sustained (default 2.5)")
    add("--video-seconds", type=float, default=5.0, help="length of a typical clip (default 5)")
    add("--thought-tokens", type=float, help="of a typical thought (default: halfway between the bounds of R_len)")
    add("--json", action="store_true", help="print one JSON object instead of lines to read")


def _preflight_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="bundled", help="what would be trained further (default: bundled)")
    parser.add_argument("--pairs", type=int, default=200, help="to train on (default 200)")
    parser.add_argument("--held-out", type=int, default=50, help="pairs to measure with (default 50)")
    parser.add_argument("--device", help="cpu, or cuda:0 (default: the first GPU, if there is one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines to read")


def _store_run(run_id: int) -> int:
    from storage import StorageError

    try:
        from trainer.runs.device import choose_device

        choose_device(run_id)
        from trainer.runs.store_run import run_from_store

        return run_from_store(run_id)
    except (StorageError, OSError) as error:  # OSError: a run folder that can't be written
        print(f"run {run_id}: {error}", file=sys.stderr)
        return 2


def _demo(home: Path) -> int:
    from storage import StorageError
    from trainer.demo.make_demo import make_demo

    os.environ.pop("DATABASE_URL", None)  # nobody's own store
    logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])  # into the logs of the runs alone
    try:
        make_demo(home, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        return 130
    except (StorageError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    return 0


def _pack(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from descore.errors import CheckpointError
    from storage import StorageError, open_database
    from trainer.packs.pack import pack_run

    try:
        database = open_database()
        try:
            with tqdm(desc="pack", unit=" files", disable=None) as bar:

                def on_progress(done: int, total: int) -> None:
                    bar.total, bar.n = total, done
                    bar.refresh()

                pack_run(database, options.id, options.out, on_progress)
        finally:
            database.close()
    except (CheckpointError, StorageError, ValueError, OSError) as error:
        print(f"pack: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: `python -m trainer run {options.out}` trains it on any machine that has this program")
    return 0


def _unpack(options: argparse.Namespace) -> int:
    from descore.errors import CheckpointError
    from storage import StorageError, open_database
    from trainer.packs.unpack import unpack

    try:
        database = open_database()
        try:
            return unpack(database, options.out)
        finally:
            database.close()
    except (CheckpointError, StorageError, ValueError, OSError) as error:
        print(f"unpack: {error}", file=sys.stderr)
        return 2


def _run_pack(folder: Path) -> int:
    from descore.errors import CheckpointError, RewardError
    from storage import StorageError
    from trainer.engine.loop import TrainingFailedError
    from trainer.packs.run_pack import run_pack

    try:
        return run_pack(folder)
    except TrainingFailedError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except (CheckpointError, RewardError, StorageError, ValueError, OSError) as error:
        print(f"run: {error}", file=sys.stderr)
        return 2


def _train(options: argparse.Namespace) -> int:
    from descore.errors import CheckpointError
    from storage import StorageError
    from trainer.engine.loop import TrainingFailedError
    from trainer.engine.stop_signals import StopSignals
    from trainer.python_api import STAGES, settings_of
    from trainer.runs.observer import FolderObserver
    from trainer.runs.pipeline import run, settle
    from trainer.runs.tether import Refusal, Tether

    stages = STAGES[options.command]
    with StopSignals() as stop, Tether.from_environment(stop) as tether:
        try:
            about = (options.preset, options.set, options.paradigm, options.checkpoint, options.csv, options.videos)
            config = settle(settings_of(options.out, *about), options.out)
            observer = None if tether.notes is None else FolderObserver(options.out, stages)
            code = run(stages, config, options.out, observer=observer, stop=stop)
        except (CheckpointError, StorageError, ValueError, TrainingFailedError) as error:
            print(f"{options.command}: {error}", file=sys.stderr)
            failed = isinstance(error, TrainingFailedError)
            if tether.notes is not None:
                tether.notes.refuse(Refusal(str(error), failed))
            return 1 if failed else 2
    # The caller of a launched process knows that it wanted the stop; to the launcher another code would be a failure.
    return code if tether.notes is None else 0


def _evaluate(options: argparse.Namespace) -> int:
    from descore.errors import CheckpointError, RewardError
    from storage import StorageError
    from trainer.sharing.accelerator import make_accelerator

    try:
        make_accelerator()  # joins the processes of a launcher, before any of them is busy
        report = _evaluated(options)
    except (CheckpointError, RewardError, StorageError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    if not make_accelerator().is_main_process:  # the others have the same report
        return 0
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name}: {value}")
    return 0


def _evaluated(options: argparse.Namespace) -> dict[str, Any]:
    if options.split is None:
        from trainer.python_api import evaluate as evaluate_held_out

        return evaluate_held_out(options.checkpoint, csv=options.csv, videos=options.videos)
    from descore.judge import DeScore
    from trainer.shapeworld.evaluate import evaluate

    judge = DeScore.from_pretrained(options.checkpoint)
    return evaluate(judge, options.split, options.pairs, folder=options.clips).to_dict()


if __name__ == "__main__":
    raise SystemExit(main())
