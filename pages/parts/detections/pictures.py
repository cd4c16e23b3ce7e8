"""The image that the page Detections looks at: the drawn sample, one of the data set, or an uploaded one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from compression.accuracy.detections import LabelledBox
from compression.accuracy.labels import ValidationImages, drawn_sample
from compression.data.images import open_image, read_image

# Of an uploaded file, megabytes. A photo of a phone is smaller.
MAX_UPLOAD_MB = 20


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image that both models look at.

    Attributes:
        name: as it is shown.
        image: upright, RGB.
        sha256: of its pixels.
        objects: what is labelled on it; None where no labels are known.
        class_name: what it is of as a whole; None where that is not known.
    """

    name: str
    image: Image.Image
    sha256: str
    objects: list[LabelledBox] | None
    class_name: str | None = None


def sample_picture() -> Picture:
    """The drawn sample of the built-in data set, with its labels."""
    image, objects = drawn_sample()
    return _picture("the drawn sample", image, objects)


def validation_picture(images: ValidationImages, name: str) -> Picture:
    """One of the data set's images with its labels.

    Raises:
        ImageError: the image cannot be read.
        DatasetError: its label cannot be used.
    """
    return _picture(name, read_image(images.file(name)), images.labels(name).objects)


def class_picture(name: str, file: Path) -> Picture:
    """One of the images of a classifier's data set.

    Args:
        name: its class, then its path below the folder of that class.
        file: the image.

    Raises:
        ImageError: the image cannot be read.
    """
    return _picture(name, read_image(file), None, name.partition("/")[0])


def uploaded_picture(name: str, content: bytes) -> Picture:
    """An image of the user's, of which no labels are known.

    Raises:
        ImageError: it is no image, damaged, or too large.
    """
    return _picture(name, open_image(content, name), None)


def thumbnail(file: Path, side: int) -> Image.Image:
    """A small copy of an image file.

    Args:
        file: the image.
        side: of the longer side, pixels.

    Raises:
        ImageError: the image cannot be read.
    """
    image = read_image(file)
    image.thumbnail((side, side))
    return image


def _picture(
    name: str, image: Image.Image, objects: list[LabelledBox] | None, class_name: str | None = None
) -> Picture:
    digest = hashlib.sha256(repr(image.size).encode() + image.tobytes())
    return Picture(name=name, image=image, sha256=digest.hexdigest(), objects=objects, class_name=class_name)
