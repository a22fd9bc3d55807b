"""Label page: one assignment after the other, saved through JSON endpoints."""
