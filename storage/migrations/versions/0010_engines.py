"""Which engine gave a judgement; "" for those kept before this was known."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the engine's name and version to judgements."""
    op.add_column("judgements", sa.Column("engine", sa.String(128), nullable=False, server_default=""))
