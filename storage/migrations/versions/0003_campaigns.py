"""Campaigns and their members; imports."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create campaigns, guidelines, their pairs, members and totals; imports."""
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("origin", sa.String(8), nullable=False),
        sa.Column("dimensions", sa.JSON(), nullable=False),
        sa.Column("overlap", sa.Integer(), nullable=False),
        sa.Column("gold_share", sa.Double(), nullable=False),
        sa.Column("repeat_share", sa.Double(), nullable=False),
        sa.Column("ordering", sa.String(16), nullable=False),
        sa.Column("visible", sa.JSON(), nullable=False),
        sa.Column("lease_seconds", sa.Integer(), nullable=False),
        sa.Column("qualification_pairs", sa.Integer(), nullable=False),
        sa.Column("qualification_pass", sa.Double(), nullable=False),
        sa.Column("seed", sa.String(32), nullable=False),
        sa.Column("order_version", sa.Integer(), nullable=False),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("ordering IN ('random', 'uncertain', 'disagreement')", name=op.f("ck_campaigns_ordering")),
        sa.CheckConstraint("origin IN ('studio', 'import')", name=op.f("ck_campaigns_origin")),
        sa.CheckConstraint("status IN ('open', 'paused', 'closed')", name=op.f("ck_campaigns_status")),
        sa.CheckConstraint("overlap >= 1", name=op.f("ck_campaigns_overlap")),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="fk_campaigns_created_by_id"),
        sa.PrimaryKeyConstraint("id", name="pk_campaigns"),
        sa.UniqueConstraint("name", name="uq_campaigns_name"),
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("format", sa.String(32), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("pairs_added", sa.Integer(), nullable=False),
        sa.Column("labels_added", sa.Integer(), nullable=False),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="fk_imports_created_by_id"),
        sa.PrimaryKeyConstraint("id", name="pk_imports"),
    )
    op.create_table(
        "agreement_patterns",
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("item", sa.String(16), nullable=False),
        sa.Column("pattern", sa.String(100), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_agreement_patterns_campaign_id"),
        sa.PrimaryKeyConstraint("campaign_id", "item", "pattern", name="pk_agreement_patterns"),
    )
    op.create_table(
        "campaign_pairs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("is_gold", sa.Boolean(), nullable=False),
        sa.Column("gold", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("open_slots", sa.Integer(), nullable=False),
        sa.Column("labelled", sa.Integer(), nullable=False),
        sa.Column("consensus", sa.String(8), nullable=True),
        sa.Column("disputed", sa.Boolean(), nullable=False),
        sa.CheckConstraint("state IN ('open', 'flagged', 'dropped')", name=op.f("ck_campaign_pairs_state")),
        sa.CheckConstraint("open_slots >= 0", name=op.f("ck_campaign_pairs_open_slots")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_campaign_pairs_campaign_id"),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_campaign_pairs_pair_id"),
        sa.PrimaryKeyConstraint("id", name="pk_campaign_pairs"),
        sa.UniqueConstraint("campaign_id", "pair_id", name="uq_campaign_pairs_campaign_id_pair_id"),
    )
    op.create_index(
        "ix_campaign_pairs_disputed",
        "campaign_pairs",
        ["campaign_id", "id"],
        sqlite_where=sa.text("disputed"),
        postgresql_where=sa.text("disputed"),
    )
    op.create_index(
        "ix_campaign_pairs_gold",
        "campaign_pairs",
        ["campaign_id", "position", "id"],
        sqlite_where=sa.text("is_gold"),
        postgresql_where=sa.text("is_gold"),
    )
    op.create_index("ix_campaign_pairs_pair", "campaign_pairs", ["pair_id"])
    op.create_index(
        "ix_campaign_pairs_queue",
        "campaign_pairs",
        ["campaign_id", "position", "id"],
        sqlite_where=sa.text("open_slots > 0 AND state = 'open' AND NOT is_gold"),
        postgresql_where=sa.text("open_slots > 0 AND state = 'open' AND NOT is_gold"),
    )
    op.create_table(
        "guidelines",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("author_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_guidelines_author_id"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_guidelines_campaign_id"),
        sa.PrimaryKeyConstraint("id", name="pk_guidelines"),
        sa.UniqueConstraint("campaign_id", "version", name="uq_guidelines_campaign_id_version"),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("annotator_id", sa.Integer(), nullable=False),
        sa.Column("standing", sa.String(16), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("cursor_position", sa.BigInteger(), nullable=False),
        sa.Column("cursor_id", sa.Integer(), nullable=False),
        sa.Column("gold_cursor_position", sa.BigInteger(), nullable=False),
        sa.Column("gold_cursor_id", sa.Integer(), nullable=False),
        sa.Column("repeat_cursor", sa.Integer(), nullable=False),
        sa.Column("order_version", sa.Integer(), nullable=False),
        sa.Column("served", sa.Integer(), nullable=False),
        sa.Column("labels", sa.Integer(), nullable=False),
        sa.Column("skips", sa.Integer(), nullable=False),
        sa.Column("flags", sa.Integer(), nullable=False),
        sa.Column("decided", sa.Integer(), nullable=False),
        sa.Column("left_choices", sa.Integer(), nullable=False),
        sa.Column("ties", sa.Integer(), nullable=False),
        sa.Column("gold_total", sa.Integer(), nullable=False),
        sa.Column("gold_right", sa.Integer(), nullable=False),
        sa.Column("repeat_total", sa.Integer(), nullable=False),
        sa.Column("repeat_same", sa.Integer(), nullable=False),
        sa.Column("compared", sa.Integer(), nullable=False),
        sa.Column("agreed", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("standing IN ('qualifying', 'active', 'failed')", name=op.f("ck_members_standing")),
        sa.ForeignKeyConstraint(["annotator_id"], ["users.id"], name="fk_members_annotator_id"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_members_campaign_id"),
        sa.PrimaryKeyConstraint("id", name="pk_members"),
        sa.UniqueConstraint("campaign_id", "annotator_id", name="uq_members_campaign_id_annotator_id"),
    )
