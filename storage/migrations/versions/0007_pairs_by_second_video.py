"""An index on the second video of a pair: each request for a clip asks which pairs it stands in."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_pairs_video_b_id", "pairs", ["video_b_id"])
