"""The losses of both stages and the rollout reward."""
