"""Plumbing that pages share: who asks, form data, JSON, panels, plain error pages, deployment."""
