"""Chains of thought for pairs that have none: from the own backbone or a teacher."""
