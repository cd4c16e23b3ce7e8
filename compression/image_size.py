"""Sizes of a model's input: a square by its side, or (height, width), as Ultralytics takes them.

Trainings and validations are of squares; costs, times and exported files are of whatever a camera gives. Nothing here
imports torch.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from typing import Any

# Pixels; of a square its side, else (height, width).
ImageSize = int | tuple[int, int]

_WRITTEN = re.compile(r"0*(\d+)(?:[,x]0*(\d+))?")


def height_width(imgsz: ImageSize) -> tuple[int, int]:
    """Height and width, pixels."""
    return (imgsz, imgsz) if isinstance(imgsz, int) else imgsz


def longer_side(imgsz: ImageSize) -> int:
    """Side of the smallest square that holds it, pixels."""
    return max(height_width(imgsz))


def in_pixels(imgsz: ImageSize) -> str:
    """The size for a reader, "640" or "384 x 640" (height first)."""
    return str(imgsz) if isinstance(imgsz, int) else "{} x {}".format(*imgsz)


def from_json(imgsz: Any) -> Any:
    """The size as it was before a trip through JSON; what is none stays as it is, for who checks types."""
    return tuple(imgsz) if isinstance(imgsz, list) else imgsz


def image_size(text: str) -> ImageSize:
    """A size as typed: "640", or height and width as "384,640" or "384x640".

    Raises:
        ArgumentTypeError: it is neither; for argparse.
    """
    found = _WRITTEN.fullmatch(text.replace(" ", ""))
    if not found or "0" in found.groups():
        raise ArgumentTypeError(f"{text!r} is no size; give pixels as in 640, or height and width as in 384,640")
    height, width = int(found[1]), int(found[2] or found[1])
    return height if height == width else (height, width)


def square_side(text: str) -> int:
    """The side of a square as typed.

    Raises:
        ArgumentTypeError: it is no number, or no square; for argparse.
    """
    imgsz = image_size(text)
    if not isinstance(imgsz, int):
        raise ArgumentTypeError(
            f"{text!r} is no square, and models train and validate on squares; give {max(imgsz)} here, and "
            f"{text} to plan, prune, bench and export"
        )
    return imgsz
