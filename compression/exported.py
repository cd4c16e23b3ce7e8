"""What an export left: one file or folder, plain data. Imports no torch, so that pages can show it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from compression.spec import FormatName, HeadName, PrecisionName


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A checkpoint in another format.

    Attributes:
        format: what it was exported to.
        precision: of its weights, and with INT8 of what its layers compute.
        imgsz: side of the square input, pixels; fixed.
        batch: images that it takes at once; fixed.
        head: the predictions that it gives: end-to-end, or one-to-many, which need suppression.
        path: the file, or the folder of a format of several files.
        size_bytes: of all files together.
        sha256: of the file; of a folder see `content_sha256`.
        warnings: what its user must know, a sentence each.
    """

    format: FormatName
    precision: PrecisionName
    imgsz: int
    batch: int
    head: HeadName
    path: Path
    size_bytes: int
    sha256: str
    warnings: tuple[str, ...] = ()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in files_of(path))


def content_sha256(path: Path) -> str:
    """Sha256 of a file; of a folder that of the lines "name, NUL, sha256 of the content", by name.

    The names are those below the folder, with forward slashes, so that where the folder lies does not count.
    """
    if path.is_file():
        return _file_sha256(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{_file_sha256(file)}\n" for file in files_of(path)]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files below a folder by name."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
