"""File formats of pairs and labels, one module each, and the detection of a file's format."""
