"""The demo store: ShapeWorld pairs, simulated people, a retrain and scores, made in two minutes."""
