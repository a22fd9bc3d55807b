"""How many labels "Decide" takes, against random pairs and a fixed number of them, and how often it is wrong.

    python -m benchmarks.decide [--simulations 4000] [--noise 0.1] [--ties 0.2] [--prior 5]

Simulated: two checkpoints that prefer different videos on a share of all pairs, and differ in agreement with the noise-free
taste by some points. A label names the wrong video with the chance `noise`, and is a tie with the chance `ties`. Compared
are

- `differing`: labels of differing pairs alone, the sequential test after each of them (storage/training/sequential_test.py);
- `random`: labels of random pairs, the same test after each of them;
- `fixed`: labels of random pairs, the gate's verdict (sign test and paired interval) once, after a number set beforehand:
  the number at which it says "better" in 50 and in 90 % of all cases, beside the median and the 90 % quantile of the others;
- `three_people`: as `differing`, but three people label each pair and their majority counts;
- `with_margin`: as `differing`, with the stop for a difference below 3 points.

`false_alarms` are the shares of simulations without a difference in which a test ever says better or worse, if one looks
after each of 10,000 pairs: the sequential test's, and an ordinary sign test's. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.decide.simulation import WORLDS, World, compare, false_alarms
from storage.training.sequential_test import PRIOR


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.decide", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--noise", type=float, default=0.1, help="chance that a label is wrong (default: 0.1)")
    parser.add_argument("--ties", type=float, default=0.2, help="share of the labels that are ties (default: 0.2)")
    parser.add_argument("--prior", type=float, default=PRIOR, help=f"a of the mixture (default: {PRIOR:g}, the app's)")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    cases = []
    for difference, differing in WORLDS:
        world = World(difference, differing, options.noise, options.ties)
        cases.append(compare(world, options.simulations, options.prior, rng))
        print(json.dumps(cases[-1]), file=sys.stderr, flush=True)
    figures = {"simulations": options.simulations, "noise": options.noise, "ties": options.ties, "prior": options.prior}
    print(json.dumps({**figures, "cases": cases, "false_alarms": false_alarms(options.simulations, options.prior, rng)}))


if __name__ == "__main__":
    main()
