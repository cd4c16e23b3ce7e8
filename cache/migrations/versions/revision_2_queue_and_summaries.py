"""Runs have a place in a queue and a curve of their own; results have a summary, so that many are compared at once."""

from __future__ import annotations

import platform

import sqlalchemy as sa
from alembic import op

from cache.record import RecordError, parse_record
from cache.summary import head_json, summary_line

revision = "trimboard_2"
down_revision = "trimboard_1"

# So many results are in memory at once; one is some 30 KB of JSON.
BATCH = 200


def upgrade() -> None:
    _widen_runs()
    op.create_table(
        "epochs",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("payload", sa.Text, nullable=False),
        # The queue was there for some days before revisions were.
        if_not_exists=True,
    )
    op.add_column("records", sa.Column("head", sa.Text))
    op.create_table(
        "summaries",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("data", sa.String, nullable=False),
        sa.Column("architecture", sa.String, nullable=False),
        sa.Column("provenance", sa.String, nullable=False),
        sa.Column("level", sa.Integer),
        sa.Column("created", sa.String, nullable=False),
        sa.Column("line", sa.Text, nullable=False),
    )
    kind = ["model", "data", "architecture", "provenance", "level", "created"]
    op.create_index("ix_summaries_kind", "summaries", kind)
    op.create_index("ix_summaries_data", "summaries", ["data"])
    _summarise()


def _summarise() -> None:
    """Write what new results are written with; those that cannot be read stay as they are, and are counted as such."""
    connection = op.get_bind()
    records = sa.table("records", *map(sa.column, ("key", "payload", "head")))
    columns = ("key", "model", "data", "architecture", "provenance", "level", "created", "line")
    summaries = sa.table("summaries", *map(sa.column, columns))
    keys = list(connection.scalars(sa.select(records.c.key)))
    for start in range(0, len(keys), BATCH):
        chosen = records.c.key.in_(keys[start : start + BATCH])
        lines = []
        for row in connection.execute(sa.select(records).where(chosen)).all():
            try:
                record = parse_record(row.payload)
                line = summary_line(record)
            except RecordError:
                continue
            connection.execute(sa.update(records).where(records.c.key == row.key).values(head=head_json(record)))
            own = {name: getattr(record, name) for name in columns if name != "line"}
            lines.append({**own, "key": row.key, "line": line})
        if lines:
            connection.execute(sa.insert(summaries), lines)


def _widen_runs() -> None:
    """Make the table anew: SQLite adds no column without a default, and PostgreSQL would keep the default."""
    rows = op.get_bind().execute(sa.text("SELECT * FROM runs")).mappings().all()
    op.drop_table("runs")
    runs = op.create_table(
        "runs",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("state", sa.String, nullable=False, index=True),
        sa.Column("position", sa.Float, nullable=False),
        sa.Column("lanes", sa.String, nullable=False),
        sa.Column("executor", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process_started", sa.Float, nullable=False),
        sa.Column("memory_mb", sa.Float, nullable=False),
        sa.Column("progress", sa.Text, nullable=False),
        sa.Column("queued", sa.String, nullable=False),
        sa.Column("started", sa.String, nullable=False),
        sa.Column("updated", sa.String, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("log_file", sa.String, nullable=False),
    )
    # There was no queue, and the database was a file of the machine that opens it now.
    added = {
        "request": "",
        "position": 0.0,
        "lanes": "",
        "executor": "local",
        "host": platform.node(),
        "memory_mb": 0.0,
    }
    op.bulk_insert(runs, [{**added, "queued": row["started"], **row} for row in rows])
