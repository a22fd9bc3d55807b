"""A run in its folder: stages in order, progress, device, publication of the candidate."""
