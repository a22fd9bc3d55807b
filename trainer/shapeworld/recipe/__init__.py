"""The recipe of the bundled checkpoint."""
