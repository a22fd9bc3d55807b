"""Train page: new labels, runs, the gate's verdict, checkpoints."""
