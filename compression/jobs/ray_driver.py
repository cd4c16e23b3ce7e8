"""What a run's Ray job does on the cluster: `python -m compression.jobs.ray_driver KEY RESOURCES`.

The job itself is light and sits on the head. It hands Ray one task with the resources that the run needs, which Ray
starts on whichever node is free. If that node dies, Ray gives the task to another one.
"""

from __future__ import annotations

import os
import sys
import tempfile

from cache.store import own_store
from compression.jobs.ray_task import RunDiedError, work
from compression.jobs.resources import CPU, GPU, parse_resources

# How often Ray starts a run again, there or on another node, after its process died.
RETRIES = 3


def main(key: str, resources: str) -> None:
    """Have a run done, and wait for it.

    Args:
        key: the run's.
        resources: what its process needs, see `parse_resources`.
    """
    import ray

    # Ray puts the current folder on the path of the nodes, and the head may have been started in an old checkout.
    os.chdir(tempfile.gettempdir())
    ray.init(logging_level="WARNING")
    stated = parse_resources(resources)
    task = ray.remote(
        num_cpus=stated.pop(CPU, 1),
        num_gpus=stated.pop(GPU, 0),
        resources=stated,
        max_retries=RETRIES,
        retry_exceptions=[RunDiedError],
    )(work)
    try:
        ray.get(task.options(name="trimboard").remote(key))
    except Exception as error:
        _note(key, error)
        raise


def _note(key: str, error: Exception) -> None:
    """Note why a run was given up, unless it has noted an end itself, or another process has it."""
    queue = own_store().queue
    if queue.take(key, pid=os.getpid()):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        queue.end(key, "failed", f"Ray gave the run up: {lines[-1]}")


if __name__ == "__main__":
    # Under its own name, so that the nodes import the task instead of getting a copy of it.
    from compression.jobs.ray_driver import main as drive

    drive(*sys.argv[1:])
