"""Figures and numbers over the store's totals: pure functions, no Gradio, no SQL."""
