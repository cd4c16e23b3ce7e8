"""What the modules of commands share: how each adds its commands to the parser, reads lists, and writes its results."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, cast, get_args

from compression.errors import SpecError
from compression.request import listed
from compression.spec import DEFAULT_CLASSIFIER_IMGSZ, DEFAULT_IMGSZ, BackendName

Command = Callable[[argparse.Namespace, TextIO], None]
# Name, what it does, and one sentence of help; gives the parser of its arguments.
Add = Callable[[str, Command, str], argparse.ArgumentParser]

# For the help of options: see `Detector.usual_imgsz`.
USUAL_SIZE = (
    f"the checkpoint's run, else {DEFAULT_IMGSZ}; of a classifier what it was trained at, else "
    f"{DEFAULT_CLASSIFIER_IMGSZ}"
)
MEASURED_SIZE = f"pixels (default: {USUAL_SIZE})"


@contextmanager
def stdout_for_results() -> Iterator[TextIO]:
    """Keep stdout for results: what libraries and their processes print there goes to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        # A file name need not be text in the encoding of the terminal.
        with os.fdopen(os.dup(kept), "w", errors="backslashreplace") as results:
            yield results
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def whole_numbers(name: str, text: str) -> list[int]:
    """Numbers and ranges, each once, in the order given.

    Raises:
        SpecError: there is none, or one is no number.
    """
    numbers: list[int] = []
    for part in listed(text):
        first, _, last = part.partition("-")
        try:
            numbers += range(int(first), int(last or first) + 1)
        except ValueError:
            raise SpecError(
                f"{part!r} in --{name} is not understood; give numbers and ranges, as in 0,2 or 1-5."
            ) from None
    if not numbers:
        raise SpecError(f"{text!r} names no {name}; give numbers and ranges, as in 0,2 or 1-5.")
    return list(dict.fromkeys(numbers))


def backend_names(text: str) -> list[BackendName]:
    """Backends as typed, each once.

    Raises:
        SpecError: there is none, or one is unknown.
    """
    names = list(dict.fromkeys(listed(text)))
    unknown = [name for name in names if name not in get_args(BackendName)]
    if unknown or not names:
        raise SpecError(
            f"There is no backend {', '.join(map(repr, unknown)) or repr(text)}; "
            f"choose some of {', '.join(get_args(BackendName))}."
        )
    return cast(list[BackendName], names)
