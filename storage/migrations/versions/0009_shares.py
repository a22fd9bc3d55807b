"""Links to pairs that somebody shared, and the account behind a vote."""

import sqlalchemy as sa
from alembic import op

from storage.migrations.append_only import make_append_only

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of links; add to votes who was signed in."""
    op.create_table(
        "shares",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("verdict", sa.JSON(), nullable=False),
        sa.Column("maker", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("mode IN ('think', 'quick', 'k')", name=op.f("ck_shares_mode")),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_shares_pair_id"),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
        sa.UniqueConstraint("token_hash", name="uq_shares_token_hash"),
    )
    op.create_index("ix_shares_pair_id", "shares", ["pair_id"])
    op.create_index("ix_shares_origin_created_at", "shares", ["origin", "created_at"])
    # SQLite adds no key to a table that is there: it is built anew, and loses its triggers.
    with op.batch_alter_table("votes") as votes:
        votes.add_column(sa.Column("user_id", sa.Integer(), nullable=True))
        votes.create_foreign_key("fk_votes_user_id", "users", ["user_id"], ["id"])
        votes.create_index("ix_votes_pair_id_user_id", ["pair_id", "user_id"])
    if op.get_bind().dialect.name == "sqlite":
        make_append_only("votes")
