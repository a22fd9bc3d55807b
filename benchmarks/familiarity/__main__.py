"""Whether a checkpoint tells videos of its own world from real footage, by the familiarity that it carries.

    python -m benchmarks.familiarity [--checkpoint bundled] [--pairs 200] FOLDER [FOLDER ...]

Videos of ShapeWorld's test split and of the three unseen splits against every video under the folders (mp4, webm, mov,
mkv, avi); the same footage in another encoding counts once. Nothing is fitted here: the limit is the checkpoint's own,
from validation videos. AUROC is the probability that a real video lies further from the reference videos than
one of the test split (Mann-Whitney), its interval (95 %) a bootstrap over pairs and real videos; false alarms are the shares
of ShapeWorld videos beyond the limit, with Wilson's intervals. The last line is JSON; with `--figures FILE` it goes to a
file too, which `descore familiarity` puts into the card.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from descore.judge import DeScore
from descore.metrics import wilson_interval
from descore.reference_videos import reference_features
from trainer.shapeworld.pairs import shape_pairs
from trainer.shapeworld.write_dataset import clip_names, write_pairs

if TYPE_CHECKING:
    from descore.familiarity import Familiarity

OWN, UNSEEN = "test", ("unseen-combinations", "unseen-phrasings", "unseen-rendering")
_SUFFIXES = frozenset({".mp4", ".webm", ".mov", ".mkv", ".avi"})
_DRAWS = 2000
# The same footage in another file moves a feature of the bundled checkpoint by 0.2 at most, other footage by more than 2.
_SAME = 0.25

Floats = npt.NDArray[np.float64]


def real_videos(folders: Sequence[Path]) -> list[Path]:
    """Return the videos under folders, by path."""
    return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)


def distinct(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return features without those that stood before."""
    kept: list[npt.NDArray[np.float32]] = []
    for feature in features:
        if not any(np.abs(feature - other).max() < _SAME for other in kept):
            kept.append(feature)
    return np.stack(kept)


def auroc(own: Floats, real: Floats) -> float:
    """Return the probability that a real video lies further away, ties counted half."""
    return float(mannwhitneyu(real, own).statistic) / (len(own) * len(real))


def auroc_interval(own: Floats, real: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval. own: distances by pair, (pairs, 2); real: (videos,)."""
    rng = np.random.default_rng(0)
    draws = [
        auroc(own[rng.integers(0, len(own), len(own))].ravel(), real[rng.integers(0, len(real), len(real))])
        for _ in range(_DRAWS)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def split_distances(judge: DeScore, known: Familiarity, split: str, count: int) -> Floats:
    """Return the distances of the first pairs of a split, (count, 2)."""
    pairs = list(shape_pairs(split, count))
    with tempfile.TemporaryDirectory() as name:
        write_pairs(pairs, Path(name))
        features = reference_features(judge, [Path(name, clip) for pair in pairs for clip in clip_names(pair)])
    return np.array([known.distance(feature) for feature in features]).reshape(-1, 2)


def measure(judge: DeScore, count: int, folders: Sequence[Path]) -> dict[str, Any]:
    """Return the figures, named as the card shows them.

    Raises:
        ValueError: the checkpoint carries no familiarity, or there is no video under the folders.
    """
    known, paths = judge.model.familiarity, real_videos(folders)
    if known is None:
        raise ValueError(f"{judge.name} carries no familiarity; `descore familiarity` adds one")
    if not paths:
        raise ValueError("there is no video under the folders")
    features = distinct(reference_features(judge, paths))
    real = np.array([known.distance(feature) for feature in features])
    own = split_distances(judge, known, OWN, count)
    figures: dict[str, Any] = {
        "reference videos": len(known.references),
        "real videos": len(real),
        "AUROC, test split against real videos": auroc(own.ravel(), real),
        "AUROC, test split against real videos_interval": list(auroc_interval(own, real)),
        "nearest real video": float(real.min()),
        "real videos called unfamiliar": float((real > 1).mean()),
        "real videos called unfamiliar_interval": list(wilson_interval(int((real > 1).sum()), len(real))),
    }
    for split in (OWN, *UNSEEN):
        far = own if split == OWN else split_distances(judge, known, split, count)
        hits, of = int((far > 1).sum()), far.size
        figures[f"false alarms, {split}"] = hits / of
        figures[f"false alarms, {split}_interval"] = list(wilson_interval(hits, of))
        print(f"{split:<22} {of} videos, median distance {np.median(far):.2f}, {hits} beyond the limit")
    print(f"{'real footage':<22} {len(real)} videos, distances {np.round(np.sort(real), 2).tolist()}")
    return figures | {"videos of each split": 2 * count}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="bundled")
    parser.add_argument("--pairs", type=int, default=200, help="of each split")
    parser.add_argument("--figures", type=Path, help="write the JSON here too")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="with real videos")
    options = parser.parse_args()
    judge = DeScore.from_pretrained(options.checkpoint)
    text = json.dumps(measure(judge, options.pairs, options.folders))
    if options.figures is not None:
        options.figures.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
