"""The recipe of the bundled checkpoint: pretraining, then the trainer's stages, on pairs of ShapeWorld."""
