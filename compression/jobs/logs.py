"""The end of a run's log, wherever it runs. Imports neither torch nor Ray until a run of a cluster is asked for."""

from __future__ import annotations

from pathlib import Path

from cache.record import RunStatus
from compression.errors import TrimboardError
from compression.jobs.local import tail

N_LINES = 40


def log_tail(status: RunStatus, n_lines: int = N_LINES) -> list[str]:
    """The last lines that a run wrote; where a cluster keeps them and does not answer, the reason in one line.

    Args:
        status: the run.
        n_lines: at most so many.
    """
    if status.executor == "local":
        return tail(Path(status.log_file), n_lines) if status.log_file else []
    from compression.jobs.ray_cluster import open_cluster

    try:
        return open_cluster().log_tail(status, n_lines)
    except TrimboardError as error:
        return [str(error)]
