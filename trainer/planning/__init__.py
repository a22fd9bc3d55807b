"""Planning: what fits on a machine and how long it takes, before any weight is loaded."""
