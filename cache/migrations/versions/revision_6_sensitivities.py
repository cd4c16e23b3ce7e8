"""Sensitivities of layers are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "trimboard_6"
down_revision = "trimboard_5"


def upgrade() -> None:
    op.create_table(
        "sensitivities",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("weights_sha256", sa.String, nullable=False, index=True),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
