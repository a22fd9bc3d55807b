"""Labelled pairs for training: loading, reading frames, the distributed loader, kept vision features."""
