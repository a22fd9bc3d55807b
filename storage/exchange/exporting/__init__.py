"""Export: stored pairs and labels into any of the formats."""
