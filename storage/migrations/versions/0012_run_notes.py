"""Notes of leads on runs."""

import sqlalchemy as sa
from alembic import op

from storage.migrations.append_only import make_append_only

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of notes, which only grows."""
    op.create_table(
        "run_notes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("by_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["by_id"], ["users.id"], name="fk_run_notes_by_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_notes_run_id"),
        sa.PrimaryKeyConstraint("id", name="pk_run_notes"),
    )
    op.create_index("ix_run_notes_run_id", "run_notes", ["run_id"])
    make_append_only("run_notes")
