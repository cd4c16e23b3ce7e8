"""Latencies are kept, and the comparison tells the steps that channel counts were rounded to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from cache.record import RecordError, parse_record
from cache.summary import summary_line

revision = "trimboard_3"
down_revision = "trimboard_2"

# So many results are in memory at once; one is some 30 KB of JSON.
BATCH = 200


def upgrade() -> None:
    op.create_table(
        "latencies",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("weights_sha256", sa.String, nullable=False, index=True),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )
    _write_lines_again()


def _write_lines_again() -> None:
    """The line of each result that had one, with the columns of today."""
    connection = op.get_bind()
    records = sa.table("records", *map(sa.column, ("key", "payload")))
    summaries = sa.table("summaries", *map(sa.column, ("key", "line")))
    keys = list(connection.scalars(sa.select(summaries.c.key)))
    for start in range(0, len(keys), BATCH):
        chosen = records.c.key.in_(keys[start : start + BATCH])
        for row in connection.execute(sa.select(records).where(chosen)).all():
            own = summaries.c.key == row.key
            try:
                line = summary_line(parse_record(row.payload))
            except RecordError:
                # Without a line it is counted as what cannot be read.
                connection.execute(sa.delete(summaries).where(own))
                continue
            connection.execute(sa.update(summaries).where(own).values(line=line))
