"""What the Lead page shows, as HTML. Pure functions; all text is escaped by `Markup.format`."""
