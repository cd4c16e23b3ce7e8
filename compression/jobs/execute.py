"""One queued run, in a process of its own: `python -m compression.jobs.execute KEY`."""

from __future__ import annotations

import os
import sys

from cache.queue import RunQueue
from cache.record import RunStatus
from cache.store import own_store
from compression.errors import TrimboardError
from compression.jobs.local import write_progress

CHANGED = "The data set, the weights or this program changed since the run was queued; queue it anew."


def execute(key: str) -> None:
    """Take a run from the queue, do it, and note how it ended.

    Args:
        key: the run's; one that is not queued any more is left alone.
    """
    queue = own_store().queue
    if not queue.take(key, pid=os.getpid()):
        return
    try:
        _answer(queue, queue.find(key))
    except TrimboardError as error:
        queue.end(key, "failed", str(error))
        sys.stderr.write(f"trimboard: {error}\n")
    except KeyboardInterrupt:
        queue.end(key, "interrupted", "Interrupted. Resume the run: it goes on from its last whole epoch.")
    except BaseException as error:
        queue.end(key, "failed", f"{type(error).__name__}: {error}".split("\n", 1)[0])
        raise


def _answer(queue: RunQueue, status: RunStatus) -> None:
    # Torch comes with it: the run is noted as taken before those seconds.
    from compression.pipeline import open_request, run

    assert status.request is not None
    question = open_request(status.request, tell=write_progress)
    if question.spec.key != status.key:
        raise TrimboardError(CHANGED)
    run(question, log_file=status.log_file, tell=write_progress)
    # A result that was stored in the meantime is given back without a word to the queue.
    queue.end(status.key, "done")


if __name__ == "__main__":
    execute(sys.argv[1])
