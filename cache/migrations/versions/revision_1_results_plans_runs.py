"""Results, plans and runs of one user: the form of before there were revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "trimboard_1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "records",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("model", sa.String, nullable=False, index=True),
        sa.Column("data", sa.String, nullable=False, index=True),
        sa.Column("level", sa.Integer, index=True),
        sa.Column("created", sa.String, nullable=False, index=True),
        sa.Column("payload", sa.Text, nullable=False),
    )
    op.create_table(
        "plans",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("payload", sa.Text, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("progress", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process_started", sa.Float, nullable=False),
        sa.Column("started", sa.String, nullable=False, index=True),
        sa.Column("updated", sa.String, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("log_file", sa.String, nullable=False),
    )
