"""The training loop: trainable model, optimizer, precision, state, checkpoints, logs, signals."""
