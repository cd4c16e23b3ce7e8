"""The comparison tells what a model is for, and what was wished of single layers."""

from __future__ import annotations

from cache.migrations.versions.revision_3_latencies import _write_lines_again

revision = "trimboard_7"
down_revision = "trimboard_6"


def upgrade() -> None:
    _write_lines_again()
