"""The checkpoint folder: manifest, weights, model card."""
