"""Import: resolve a parsed file against the store, show what it changes, insert it."""
