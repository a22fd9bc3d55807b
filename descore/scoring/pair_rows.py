"""The row of a pair in the output, from the answers to its two questions.

write_pairs(questions, results, manifest, Path("scores.csv"))       # how many rows have an error
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descore.scoring.output_rows import write_rows
from descore.verdicts import verdict_of

if TYPE_CHECKING:
    from descore.checkpoints.manifest import Manifest
    from descore.scoring.questions import Questions
    from descore.scoring.results_file import ResultsFile


def write_pairs(questions: Questions, results: ResultsFile, manifest: Manifest, out: Path) -> int:
    """Write a row for each pair of a table whose questions have answers; return how many rows have an error.

    Raises:
        OSError: the file can't be written.
    """
    failed = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal failed
        for index in range(len(questions.table.rows)):
            row = pair_row(questions, results, manifest, index)
            failed += row["error"] is not None
            yield row

    write_rows(out, rows())
    return failed


def pair_row(questions: Questions, results: ResultsFile, manifest: Manifest, index: int) -> dict[str, Any]:
    """Return the cells of a row of the output; both of its questions have answers."""
    pair, config = questions.table.rows[index], questions.config
    answers = [results.get(key) for key in questions.of_row(index)]
    files = questions.videos_of_row(index)
    errors = dict.fromkeys(answer.error for answer in answers if answer.error is not None)
    cells: dict[str, Any] = {
        "row": pair.row,
        "line": pair.line,
        "path_A": pair.path_a,
        "path_B": pair.path_b,
        "prompt": pair.prompt,
        "checkpoint": manifest.name,
        "checkpoint_fingerprint": config.fingerprint,
        "mode": config.mode,
        "error": "; ".join(errors) or None,
    }
    if config.mode == "k":
        cells |= {"k": config.k, "seed": config.seed}
    judged = [answer.judgement for answer in answers if answer.judgement is not None]
    for side, file, answer in zip("AB", files, answers, strict=True):
        cells[f"video_sha256_{side}"] = file.sha256
        if answer.judgement is not None:
            judgement = answer.judgement
            cells[f"reward_{side}"] = judgement.reward
            cells[f"standardised_reward_{side}"] = judgement.standardised_reward
            cells[f"overall_score_{side}"] = judgement.overall_score
            cells[f"distance_{side}"] = judgement.distance
            cells[f"sub_scores_{side}"] = None if judgement.sub_scores is None else json.dumps(judgement.sub_scores)
            cells[f"thought_{side}"] = judgement.thought
    cells["engine"] = "; ".join(dict.fromkeys(judgement.engine or "" for judgement in judged)) or None
    if len(judged) == 2:
        verdict = verdict_of(manifest, config.mode, pair.prompt, (judged[0], judged[1]))
        cells |= {"p_first_preferred": verdict.p_first_preferred, "verdict": verdict.verdict, "p_source": verdict.p_source}
    return cells
