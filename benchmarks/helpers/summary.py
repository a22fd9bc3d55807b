"""Many times of one thing in a few figures."""

from __future__ import annotations


def summary(seconds: list[float]) -> dict[str, float]:
    """Summarise times: calls, median, 95th and 99th percentile, maximum, in milliseconds."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    ranks = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in shares.items()}
    return {"calls": len(ordered), **{name: round(1000 * value, 2) for name, value in {**ranks, "max": ordered[-1]}.items()}}
