"""The tables of the database. Whoever changes one adds a revision to `cache.migrations`, and raises REVISION."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text

# The form of the database that this program reads and writes: the last of the revisions.
REVISION = 7

metadata = MetaData()

# One result a row. `payload` is the record as JSON, `head` the same without layers and curve; NULL where the record
# could not be read when it was written.
records_table = Table(
    "records",
    metadata,
    Column("key", String, primary_key=True),
    Column("model", String, nullable=False, index=True),
    Column("data", String, nullable=False, index=True),
    Column("level", Integer, index=True),
    Column("created", String, nullable=False, index=True),
    Column("payload", Text, nullable=False),
    Column("head", Text),
)

# The row of each readable result in the comparison, see `cache.summary`. Apart from the records, because a table of
# short rows is read ten times as fast as one that holds texts of 30 KB too.
summaries_table = Table(
    "summaries",
    metadata,
    Column("key", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("data", String, nullable=False),
    Column("architecture", String, nullable=False),
    Column("provenance", String, nullable=False),
    Column("level", Integer),
    Column("created", String, nullable=False),
    Column("line", Text, nullable=False),
    # Holds all that an overview groups by, so that it reads no lines.
    Index("ix_summaries_kind", "model", "data", "architecture", "provenance", "level", "created"),
    Index("ix_summaries_data", "data"),
)

# Plans, and the cost sheets that pages count other cuts with, each by a key of its own kind.
plans_table = Table(
    "plans",
    metadata,
    Column("key", String, primary_key=True),
    Column("payload", Text, nullable=False),
)

# One measured latency a row; `payload` is the record as JSON.
latencies_table = Table(
    "latencies",
    metadata,
    Column("key", String, primary_key=True),
    Column("weights_sha256", String, nullable=False, index=True),
    Column("created", String, nullable=False),
    Column("payload", Text, nullable=False),
)

# Times of the layers of one model in several forms a row; `payload` is the record as JSON.
layer_times_table = Table(
    "layer_times",
    metadata,
    Column("key", String, primary_key=True),
    Column("subject", String, nullable=False, index=True),
    Column("created", String, nullable=False),
    Column("payload", Text, nullable=False),
)

# One measured accuracy of a deployed form a row; `payload` is the record as JSON.
accuracies_table = Table(
    "accuracies",
    metadata,
    Column("key", String, primary_key=True),
    Column("weights_sha256", String, nullable=False, index=True),
    Column("created", String, nullable=False),
    Column("payload", Text, nullable=False),
)

# Sensitivities of the layers of one checkpoint a row; `payload` is the record as JSON.
sensitivities_table = Table(
    "sensitivities",
    metadata,
    Column("key", String, primary_key=True),
    Column("weights_sha256", String, nullable=False, index=True),
    Column("created", String, nullable=False),
    Column("payload", Text, nullable=False),
)

runs_table = Table(
    "runs",
    metadata,
    Column("key", String, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("position", Float, nullable=False),
    Column("lanes", String, nullable=False),
    Column("executor", String, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", Float, nullable=False),
    Column("memory_mb", Float, nullable=False),
    Column("progress", Text, nullable=False),
    Column("queued", String, nullable=False),
    Column("started", String, nullable=False),
    Column("updated", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("log_file", String, nullable=False),
)

epochs_table = Table(
    "epochs",
    metadata,
    Column("key", String, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("payload", Text, nullable=False),
)
