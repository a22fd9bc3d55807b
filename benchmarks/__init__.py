"""Measurements: one command each, which ends with a line of JSON."""
