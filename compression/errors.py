"""What can go wrong with an input, as one tree.

    TrimboardError              shown as one sentence, exit code 2
    +-- SpecError               a level, target, recipe or number that makes no sense
    +-- ModelError              a model that cannot be found, loaded or pruned
    +-- DatasetError            a data set that cannot be found, read or trained on
    +-- TargetError             a cut that this model cannot reach
    +-- ExportError             a file for deployment that cannot be made here
    +-- ImageError              a file that is no image, or too large a one
    +-- HomeError               a data folder that cannot be used
    +-- cache.record.RecordError, cache.engine.StoreError, cache.exchange.ExchangeError,
        cache.queue.RunBusyError, cache.queue.UnknownRunError, compression.training.failures.TrainingError

Everything else that is raised is a defect of the program, and shows as one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class TrimboardError(Exception):
    """An input that cannot be used; its text names the offending value and the remedy."""


class SpecError(TrimboardError, ValueError):
    """A level, target, recipe or number outside of what is defined."""


class ModelError(TrimboardError):
    """A model that cannot be found, loaded by the restricted loader, or pruned."""


class DatasetError(TrimboardError):
    """A data set that cannot be found, read or trained on.

    Attributes:
        faults: all that was found, a sentence each, where more than one thing was looked at; else the text itself.
    """

    def __init__(self, text: str, *, faults: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.faults = tuple(faults) or (text,)


class TargetError(TrimboardError):
    """A target below what the model can reach, or two targets that contradict each other."""


class ExportError(TrimboardError):
    """A file for deployment that cannot be made of a checkpoint, or not on this machine."""


class ImageError(TrimboardError):
    """A file that is no image, is damaged, or has more pixels than are decoded."""


class HomeError(TrimboardError):
    """A data folder that cannot be created."""


@contextmanager
def naming_within(folder: Path) -> Iterator[None]:
    """Name files in faults by their place in a folder, where the folder means nothing to the user."""

    def told(text: str) -> str:
        return text.replace(f"{folder}{os.sep}", "")

    try:
        yield
    except DatasetError as error:
        raise DatasetError(told(str(error)), faults=[told(fault) for fault in error.faults]) from error
    except ModelError as error:
        raise ModelError(told(str(error))) from error
