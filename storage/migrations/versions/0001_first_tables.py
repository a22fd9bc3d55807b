"""Videos, pairs, judgements, votes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create videos, pairs, judgements and votes."""
    op.create_table(
        "videos",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("public_id", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("original_name", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("fps", sa.Double(), nullable=False),
        sa.Column("duration", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_videos"),
        sa.UniqueConstraint("public_id", name="uq_videos_public_id"),
        sa.UniqueConstraint("sha256", name="uq_videos_sha256"),
    )
    op.create_table(
        "pairs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("video_a_id", sa.Integer(), nullable=False),
        sa.Column("video_b_id", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("prompt_hash", sa.String(64), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pairs"),
        sa.ForeignKeyConstraint(["video_a_id"], ["videos.id"], name="fk_pairs_video_a_id"),
        sa.ForeignKeyConstraint(["video_b_id"], ["videos.id"], name="fk_pairs_video_b_id"),
        sa.UniqueConstraint("video_a_id", "video_b_id", "prompt_hash", name="uq_pairs_video_a_id_video_b_id_prompt_hash"),
    )
    op.create_index("ix_pairs_source", "pairs", ["source"])
    op.create_table(
        "judgements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("video_id", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("prompt_hash", sa.String(64), nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("thought", sa.Text(), nullable=False),
        sa.Column("sub_scores", sa.JSON(), nullable=True),
        sa.Column("overall_score", sa.Double(), nullable=True),
        sa.Column("parse_note", sa.Text(), nullable=True),
        sa.Column("strict_format", sa.Boolean(), nullable=False),
        sa.Column("reward", sa.Double(), nullable=True),
        sa.Column("standardised_reward", sa.Double(), nullable=True),
        sa.Column("reward_spread", sa.Double(), nullable=True),
        sa.Column("sub_score_votes", sa.JSON(), nullable=True),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_judgements"),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name="fk_judgements_video_id"),
        sa.UniqueConstraint("video_id", "prompt_hash", "fingerprint", "mode", "k", "seed", name="uq_judgements_question"),
        sa.CheckConstraint("mode IN ('think', 'quick', 'k')", name=op.f("ck_judgements_mode")),
    )
    op.create_table(
        "votes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("choice", sa.String(8), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("voter", sa.String(64), nullable=False),
        sa.Column("left_video", sa.String(1), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("replaces_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_votes"),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_votes_pair_id"),
        sa.ForeignKeyConstraint(["replaces_id"], ["votes.id"], name="fk_votes_replaces_id"),
        sa.UniqueConstraint("replaces_id", name="uq_votes_replaces_id"),
        sa.UniqueConstraint("token", name="uq_votes_token"),
        sa.CheckConstraint("choice IN ('A', 'B', 'tie', 'both_bad')", name=op.f("ck_votes_choice")),
        sa.CheckConstraint("left_video IN ('A', 'B')", name=op.f("ck_votes_left_video")),
    )
    op.create_index("ix_votes_pair_id_voter", "votes", ["pair_id", "voter"])
