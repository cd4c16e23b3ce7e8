"""The comparison tells what was wished of single layers."""

from __future__ import annotations

from cache.migrations.versions.revision_3_latencies import _write_lines_again

revision = "trimboard_6"
down_revision = "trimboard_5"


def upgrade() -> None:
    _write_lines_again()
