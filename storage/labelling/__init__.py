"""Labelling: the queue, assignments, labels as revisions, totals, consensus, agreement."""
