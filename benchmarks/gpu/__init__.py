"""Measurements of the GPU report, each a function that takes a `Setting` and returns figures."""
