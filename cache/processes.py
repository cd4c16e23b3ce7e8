"""Whether a process that was noted earlier still lives. An id alone may belong to a later process."""

from __future__ import annotations

from contextlib import suppress

import psutil

# A process's start is computed from the wall clock at boot, which time synchronisation moves a little; a process id
# is not given twice within this time.
SAME_START_S = 60.0

# How long a process is given to end by itself; a training that is deep in a computation does not hear before its end.
PATIENCE_S = 1.5


def started_at(pid: int) -> float:
    """When a process started, seconds since 1970; 0 where it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def end(pid: int, started: float) -> None:
    """End a process and all that it started; kindly at first, and by force after that.

    Args:
        pid: the process; one that is gone, or another one under its id, is left alone.
        started: when it started, see `started_at`.
    """
    if not is_alive(pid, started):
        return
    tree = _tree(pid)
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(tree, timeout=PATIENCE_S)
    # What was started in the meantime is ended too.
    for process in {*left, *(child for each in left for child in _tree(each.pid))}:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=PATIENCE_S)


def _tree(pid: int) -> list[psutil.Process]:
    """A process and all that it started, directly or not."""
    try:
        process = psutil.Process(pid)
        return [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return []


def is_alive(pid: int, started: float) -> bool:
    """Whether the process that started then under that id still works; one that only waits to be reaped does not."""
    try:
        process = psutil.Process(pid)
        is_same = abs(process.create_time() - started) < SAME_START_S
        return bool(is_same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        # Gone, or of another user and so not the one that was noted.
        return False
