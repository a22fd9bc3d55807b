"""The simulation of "Decide": `python -m benchmarks.decide`."""
