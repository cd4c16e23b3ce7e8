"""The stages of a run: told as they begin, and timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cache.record import Progress
from compression.telling import Tell


class Stages:
    """Tells and times stages by their names; what occurs several times adds up.

    Args:
        tell: receives the progress.

    Attributes:
        seconds: wall time of each stage that is over.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        self._tell(Progress(stage=name))
        start = time.perf_counter()
        yield
        self.add({name: time.perf_counter() - start})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what these stages took elsewhere, as in a process that was interrupted."""
        for name, passed in seconds.items():
            self.seconds[name] = round(self.seconds.get(name, 0.0) + passed, 3)

    def at_least(self, name: str, seconds: float) -> None:
        """A training that goes on knows what its epochs took, those of an interrupted process among them."""
        self.seconds[name] = round(max(self.seconds.get(name, 0.0), seconds), 3)
