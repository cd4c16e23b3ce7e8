"""One queued run, in a process of its own: `python -m compression.jobs.execute KEY`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace

from cache.queue import RunQueue
from cache.record import RunStatus
from cache.store import own_store
from compression.errors import TrimboardError
from compression.jobs.local import write_progress
from compression.life import SignsOfLife
from compression.request import RunRequest

CHANGED = "The data set, the weights or this program changed since the run was queued; queue it anew."


def as_typed(request: RunRequest) -> RunRequest:
    """The request for the machine where it was typed."""
    return request


def execute(key: str, *, as_here: Callable[[RunRequest], RunRequest] = as_typed) -> None:
    """Take a run from the queue, do it, and note how it ended.

    Args:
        key: the run's; one that is not queued any more is left alone.
        as_here: makes of the request what it has to be on this machine: its device, the path of its model.
    """
    queue = own_store().queue
    if not queue.take(key, pid=os.getpid()):
        return
    try:
        _answer(queue, queue.find(key), as_here)
    except TrimboardError as error:
        queue.end(key, "failed", str(error))
        sys.stderr.write(f"trimboard: {error}\n")
    except KeyboardInterrupt:
        queue.end(key, "interrupted", "Interrupted. Resume the run: it goes on from its last whole epoch.")
    except BaseException as error:
        queue.end(key, "failed", f"{type(error).__name__}: {error}".split("\n", 1)[0])
        raise


def _answer(queue: RunQueue, status: RunStatus, as_here: Callable[[RunRequest], RunRequest]) -> None:
    assert status.request is not None
    # Other machines take a silent run for interrupted, and to import torch and look through a data set takes its time.
    with SignsOfLife(status.key, status.request.device):
        from compression.pipeline import open_request, run

        question = open_request(as_here(status.request), tell=write_progress)
    if question.spec.key != status.key:
        raise TrimboardError(CHANGED)
    # As typed, the run can be resumed on another machine.
    run(replace(question, request=status.request), log_file=status.log_file, tell=write_progress)
    # A result that was stored in the meantime is given back without a word to the queue.
    queue.end(status.key, "done")


if __name__ == "__main__":
    execute(sys.argv[1])
