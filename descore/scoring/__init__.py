"""Scoring of whole tables: each question computed once, decoding ahead of the model, resumable after any end."""
