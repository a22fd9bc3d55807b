"""Assignments, drafts and append-only labels; votes become append-only in the database too."""

import sqlalchemy as sa
from alembic import op

from storage.migrations.append_only import make_append_only

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create assignments, drafts and labels."""
    op.create_table(
        "assignments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("campaign_pair_id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("annotator_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("left_video", sa.String(1), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("guideline_version", sa.Integer(), nullable=False),
        sa.Column("leased_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revealed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('work', 'repeat', 'gold', 'qualification', 'adjudication', 'import')", name=op.f("ck_assignments_kind")
        ),
        sa.CheckConstraint("left_video IN ('A', 'B')", name=op.f("ck_assignments_left_video")),
        sa.CheckConstraint(
            "state IN ('leased', 'labelled', 'skipped', 'flagged', 'returned')", name=op.f("ck_assignments_state")
        ),
        sa.ForeignKeyConstraint(["annotator_id"], ["users.id"], name="fk_assignments_annotator_id"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_assignments_campaign_id"),
        sa.ForeignKeyConstraint(["campaign_pair_id"], ["campaign_pairs.id"], name="fk_assignments_campaign_pair_id"),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_assignments_pair_id"),
        sa.PrimaryKeyConstraint("id", name="pk_assignments"),
        sa.UniqueConstraint(
            "campaign_pair_id", "annotator_id", "round", name="uq_assignments_campaign_pair_id_annotator_id_round"
        ),
        sa.UniqueConstraint("token", name="uq_assignments_token"),
    )
    op.create_index("ix_assignments_annotator", "assignments", ["campaign_id", "annotator_id", "id"])
    op.create_index("ix_assignments_finished", "assignments", ["campaign_id", "annotator_id", "finished_at"])
    op.create_index(
        "ix_assignments_open",
        "assignments",
        ["campaign_id", "annotator_id", "id"],
        sqlite_where=sa.text("state IN ('leased', 'returned')"),
        postgresql_where=sa.text("state IN ('leased', 'returned')"),
    )
    op.create_index(
        "ix_assignments_lease",
        "assignments",
        ["campaign_id", "expires_at"],
        sqlite_where=sa.text("state = 'leased'"),
        postgresql_where=sa.text("state = 'leased'"),
    )
    op.create_index(
        "ix_assignments_seconds",
        "assignments",
        ["campaign_id", "annotator_id", "seconds"],
        sqlite_where=sa.text("state = 'labelled'"),
        postgresql_where=sa.text("state = 'labelled'"),
    )
    op.create_table(
        "drafts",
        sa.Column("assignment_id", sa.Integer(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name="fk_drafts_assignment_id"),
        sa.PrimaryKeyConstraint("assignment_id", name="pk_drafts"),
    )
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("assignment_id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("campaign_pair_id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("annotator_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(8), nullable=False),
        sa.Column("choice", sa.String(8), nullable=True),
        sa.Column("strength", sa.String(8), nullable=True),
        sa.Column("sub_scores", sa.JSON(), nullable=False),
        sa.Column("marks", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("left_video", sa.String(1), nullable=False),
        sa.Column("visible", sa.JSON(), nullable=False),
        sa.Column("guideline_version", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("playback", sa.JSON(), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("replaces_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(action = 'label') = (choice IS NOT NULL)", name=op.f("ck_labels_choice_of_label")),
        sa.CheckConstraint("action IN ('label', 'skip', 'flag', 'withdraw')", name=op.f("ck_labels_action")),
        sa.CheckConstraint("choice IN ('A', 'B', 'tie', 'both_bad')", name=op.f("ck_labels_choice")),
        sa.CheckConstraint("left_video IN ('A', 'B')", name=op.f("ck_labels_left_video")),
        sa.CheckConstraint("strength IN ('slightly', 'clearly')", name=op.f("ck_labels_strength")),
        sa.ForeignKeyConstraint(["annotator_id"], ["users.id"], name="fk_labels_annotator_id"),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name="fk_labels_assignment_id"),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_labels_campaign_id"),
        sa.ForeignKeyConstraint(["campaign_pair_id"], ["campaign_pairs.id"], name="fk_labels_campaign_pair_id"),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_labels_pair_id"),
        sa.ForeignKeyConstraint(["replaces_id"], ["labels.id"], name="fk_labels_replaces_id"),
        sa.PrimaryKeyConstraint("id", name="pk_labels"),
        sa.UniqueConstraint("annotator_id", "token", name="uq_labels_annotator_id_token"),
        sa.UniqueConstraint("replaces_id", name="uq_labels_replaces_id"),
    )
    op.create_index("ix_labels_assignment", "labels", ["assignment_id", "id"])
    op.create_index("ix_labels_campaign", "labels", ["campaign_id", "id"])
    op.create_index("ix_labels_campaign_pair", "labels", ["campaign_pair_id"])
    # ### end Alembic commands ###

    for table in ("labels", "votes"):
        make_append_only(table)
