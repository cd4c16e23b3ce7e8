"""Whether a process that was noted earlier still lives. An id alone may belong to a later process."""

from __future__ import annotations

import psutil

# A process's start is computed from the wall clock at boot, which time synchronisation moves a little; a process id
# is not given twice within this time.
SAME_START_S = 60.0


def started_at(pid: int) -> float:
    """When a process started, seconds since 1970; 0 where it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def is_alive(pid: int, started: float) -> bool:
    """Whether the process that started then under that id still works; one that only waits to be reaped does not."""
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) < SAME_START_S
        return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        # Gone, or of another user and so not the one that was noted.
        return False
