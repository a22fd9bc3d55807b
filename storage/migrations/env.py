"""Run by Alembic. `storage.migrations.upgrade.upgrade` hands over its connection and its transaction."""

from alembic import context

from storage.schema import Base

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations run when the app opens its store (storage.open_database)")

context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
