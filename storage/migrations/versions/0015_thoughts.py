"""All thoughts of a judgement in mode k; NULL for those of which the first one alone was kept."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the thoughts to judgements."""
    op.add_column("judgements", sa.Column("thoughts", sa.JSON(), nullable=True))
