"""What can befall a run from outside: memory, disk or data that give out, and a loss that is no number any more.

Ultralytics and torch tell each of them in their own words; here they become one of four kinds, and a plain sentence.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from compression.data.dataset import Dataset
from compression.errors import DatasetError, HomeError, TrimboardError

FailureKind = Literal["memory", "loss", "disk", "data"]

# Where the process of a multi-GPU training notes what ended it, beside its other files.
NOTE = "failure.json"

# What torch (CPU, CUDA and its libraries) and OpenCV say where memory gives out. The CUDA texts are those that
# Ultralytics takes for it, engine/trainer.py.
_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "insufficient memory",
    "defaultcpuallocator",
    "cublas_status_alloc_failed",
    "cudnn_status_internal_error",
    "unable to find an engine",
)
# torch.save tells a full disk without its number.
_NO_SPACE = ("no space left on device", "pytorchstreamwriter failed writing")
# What Ultralytics' loaders say where an image, or all of them, cannot be read.
_NO_DATA = re.compile(
    r"image not found|error loading data from|no labels found in|no valid images found|^dataset '.*' (error|images)",
    re.IGNORECASE,
)


class TrainingError(TrimboardError):
    """A training that cannot go on as it was asked for."""


class LossError(Exception):
    """A loss or fitness that is no finite number."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What ended a stage.

    Attributes:
        kind: memory that gave out, a loss that is not finite, a full disk, or images that cannot be read.
        reason: as it was told.
    """

    kind: FailureKind
    reason: str


def failure_of(error: BaseException) -> Failure | None:
    """What an error, or one that it arose from, tells; None for any other, which is a defect of the program."""
    kind = _kind(error)
    if kind:
        return Failure(kind=kind, reason=(str(error).strip().splitlines() or [type(error).__name__])[0])
    return failure_of(error.__cause__) if error.__cause__ else None


def _kind(error: BaseException) -> FailureKind | None:
    text = str(error).lower()
    if isinstance(error, LossError):
        return "loss"
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return "memory"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or any(words in text for words in _NO_SPACE):
        return "disk"
    return "data" if _NO_DATA.search(text) else None


def note_failure(error: BaseException, folder: Path) -> None:
    """Leave word of an error for the process that waits for this one."""
    failure = failure_of(error)
    if failure:
        # Where there is no room for it, the error's own text in the log has to do.
        with suppress(OSError):
            (folder / NOTE).write_text(json.dumps(asdict(failure)))


def noted_failure(folder: Path) -> Failure | None:
    """The word that was left in a folder, which is removed; None where there is none."""
    note = folder / NOTE
    try:
        return Failure(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    finally:
        note.unlink(missing_ok=True)


@contextmanager
def plain_errors(dataset: Dataset, folder: Path) -> Iterator[None]:
    """Tell a full disk, vanished images and memory that gave out in a sentence.

    Args:
        dataset: that is read.
        folder: that is written to.

    Raises:
        HomeError: the disk is full.
        DatasetError: the images cannot be read any more.
        TrainingError: the memory gave out.
    """
    try:
        yield
    except TrimboardError:
        raise
    except Exception as error:
        failure = failure_of(error)
        if failure and failure.kind == "memory":
            # A training takes a smaller batch by itself; measuring and looking at images do not.
            raise TrainingError(
                f"The memory gave out ({failure.reason}); give a smaller --batch or --imgsz, or free some, and start "
                f"the same run again."
            ) from error
        told = plain_error(failure, dataset, folder)
        if told is None:
            raise
        raise told from error


def plain_error(failure: Failure | None, dataset: Dataset, folder: Path) -> TrimboardError | None:
    """The error that tells a failure from outside in a sentence; None where it is of another kind."""
    if failure and failure.kind == "disk":
        return HomeError(
            f"The disk of {str(folder)!r} is full; make room there and start the same run again, "
            f"which goes on from its last whole epoch."
        )
    if failure and failure.kind == "data":
        return DatasetError(
            f"The images of {dataset.name!r} cannot be read any more ({failure.reason}); bring back what "
            f"{str(dataset.yaml_file)!r} names and start the same run again, which goes on from its last whole epoch."
        )
    return None
