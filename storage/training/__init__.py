"""What training stands on: snapshots of labels, runs and their folders, the model registry."""
