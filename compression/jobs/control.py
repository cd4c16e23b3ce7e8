"""What a user does to a run besides asking for it: cancel it, resume it."""

from __future__ import annotations

from cache import processes
from cache.queue import RunQueue, this_host
from compression.jobs.worker import ensure_worker


def cancel(queue: RunQueue, key: str) -> None:
    """End a run, or take it out of the queue; whole epochs that it has behind it are kept.

    Raises:
        UnknownRunError: there is no such run, or it is over.
    """
    status = queue.cancel(key)
    if status.state == "running" and status.host == this_host():
        processes.end(status.pid, status.process_started)


def resume(queue: RunQueue, key: str) -> None:
    """Queue a run that ended without a result, and see that somebody works on it.

    Raises:
        UnknownRunError: there is no such run, or it cannot be resumed.
    """
    status = queue.resume(key)
    if status.executor == "local":
        ensure_worker()
