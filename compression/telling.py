"""Who is told how far work is."""

from __future__ import annotations

from collections.abc import Callable

from cache.record import Progress

Tell = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The teller of a caller who does not listen."""
