"""Training runs as processes: what a machine can train, and who starts, watches and ends a run."""
