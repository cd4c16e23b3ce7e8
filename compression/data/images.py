"""Open an image that anybody may have made: upright, in colour, and refused in one sentence where it cannot be used."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from compression.errors import ImageError

# Formats that Pillow decodes by itself and that detection data sets come in; others may start programs of the system.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff")
# More than any phone takes; as float32 [3, H, W] it would already be 600 MB.
MAX_PIXELS = 50_000_000


def open_image(content: bytes, name: str) -> Image.Image:
    """An image as it is meant to be seen.

    Its size is looked at before any pixel is decoded, so that a small file that unpacks to a huge image is refused.

    Args:
        content: the whole file.
        name: of the file, for the sentence of a fault.

    Returns:
        RGB, turned upright as its EXIF data say; 16-bit values are cut to their high byte, as Ultralytics does.

    Raises:
        ImageError: the file is no image, damaged, of another format, or too large.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as sealed:
            width, height = sealed.size
            if width * height <= MAX_PIXELS:
                sealed.verify()
    except Exception as error:  # a damaged file raises whatever its bytes happen to ask for
        raise _no_image(name) from error
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name!r} has {width} x {height} pixels; give an image of at most {MAX_PIXELS // 10**6} million."
        )
    try:
        # `verify` leaves an image that cannot be decoded any more.
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return upright.convert("RGB")
    except Exception as error:
        raise _no_image(name) from error


def read_image(file: Path) -> Image.Image:
    """The image of a file, as `open_image` gives it.

    Raises:
        ImageError: likewise, or the file cannot be read.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ImageError(f"The image {str(file)!r} cannot be read ({error.strerror}); check the file.") from error
    return open_image(content, file.name)


def _no_image(name: str) -> ImageError:
    return ImageError(f"{name!r} is no image that can be read; give a whole JPEG, PNG, WebP, BMP or TIFF file.")
