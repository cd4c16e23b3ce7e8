"""Unpack a zip that anybody may have made: nothing leaves its folder, and nothing is larger than what is allowed."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from compression.errors import DatasetError

_CHUNK_BYTES = 1 << 20
# Bit of a zip entry's flags: its content is encrypted (PKWARE's APPNOTE.TXT, 4.4.4).
_ENCRYPTED = 1
# What macOS adds to the zips that it makes.
# The longest that file systems take.
MAX_NAME_BYTES = 255
_OF_MACOS = "__MACOSX"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a zip may unpack to.

    Attributes:
        n_bytes: of all files together.
        n_files: entries of the zip.
        ratio: of the unpacked size to the size of the zip; photos stay below 2, drawings and labels below 50.
    """

    n_bytes: int = 10 * 10**9
    n_files: int = 200_000
    ratio: int = 100


LIMITS = Limits()


def unpack(archive: Path, folder: Path, suffixes: Collection[str], limits: Limits = LIMITS) -> None:
    """Unpack the files of some kinds; all others, and hidden ones, are left out.

    The whole list of entries is looked at before anything is written.

    Args:
        archive: the zip.
        folder: where its files go; exists and is empty.
        suffixes: of the files that are wanted, in lower case and without the dot.
        limits: what it may unpack to.

    Raises:
        DatasetError: it is no zip, is damaged, encrypted or too large, or an entry is no plain file of its own folder.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
            _check_size(archive, entries, limits)
            places = {_place(archive, entry): entry for entry in entries if not entry.is_dir()}
            wanted = {place: entry for place, entry in places.items() if _is_wanted(place, suffixes)}
            _check_room(archive, folder, wanted.values())
            for place, entry in wanted.items():
                _extract(zipped, entry, folder / place)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DatasetError(
            f"{archive.name!r} cannot be unpacked: it is no zip, or damaged, cut short or packed in a way that is not "
            f"supported ({error}); pack the folder anew as a plain .zip."
        ) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DatasetError(
            f"{archive.name!r} holds a file and a folder of the same name ({Path(str(error.filename)).name!r}); "
            "pack the folder anew."
        ) from error


def _check_size(archive: Path, entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    if len(entries) > limits.n_files:
        raise DatasetError(
            f"{archive.name!r} holds {len(entries):,} files; at most {limits.n_files:,} are unpacked. Unpack it "
            "yourself, and give the path of its data.yaml."
        )
    # The sizes that a zip states are held to: reading an entry ends at its own, and its checksum fails then.
    n_bytes, packed = sum(entry.file_size for entry in entries), archive.stat().st_size
    if n_bytes > limits.n_bytes or n_bytes > limits.ratio * packed:
        raise DatasetError(
            f"{archive.name!r} has {packed / 1e6:,.1f} MB and would unpack to {n_bytes / 1e6:,.1f} MB; at most "
            f"{limits.n_bytes / 1e6:,.0f} MB and {limits.ratio} times its size are unpacked. Unpack it yourself, and "
            "give the path of its data.yaml."
        )


def _check_room(archive: Path, folder: Path, entries: Collection[zipfile.ZipInfo]) -> None:
    n_bytes, free = sum(entry.file_size for entry in entries), shutil.disk_usage(folder).free
    if n_bytes > free:
        raise DatasetError(
            f"{archive.name!r} needs {n_bytes / 1e6:,.0f} MB unpacked, and {free / 1e6:,.0f} MB are free on the disk "
            "of the data folder; make room, or move it by TRIMBOARD_HOME."
        )


def _place(archive: Path, entry: zipfile.ZipInfo) -> PurePosixPath:
    """Where an entry goes, below the folder."""
    # Some programs on Windows write backslashes.
    place = PurePosixPath(entry.filename.replace("\\", "/"))
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if place.is_absolute() or ".." in place.parts or PureWindowsPath(entry.filename).drive:
        raise DatasetError(
            f"{archive.name!r} holds {entry.filename!r}, which would leave its folder; pack the folder itself, without "
            "paths above it."
        )
    if any(len(part.encode()) > MAX_NAME_BYTES for part in place.parts):
        raise DatasetError(
            f"{archive.name!r} holds a name of more than {MAX_NAME_BYTES} bytes ({place.name[:40]!r}...), which no "
            "disk takes; give the file a shorter one, and pack the folder anew."
        )
    if kind not in (0, stat.S_IFREG):
        raise DatasetError(
            f"{archive.name!r} holds {entry.filename!r}, a link or device; pack the files themselves, as `zip -r` does."
        )
    if entry.flag_bits & _ENCRYPTED:
        raise DatasetError(f"{archive.name!r} has a password; pack the folder without one.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError(f"compression type {entry.compress_type}")
    return place


def _is_wanted(place: PurePosixPath, suffixes: Collection[str]) -> bool:
    is_hidden = any(part.startswith(".") or part == _OF_MACOS for part in place.parts)
    return not is_hidden and place.suffix.lower().removeprefix(".") in suffixes


def _extract(zipped: zipfile.ZipFile, entry: zipfile.ZipInfo, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(entry) as packed, file.open("xb") as unpacked:
        shutil.copyfileobj(packed, unpacked, _CHUNK_BYTES)
