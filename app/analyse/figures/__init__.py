"""Figures and tables of the Analyse page: pure functions from judged pairs to findings, without Gradio and SQL."""
