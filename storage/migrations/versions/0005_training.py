"""Checkpoints, promotions, runs with their data, scores of other models, facts of videos; judgements by checkpoint."""

import sqlalchemy as sa
from alembic import op

from storage.migrations.append_only import make_append_only

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_RUN_OF_CHECKPOINT = "fk_checkpoints_run_id"


def upgrade() -> None:
    """Create checkpoints, promotions, runs, external scores and video facts."""
    _checkpoints()
    _runs()
    _measured()
    op.create_index("ix_judgements_fingerprint", "judgements", ["fingerprint", "mode"])
    for table in ("promotions", "run_pairs"):
        make_append_only(table)


def _checkpoints() -> None:
    # SQLite takes a foreign key to a table that is not there yet, and can't add one later; PostgreSQL the other way round.
    sqlite = op.get_bind().dialect.name == "sqlite"
    of_run = [sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=_RUN_OF_CHECKPOINT)] if sqlite else []
    op.create_table(
        "checkpoints",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(128), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("stage", sa.String(16), nullable=True),
        sa.Column("snapshot_hash", sa.String(64), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("gate", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["checkpoints.id"], name="fk_checkpoints_parent_id"),
        *of_run,
        sa.PrimaryKeyConstraint("id", name="pk_checkpoints"),
        sa.UniqueConstraint("fingerprint", name="uq_checkpoints_fingerprint"),
        sa.UniqueConstraint("name", name="uq_checkpoints_name"),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("checkpoint_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action IN ('start', 'promote', 'automatic', 'roll_back')", name=op.f("ck_promotions_action")),
        sa.ForeignKeyConstraint(["by_id"], ["users.id"], name="fk_promotions_by_id"),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name="fk_promotions_checkpoint_id"),
        sa.PrimaryKeyConstraint("id", name="pk_promotions"),
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("stages", sa.JSON(), nullable=False),
        sa.Column("start", sa.String(8), nullable=False),
        sa.Column("parent_id", sa.Integer(), nullable=True),
        sa.Column("rival_id", sa.Integer(), nullable=True),
        sa.Column("preset", sa.String(100), nullable=False),
        sa.Column("overrides", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("device", sa.String(32), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("snapshot_hash", sa.String(64), nullable=True),
        sa.Column("last_label_id", sa.Integer(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("auto_promote", sa.Boolean(), nullable=False),
        sa.Column("created_by_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("candidate_id", sa.Integer(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('train', 'score')", name=op.f("ck_runs_kind")),
        sa.CheckConstraint("start IN ('current', 'base')", name=op.f("ck_runs_start")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'finished', 'failed', 'cancelled', 'lost')", name=op.f("ck_runs_state")
        ),
        sa.ForeignKeyConstraint(["candidate_id"], ["checkpoints.id"], name="fk_runs_candidate_id"),
        sa.ForeignKeyConstraint(["created_by_id"], ["users.id"], name="fk_runs_created_by_id"),
        sa.ForeignKeyConstraint(["parent_id"], ["checkpoints.id"], name="fk_runs_parent_id"),
        sa.ForeignKeyConstraint(["rival_id"], ["checkpoints.id"], name="fk_runs_rival_id"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_state", "runs", ["state", "device"])
    if op.get_bind().dialect.name != "sqlite":
        op.create_foreign_key(_RUN_OF_CHECKPOINT, "checkpoints", "runs", ["run_id"], ["id"])
    op.create_table(
        "run_pairs",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("part", sa.String(8), nullable=False),
        sa.Column("identity", sa.String(64), nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("strength", sa.Double(), nullable=False),
        sa.Column("sub_scores", sa.JSON(), nullable=False),
        sa.Column("label_ids", sa.JSON(), nullable=False),
        sa.CheckConstraint("label IN (-1, 0, 1)", name=op.f("ck_run_pairs_label")),
        sa.CheckConstraint("part IN ('new', 'replay', 'held_out')", name=op.f("ck_run_pairs_part")),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_run_pairs_pair_id"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_pairs_run_id"),
        sa.PrimaryKeyConstraint("run_id", "pair_id", name="pk_run_pairs"),
    )


def _measured() -> None:
    op.create_table(
        "external_scores",
        sa.Column("scorer", sa.String(100), nullable=False),
        sa.Column("pair_id", sa.Integer(), nullable=False),
        sa.Column("reward_a", sa.Double(), nullable=False),
        sa.Column("reward_b", sa.Double(), nullable=False),
        sa.Column("sub_scores", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["pair_id"], ["pairs.id"], name="fk_external_scores_pair_id"),
        sa.PrimaryKeyConstraint("scorer", "pair_id", name="pk_external_scores"),
    )
    op.create_table(
        "video_facts",
        sa.Column("video_id", sa.Integer(), nullable=False),
        sa.Column("sharpness", sa.Double(), nullable=False),
        sa.Column("brightness", sa.Double(), nullable=False),
        sa.Column("motion", sa.Double(), nullable=False),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["videos.id"], name="fk_video_facts_video_id"),
        sa.PrimaryKeyConstraint("video_id", name="pk_video_facts"),
    )
