"""Signs of life of a run, from a thread beside it: that it goes on, what it holds, and whether it still shall."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from itertools import count
from types import TracebackType

import psutil

from cache import processes
from cache.database import StoreError
from cache.store import own_store

EVERY_S = 2.0
# Looking through the processes of a machine takes longer than the sign itself.
SIGNS_PER_MEMORY = 5
MEGA = 1e6


class SignsOfLife:
    """While it lasts, the run's process tells every two seconds that it lives, and ends itself once it is cancelled.

    A run may be cancelled from a machine that cannot reach its process; so the process looks itself.

    Args:
        key: the run's.
        device: Ultralytics' device string, whose memory is told.
    """

    def __init__(self, key: str, device: str) -> None:
        self._key, self._device = key, device
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="signs-of-life", daemon=True)

    def __enter__(self) -> SignsOfLife:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _tell(self) -> None:
        held = 0.0
        for sign in count():
            if self._over.wait(EVERY_S):
                return
            if sign % SIGNS_PER_MEMORY == 0:
                held = memory_mb(self._device)
            wanted = True
            # A database that is away for a moment says nothing of the run.
            with suppress(StoreError):
                wanted = own_store().queue.give_sign_of_life(self._key, pid=os.getpid(), memory_mb=held)
            if not wanted and not self._over.is_set():
                processes.end(os.getpid(), processes.started_at(os.getpid()))


def memory_mb(device: str) -> float:
    """What this process and its children hold of a device's memory, megabytes.

    On a GPU what torch has reserved there, elsewhere the resident memory; pages that children share with their parent
    count once for each.

    Args:
        device: Ultralytics' device string.
    """
    # While torch is not imported, or only half, it holds nothing; to import it here would keep the first sign back.
    is_initialized = getattr(sys.modules.get("torch.cuda"), "is_initialized", None)
    if device != "cpu" and is_initialized and is_initialized():
        import torch

        return sum(torch.cuda.memory_reserved(each) for each in range(torch.cuda.device_count())) / MEGA
    total = 0
    process = psutil.Process()
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += each.memory_info().rss
    return total / MEGA
