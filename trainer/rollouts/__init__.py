"""Rollouts: sampling thoughts, and their forward from one shared prefix."""
