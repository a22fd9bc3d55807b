"""HTML of the Analyse page: pure functions from findings and rows to `Markup`."""
