"""Share of videos that are unlike those that the checkpoint knows.

What a reward says of such videos was never measured, so figures of a selection with many of them are worth less.
"""

from __future__ import annotations

from app.analyse.figures.finding import Cell, Finding, share
from app.analyse.figures.judged_pairs import MODES, AnalysedCheckpoint

HEAD = ("asked", "videos", "familiarity known", "unfamiliar", "share")
TITLE = "Videos unlike those the checkpoint knows"


def unfamiliar_videos(checkpoint: AnalysedCheckpoint) -> Finding:
    """Count the judged videos that lie beyond the limit of the checkpoint's reference videos, by mode."""
    rows: list[tuple[Cell, ...]] = []
    for mode in MODES:
        scores = [score for pair in checkpoint.pairs if (score := pair.think if mode == "think" else pair.quick) is not None]
        known = [distance for score in scores for distance in score.distance if distance is not None]
        far = sum(distance > 1 for distance in known)
        if known:
            rows.append((mode, 2 * len(scores), len(known), far, share(far, len(known))))
    if not rows:
        nothing = "It is not known how like the judged videos are to those that this checkpoint was trained on."
        return Finding("familiarity", TITLE, (nothing,))
    notes = (
        "Counted are the videos of judged pairs whose vision features lie further from the checkpoint's reference videos "
        "than 95 % of these do from each other. About 5 % are to be expected of videos like its own; with many more, its "
        "rewards are guesses about videos that it does not know.",
        "Not known: judgements of vLLM, those kept by an earlier version, those of checkpoints without reference videos.",
    )
    return Finding("familiarity", TITLE, notes, (), HEAD, tuple(rows))
