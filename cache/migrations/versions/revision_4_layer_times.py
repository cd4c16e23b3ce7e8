"""Times of layers are kept, and the comparison tells the latency that was asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cache.migrations.versions.revision_3_latencies import _write_lines_again

revision = "trimboard_4"
down_revision = "trimboard_3"


def upgrade() -> None:
    op.create_table(
        "layer_times",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("subject", sa.String, nullable=False, index=True),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
    # Anew, for columns that revision 3 did not know where it ran earlier.
    _write_lines_again()
