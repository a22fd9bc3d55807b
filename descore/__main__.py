"""The command `descore`, also `python -m descore`.

    descore judge --prompt "a red circle bounces" A.mp4 B.mp4 --json
    descore score pairs.csv --out scores.csv --mode quick
    descore evaluate VideoGen-RewardBench.csv --checkpoint our-lab/descore-8b
    descore push runs/first/dual-rl/checkpoint our-lab/descore-8b --private
    descore pull our-lab/descore-8b checkpoints/descore-8b --revision 1f2e3d
    descore export our-lab/descore-8b exports/descore-8b --dtype bfloat16
    descore import somebody/their-reward-model checkpoints/theirs --max-thought-tokens 1024
    descore familiarity checkpoints/ours pairs.csv
    descore serve --checkpoint our-lab/descore-8b --engine vllm --host 0.0.0.0 --token-file token.txt

A mistake of the caller ends with one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from descore.engines.engine import EngineName
from descore.judgement import MODES, Judgement, Verdict, contradiction
from descore.prompt import PROMPTS, check_prompt
from descore.scoring import command
from descore.server.command import add_serve

if TYPE_CHECKING:
    from descore.judge import DeScore
    from descore.video.types import FramePolicy

DTYPES = ("float32", "bfloat16", "float16")
_WRONG_USE = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        return code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (ValueError, RuntimeError, OSError) as error:  # the typed errors are kinds of these
        print("descore:", " ".join(str(error).split()), file=sys.stderr)
        return _WRONG_USE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="descore", description="A video reward model that thinks, then scores.")
    commands = parser.add_subparsers(required=True, metavar="command")

    judge = commands.add_parser("judge", help="judge one or more videos of one prompt")
    judge.add_argument("videos", nargs="+", metavar="VIDEO")
    judge.add_argument("--prompt", required=True, help="the text that the videos were made from")
    judge.add_argument("--json", action="store_true", help="print one JSON object")
    judge.set_defaults(run=_judge)

    score = command.add_score(commands)
    score.set_defaults(run=_score)
    evaluate = command.add_evaluate(commands)
    evaluate.set_defaults(run=_evaluate)

    push = commands.add_parser("push", help="put a checkpoint and its card on the Hugging Face Hub, in one commit")
    push.add_argument("folder", type=Path, metavar="CHECKPOINT")
    push.add_argument("repository", metavar="OWNER/NAME", help="made where it does not exist")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument("--branch", help="by default the main one")
    push.add_argument("--message", default="", help="of the commit")
    push.set_defaults(run=_push)

    pull = commands.add_parser("pull", help="copy a checkpoint from the Hugging Face Hub into a folder")
    pull.add_argument("repository", metavar="OWNER/NAME")
    pull.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes; a checkpoint that is there is replaced")
    pull.add_argument("--revision", help="commit, tag or branch (default: the newest)")
    pull.add_argument("--offline", action="store_true", help="take what was fetched before, and ask nobody")
    pull.set_defaults(run=_pull)

    export = commands.add_parser("export", help="write a checkpoint as a stock transformers folder, for vLLM and others")
    export.add_argument("checkpoint", metavar="CHECKPOINT", help="folder, Hub id (owner/name@revision) or 'bundled'")
    export.add_argument("folder", type=Path, metavar="OUT", help="where it goes; an export that is there is replaced")
    export.add_argument("--dtype", choices=DTYPES, help="of the weights (default: what this machine judges in)")
    export.set_defaults(run=_export)

    foreign = commands.add_parser("import", help="turn a reward model of others, or an export, into a checkpoint")
    foreign.add_argument("source", metavar="SOURCE", help="folder or Hub id: of transformers, of peft, or an export")
    foreign.add_argument("folder", type=Path, metavar="OUT", help="where it goes; a checkpoint that is there is replaced")
    foreign.add_argument("--base", help="base model of a peft folder (default: the one that the folder names)")
    foreign.add_argument("--head-key", help="the head's weight (default: rm_head.pth, or rm_head.weight in the shards)")
    foreign.add_argument("--query-key", help="the query token's weight (default: the input row of <Reward>)")
    foreign.add_argument("--name", help="of the checkpoint (default: the folder's)")
    foreign.add_argument("--prompt-version", choices=sorted(PROMPTS), help="the instruction that it reads")
    foreign.add_argument("--max-thought-tokens", type=int, metavar="N", help="a thought is cut off there")
    foreign.add_argument("--frames", type=_frame_policy, metavar="JSON", help='such as {"fps": 2, "max_frames": 32}')
    foreign.set_defaults(run=_import)

    known = commands.add_parser("familiarity", help="put the videos that a checkpoint knows into its folder")
    known.add_argument("folder", type=Path, metavar="CHECKPOINT")
    known.add_argument("table", type=Path, metavar="TABLE", help="held-out pairs like those it was trained on, as of score")
    known.add_argument("--figures", type=Path, metavar="JSON", help="what was measured of it (name -> number), for the card")
    known.set_defaults(run=_familiarity)

    add_serve(commands)

    for parsed in (judge, score, evaluate):
        parsed.add_argument("--checkpoint", help="folder, Hub id (owner/name@revision) or 'bundled' (the default)")
        parsed.add_argument("--mode", choices=MODES, default="think", help="think (the default), quick, or k thoughts")
        parsed.add_argument(
            "--engine",
            choices=get_args(EngineName),
            default="auto",
            help="who thinks: transformers, vllm, or auto (the default): vLLM where it and a GPU are there",
        )
    return parser


def _judge(options: argparse.Namespace) -> int:
    check_prompt(options.prompt)  # before the model is loaded, which takes longer
    verdict = _load(options).judge(options.videos, options.prompt, options.mode)
    print(json.dumps(verdict.to_json_dict(), ensure_ascii=False) if options.json else _readable(verdict))
    return 0


def _score(options: argparse.Namespace) -> int:
    return command.score(options, lambda: _load(options))


def _evaluate(options: argparse.Namespace) -> int:
    return command.evaluate(options, lambda: _load(options))


def _push(options: argparse.Namespace) -> int:
    from descore.checkpoints.hub import push_checkpoint

    pushed = push_checkpoint(options.folder, options.repository, options.private, options.branch, options.message)
    print(f"{pushed.repository}@{pushed.commit}")
    print(pushed.url, file=sys.stderr)
    return 0


def _pull(options: argparse.Namespace) -> int:
    from descore.checkpoints.hub import pull_checkpoint

    print(pull_checkpoint(options.repository, options.folder, options.revision, options.offline))
    return 0


def _export(options: argparse.Namespace) -> int:
    from descore.checkpoints.stock_export import export_checkpoint, read_export

    _quiet()
    folder = export_checkpoint(options.checkpoint, options.folder, options.dtype)
    export = read_export(folder)
    print(folder)
    print(f"query token {export.query_id}, reward token {export.reward_id}, {export.dtype}", file=sys.stderr)
    return 0


def _import(options: argparse.Namespace) -> int:
    from descore.checkpoints.foreign_import import ImportConfig, import_checkpoint

    _quiet()
    config = ImportConfig(
        name=options.name,
        base=options.base,
        head_key=options.head_key,
        query_key=options.query_key,
        prompt_version=options.prompt_version,
        max_thought_tokens=options.max_thought_tokens,
        frame_policy=options.frames,
    )
    print(import_checkpoint(options.source, options.folder, config))
    return 0


def _familiarity(options: argparse.Namespace) -> int:
    from descore.checkpoints.folder import add_familiarity
    from descore.familiarity import LEAST_VIDEOS, fit_familiarity
    from descore.judge import DeScore
    from descore.reference_videos import reference_features
    from descore.tables.pairs import read_pairs

    figures = {} if options.figures is None else json.loads(options.figures.read_text("utf-8"))
    table = read_pairs(options.table)
    _quiet()
    judge = DeScore.from_pretrained(options.folder)
    videos = {
        (table.folder / path, row.prompt): None for row in table.rows for path in (row.path_a, row.path_b)
    }  # each once, in the order of the table
    prompts = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompt for _, prompt in videos))}
    features = reference_features(judge, [path for path, _ in videos])
    fitted = fit_familiarity(features, [prompts[prompt] for _, prompt in videos])
    if fitted is None:
        raise ValueError(f"{options.table} has {len(videos)} videos: familiarity takes {LEAST_VIDEOS}, of several prompts")
    add_familiarity(options.folder, replace(fitted, measured=figures))
    print(f"{options.folder} knows {len(fitted.references)} videos now; its fingerprint is the same", file=sys.stderr)
    return 0


def _frame_policy(text: str) -> FramePolicy:
    from descore.video.types import FramePolicy

    try:
        return FramePolicy.from_dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"is no frame policy: {error}") from error


def _load(options: argparse.Namespace) -> DeScore:
    """Load the judge; imports come late so that --help is quick."""
    from descore.judge import DeScore

    _quiet()
    return DeScore.from_pretrained(options.checkpoint or "bundled", engine=options.engine)


def _quiet() -> None:
    """Keep transformers' progress bars and advice out of the output."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _readable(verdict: Verdict) -> str:
    blocks = [_block(chr(ord("A") + index), video) for index, video in enumerate(verdict.videos)]
    if verdict.verdict is not None:
        blocks.append(_outcome(verdict))
    return "\n\n".join(blocks)


