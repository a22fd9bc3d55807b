"""The model in torch: backbone, query token and head, decoding, attention."""
