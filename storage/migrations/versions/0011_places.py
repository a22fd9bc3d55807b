"""Where a run runs: on this machine, by SLURM, or packed for another machine; and what names it there."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add place and job to runs; those that are there run on this machine."""
    op.add_column("runs", sa.Column("place", sa.String(16), nullable=False, server_default="here"))
    op.add_column("runs", sa.Column("job", sa.Text(), nullable=False, server_default=""))
