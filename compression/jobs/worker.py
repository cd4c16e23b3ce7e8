"""What empties this machine's queue: a process that starts one run at a time on each device, until none is left.

It keeps nothing to itself. Which runs wait and which are at work stands in the store, so it can be killed and started
again at any moment; a run that it started goes on without it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from cache.queue import RunQueue, this_host
from cache.record import RunStatus
from cache.store import own_store
from compression.home import home
from compression.jobs.local import append_to
from compression.process import python_process

LOOK_EVERY_S = 0.25
# How long it stays without work: a sweep that is being queued comes in pieces.
IDLE_S = 10.0
LOG_FILE = "worker.log"


def is_at_work() -> bool:
    """Whether a worker of this machine is at work."""
    try:
        with _lock().acquire(timeout=0):
            return False
    except Timeout:
        return True


def ensure_worker() -> None:
    """Start a worker for this machine, unless one is at work.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    if is_at_work():
        return
    with append_to(home() / "logs" / LOG_FILE) as log:
        python_process("-m", "compression", "worker", output=log)


def work(*, stay: bool = False) -> None:
    """Start queued runs as their devices become free, until none is left.

    Args:
        stay: wait for further runs, as a service does.

    Where another worker is at work on this machine there is nothing to do.
    """
    queue = own_store().queue
    # Whoever looks whether a worker is at work holds the lock for a moment.
    patience = 1.0
    # Looked at once more behind the lock: a run that was queued while it was let go found a worker, and started none.
    while stay or _has_work(queue):
        try:
            with _lock().acquire(timeout=patience):
                _empty(queue, stay=stay)
        except Timeout:
            return


def _empty(queue: RunQueue, *, stay: bool) -> None:
    started: list[subprocess.Popen[bytes]] = []
    last_work = time.monotonic()
    while stay or time.monotonic() - last_work < IDLE_S:
        runs = queue.runs()
        if any(is_ours(run) for run in runs):
            last_work = time.monotonic()
        started += filter(None, [_start(queue, run) for run in startable(runs)])
        # Whoever started a process has to take note of its end.
        started = [process for process in started if process.poll() is None]
        time.sleep(LOOK_EVERY_S)


def startable(runs: list[RunStatus]) -> list[RunStatus]:
    """The queued runs of this machine whose devices are free, in their order.

    A run that has to wait does not hold up those behind it, unless they want the same device.

    Args:
        runs: as the queue gives them.
    """
    taken = {lane for run in runs if run.state == "running" and run.host == this_host() for lane in _lanes(run)}
    chosen = []
    for run in runs:
        if run.state == "queued" and is_ours(run):
            if not taken & _lanes(run):
                chosen.append(run)
            taken |= _lanes(run)
    return chosen


def _lanes(run: RunStatus) -> set[str]:
    return set(run.lanes.split(","))


def is_ours(run: RunStatus) -> bool:
    """Whether a run is at work on this machine or waits for it: a worker elsewhere, or a cluster, has the others."""
    return run.executor == "local" and run.host == this_host() and run.state in ("queued", "running")


def _has_work(queue: RunQueue) -> bool:
    return any(run.state == "queued" and is_ours(run) for run in queue.runs())


def _start(queue: RunQueue, run: RunStatus) -> subprocess.Popen[bytes] | None:
    """The process of a run; None where it cannot be started, which must not hold up those behind it."""
    try:
        with append_to(Path(run.log_file)) as log:
            process = python_process("-m", "compression.jobs.execute", run.key, output=log)
    except OSError as error:
        if queue.take(run.key, pid=os.getpid()):
            queue.end(run.key, "failed", f"It cannot be started here ({error}); mend that and resume the run.")
        return None
    queue.take(run.key, pid=process.pid)
    return process


def _lock() -> FileLock:
    # The machines of a cluster may share the data folder, and each has a queue of its own.
    return FileLock(home() / f"worker-{this_host()}.lock")


if __name__ == "__main__":
    work(stay="--stay" in sys.argv)
