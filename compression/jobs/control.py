"""What a user does to a run besides asking for it: cancel it, resume it."""

from __future__ import annotations

from contextlib import suppress

from cache import processes
from cache.queue import RunQueue, this_host
from compression.errors import TrimboardError
from compression.jobs.local import run_log
from compression.jobs.ray_cluster import ClusterError, RayCluster, open_cluster
from compression.jobs.worker import ensure_worker


def cancel(queue: RunQueue, key: str) -> None:
    """End a run, or take it out of the queue; whole epochs that it has behind it are kept.

    Raises:
        UnknownRunError: there is no such run, or it is over.
    """
    status = queue.cancel(key)
    if status.state == "running" and status.host == this_host():
        processes.end(status.pid, status.process_started)
    if status.executor == "ray":
        # Without the cluster the run sees by itself that it is cancelled.
        with suppress(ClusterError):
            open_cluster().stop(status)


def resume(queue: RunQueue, key: str) -> None:
    """Queue a run that ended without a result, and see that somebody works on it.

    Raises:
        UnknownRunError: there is no such run, or it cannot be resumed.
        ClusterError: it ran on a cluster, which is away or has no more what the run needs.
    """
    if queue.find(key).executor == "local":
        queue.resume(key, log_file=str(run_log(key)))
        ensure_worker()
        return
    cluster = open_cluster()
    # Ray may be about to start an interrupted run again; one job of it is enough.
    cluster.stop(queue.find(key))
    queue.resume(key)
    send(cluster, queue, key)


def send(cluster: RayCluster, queue: RunQueue, key: str) -> None:
    """Send a queued run to its cluster; one that is refused there does not stay queued.

    Raises:
        ClusterError: the cluster refuses it.
    """
    try:
        cluster.start(queue.find(key))
    except TrimboardError:
        queue.cancel(key)
        raise
