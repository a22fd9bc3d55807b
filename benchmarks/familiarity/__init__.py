"""Does a checkpoint know which videos it does not know: `python -m benchmarks.familiarity`."""
