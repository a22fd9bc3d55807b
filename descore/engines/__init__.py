"""Engines: who thinks and gives the rewards. `engine.py` has the interface, every other module one implementation."""
