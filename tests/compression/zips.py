"""Zips of data sets, as users have them, for tests."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

LINK = stat.S_IFLNK | 0o777
DEVICE = stat.S_IFCHR | 0o666


def write_zip(file: Path, entries: Mapping[str, bytes | str], *, modes: Mapping[str, int] | None = None) -> Path:
    """Write a zip.

    Args:
        file: the zip.
        entries: name -> content.
        modes: of entries that are no plain files.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            zipped.writestr(entry, content)
    return file


def png(number: int = 0) -> bytes:
    """A small image; other numbers give other images."""
    pixels = np.full((16, 16, 3), number, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def images(*splits: str, n: int = 2, class_index: int = 0) -> dict[str, bytes | str]:
    """Images and labels of folders like "train" (train/images, train/labels)."""
    return {
        f"{split}/{kind}/{number}.{suffix}": png(number) if kind == "images" else f"{class_index} 0.5 0.5 0.5 0.5\n"
        for split in splits
        for number in range(n)
        for kind, suffix in (("images", "png"), ("labels", "txt"))
    }


# As Roboflow writes it: places beside the file's folder, a test split that is not there, and what is its own.
ROBOFLOW = """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['red', 'white']

roboflow:
  workspace: mine
"""


def roboflow(**changes: bytes | str) -> dict[str, bytes | str]:
    """The files of an export; `changes` are further ones, or others in their place."""
    return {
        "data.yaml": ROBOFLOW,
        "README.roboflow.txt": "an export",
        **images("train", "valid"),
        **changes,
    }
