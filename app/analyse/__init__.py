"""Analyse page: where model and people agree, where they differ, and what the model's scores are worth."""
