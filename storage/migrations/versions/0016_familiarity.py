"""How far a judged video lies from those that its checkpoint knows; empty, so not known, for judgements kept before."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the distance to judgements."""
    op.add_column("judgements", sa.Column("distance", sa.Double(), nullable=True))
