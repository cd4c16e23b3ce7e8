"""A place that several machines share: a bucket, or a folder on a network disk.

Files of results lie there under their hash, so that a later result of the same question takes nothing away from those
who still read the earlier one, and a file that was put there twice is there once. Files of runs that are not over lie
there under names, see `compression.training.shared_run`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from cache.engine import StoreError
from cache.record import Artifact

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PLACE_VARIABLE = "TRIMBOARD_ARTIFACTS"

# Kinds of places that have no folders, and whose files appear whole; to ask for a folder would make a bucket.
_BUCKETS = frozenset(("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss"))

# What a file that is being written ends in.
_PART = ".part"


def shared_place() -> SharedPlace | None:
    """The place that TRIMBOARD_ARTIFACTS names: an fsspec URL as in s3://bucket/folder, or a folder; None without one.

    Raises:
        StoreError: there is no such kind of place, or the package for it is not installed.
    """
    url = os.environ.get(PLACE_VARIABLE)
    return SharedPlace(url) if url else None


class SharedPlace:
    """Files by their hash or by name, at an fsspec URL."""

    def __init__(self, url: str) -> None:
        """Find out what speaks to the place; it is not asked for yet.

        Raises:
            StoreError: there is no such kind of place, or the package for it is not installed.
        """
        from fsspec.core import url_to_fs

        self._url = url
        self._files: AbstractFileSystem
        try:
            self._files, root = url_to_fs(url)
        except ImportError as error:
            package = "pip install 'trimboard[cluster]'" if url.startswith(("s3:", "s3a:")) else str(error)
            raise StoreError(f"The package for {shown(url)} is not installed; run: {package}") from None
        except (ValueError, OSError) as error:
            raise self._unusable(error) from None
        self._root = root.rstrip("/")

    def put(self, artifact: Artifact, file: Path) -> None:
        """Bring a file there.

        Raises:
            StoreError: the place cannot be written.
        """
        self.put_file(file, self._name(artifact))

    def fetch(self, artifact: Artifact, target: Path) -> bool:
        """Get a file from there; it appears whole and verified, or not at all.

        Returns:
            Whether it was there, and undamaged.

        Raises:
            StoreError: the place cannot be read, or `target` cannot be written.
        """
        with self._telling_errors():
            try:
                if self._files.size(self._path(self._name(artifact))) != artifact.size_bytes:
                    return False
            except FileNotFoundError:
                return False
        return self.fetch_file(self._name(artifact), target, is_whole=lambda part: file_sha256(part) == artifact.sha256)

    def put_file(self, file: Path, name: str) -> None:
        """Bring a file there, in place of an earlier one of that name; it appears whole or not at all.

        Args:
            file: what to bring.
            name: where it lies, below the place, with forward slashes.

        Raises:
            StoreError: the file cannot be read, or the place cannot be written.
        """
        target = self._path(name)
        with self._telling_errors():
            if self._is_bucket:
                self._files.put_file(str(file), target)
                return
            # A bucket shows a file once it is whole; in folders we see to that.
            self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            part = f"{target}.{uuid4().hex}{_PART}"
            self._files.put_file(str(file), part)
            self._files.mv(part, target)

    def fetch_file(self, name: str, target: Path, *, is_whole: Callable[[Path], bool] = lambda part: True) -> bool:
        """Get a file from there; it appears whole, or not at all.

        Args:
            name: as it was put.
            target: where it goes.
            is_whole: whether what came is what was wanted.

        Returns:
            Whether it was there, and whole.

        Raises:
            StoreError: the place cannot be read, or `target` cannot be written.
        """
        with self._telling_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.{uuid4().hex}{_PART}")
            try:
                self._files.get_file(self._path(name), str(part))
                if not is_whole(part):
                    return False
                part.replace(target)
            except FileNotFoundError:
                return False
            finally:
                part.unlink(missing_ok=True)
        return True

    def names_in(self, folder: str) -> list[str]:
        """The names of the whole files below a folder, as they were put, in no order.

        Raises:
            StoreError: the place cannot be read.
        """
        with self._telling_errors():
            # Other machines write here, too.
            self._files.invalidate_cache()
            found = [str(path) for path in self._files.find(self._path(folder))]
        return [path[len(self._root) + 1 :] for path in found if not path.endswith(_PART)]

    def remove(self, name: str) -> None:
        """Drop a file, or all below a folder; what is not there is left alone.

        Raises:
            StoreError: the place cannot be written.
        """
        with self._telling_errors(), suppress(FileNotFoundError):
            self._files.rm(self._path(name), recursive=True)

    @property
    def _is_bucket(self) -> bool:
        protocol = self._files.protocol
        return not _BUCKETS.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)

    @staticmethod
    def _name(artifact: Artifact) -> str:
        # Only the file's name counts: a record cannot point outside of the place.
        return f"{artifact.sha256}/{Path(artifact.file).name}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _telling_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # Each kind of place raises errors of its own package.
            if isinstance(error, StoreError):
                raise
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> StoreError:
        reason = _without_secrets(" ".join(str(error).split()) or type(error).__name__, self._url).rstrip(".")
        return StoreError(
            f"The shared files in {shown(self._url)} cannot be used: {reason}. "
            f"Check that {PLACE_VARIABLE} is right, and that you may read and write there."
        )


def file_sha256(file: Path) -> str:
    """Hash of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def shown(url: str) -> str:
    """A place as it may be shown: no user, no password, no options."""
    return re.sub(r"(?<=://).*@", "", url).split("?", 1)[0]


def _without_secrets(text: str, url: str) -> str:
    """A message that repeats nothing of what `shown` leaves out."""
    password = re.search(r"://[^:]*:(.*)@", url)
    options = [option.partition("=")[2] for option in url.partition("?")[2].split("&")]
    for secret in [*(password.groups() if password else ()), *options]:
        text = text.replace(secret, "***") if secret else text
    return text
