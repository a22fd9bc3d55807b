"""Alembic migrations, and the upgrade of a store when it is opened."""
