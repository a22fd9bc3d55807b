"""Evaluation: held-out pairs, monitors while a stage trains, paired tests, the gate."""
