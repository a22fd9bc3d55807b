"""What the Analyse page shows, as HTML: pure functions from findings and rows to `Markup`."""
