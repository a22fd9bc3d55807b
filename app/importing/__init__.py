"""Files into the store: uploads, and imports with a dry run first."""
