"""The stages: cold start, dual-objective RL, and two baselines."""
