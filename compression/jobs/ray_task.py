"""A run on a node of a Ray cluster: a process of its own, beside the one that Ray keeps for its task.

So it is the same process as on one machine, with nothing of Ray's threads and signal handlers in it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace

from cache import processes
from cache.queue import RunQueue, UnknownRunError
from cache.record import RunState
from cache.store import own_store
from compression.jobs.execute import execute
from compression.jobs.shared_model import fetch_model
from compression.process import python_process
from compression.request import RunRequest

# A node that Ray has lost may still work for a minute (`gcs_rpc_server_reconnect_timeout_s`) before it ends its own
# processes; the run is not taken from them before that. Twice that, and the run is theirs.
PATIENCE_S = 120.0
LOOK_EVERY_S = 1.0
# How often the run looks whether Ray's process is still there.
LOOK_FOR_PARENT_EVERY_S = 0.5


class RunDiedError(Exception):
    """A run's process ended without a word; another one may go on with it."""


def work(key: str) -> None:
    """Ray's task: do a run, unless it is over or another living process has it.

    Args:
        key: the run's.

    Raises:
        RunDiedError: its process was killed.
    """
    import ray

    # Ray hides all other GPUs, and those that are left are counted from 0.
    device = ",".join(str(index) for index, _ in enumerate(ray.get_gpu_ids())) or "cpu"
    node = ray.get_runtime_context().get_node_id()
    sys.stderr.write(f"[trimboard] Ray node {node} on {ray.util.get_node_ip_address()}, device {device}\n")
    queue = own_store().queue
    _await_turn(queue, key)
    process = python_process("-P", "-m", "compression.jobs.ray_task", key, device, output=1, errors=2)
    started = processes.started_at(process.pid)
    try:
        process.wait()
    finally:
        # Ray raises an error here when the job is stopped.
        processes.end(process.pid, started)
    if _state(queue, key) == "interrupted":
        raise RunDiedError(f"The run's process ended with exit code {process.returncode}.")


def run_here(key: str, device: str) -> None:
    """Do a run in this process, which ends with the one that started it.

    Args:
        key: the run's.
        device: Ultralytics' device string.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), name="end-with-ray", daemon=True).start()

    def as_here(request: RunRequest) -> RunRequest:
        _keep_to_own_cores()
        _print_lines()
        return fetch_model(replace(request, device=device))

    execute(key, as_here=as_here)


def _end_with(parent: int) -> None:
    """End this process and all that it started once its parent is gone, for instance because the node was stopped."""
    while os.getppid() == parent:
        time.sleep(LOOK_FOR_PARENT_EVERY_S)
    processes.end(os.getpid(), processes.started_at(os.getpid()))


def _await_turn(queue: RunQueue, key: str) -> None:
    """Wait while an earlier process of the same run gives signs of life, on a node that Ray has given up."""
    deadline = time.monotonic() + PATIENCE_S
    while _state(queue, key) == "running" and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)


def _state(queue: RunQueue, key: str) -> RunState | None:
    try:
        return queue.find(key).state
    except UnknownRunError:
        return None


def _keep_to_own_cores() -> None:
    """Let Ultralytics use as many threads as Ray set aside; by itself it takes what the node has."""
    from ultralytics.utils import torch_utils

    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdigit():
        torch_utils.NUM_THREADS = int(stated)


def _print_lines() -> None:
    """Let Ultralytics' bars be a line at their end and each minute, as in any log that is no terminal.

    Redrawn ten times a second, each would travel through Ray to the head, which takes 3% of a core for two runs.
    """
    from ultralytics.utils import tqdm

    tqdm.is_noninteractive_console = _always


def _always() -> bool:
    return True


if __name__ == "__main__":
    run_here(*sys.argv[1:])
