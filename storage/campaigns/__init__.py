"""Campaigns: settings, label schema, guidelines, members, leases, progress."""