def _outcome(verdict: Verdict) -> str:
    p, outcome = verdict.p_first_preferred, verdict.verdict
    higher = "equal rewards" if outcome == "tie" else f"{outcome} has the higher reward"
    if p is None:
        return f"{higher} (P(A preferred): {verdict.p_source})"
    if verdict.unfamiliar:
        higher = "too close to call" if outcome == "tie" else higher
        return f"{higher} (no P(A preferred) is shown: unlike the videos that this checkpoint knows)"
    # Never shown as a certainty, which no model has.
    shown = "over 0.99" if p >= 0.995 else "under 0.01" if p < 0.005 else f"{p:.2f}"
    outcome_text = "too close to call" if outcome == "tie" else f"{outcome} is preferred"
    return f"{outcome_text} (P(A preferred) = {shown}, {verdict.p_source})"


def _block(letter: str, video: Judgement) -> str:
    lines = [f"{letter}  {video.path}", video.thought]
    if video.sub_scores is not None:
        lines.append("  ".join(f"{name} {score}" for name, score in video.sub_scores.items()))
    if video.parse_note:
        lines.append(f"({video.parse_note})")
    if note := contradiction(video):
        lines.append(f"({note})")
    if video.reward is None:
        lines.append("no reward: this checkpoint has no trained scoring module")
    else:
        standard = "" if video.standardised_reward is None else f" ({video.standardised_reward:+.2f} sd)"
        lines.append(f"reward {video.reward:.4f}{standard}")
    if video.unfamiliar:
        lines.append(f"unlike the videos that this checkpoint knows (distance {video.distance:.2f}; the limit is 1)")
    return "\n".join(line for line in lines if line)


if __name__ == "__main__":
    sys.exit(main())
