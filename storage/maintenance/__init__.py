"""Upkeep of a store: backup, restore, integrity check."""
