"""The journal: what people made, as lines of files that are only appended to, and reading them back into a store."""
