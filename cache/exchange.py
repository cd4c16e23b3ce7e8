"""Results of one store handed to another: one zip file of records and, on wish, of their checkpoints.

    manifest.json                   format, version, and hash and size of every other file
    records/KEY.json                one result, without paths of the machine that it was measured on
    artifacts/SHA256/FILE           a file of a result, not compressed

What a file says is believed in nothing: it is looked at as a whole before anything of it is taken, and a checkpoint is
copied and hashed, never opened.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from cache.artifacts import file_sha256
from cache.record import Artifact, RecordError, RunRecord, parse_record
from cache.store import Merged, Store
from cache.strict import misfit
from cache.summary import head_of, summary_line
from compression.errors import TrimboardError
from compression.home import home, run_folder

FORMAT, VERSION = "trimboard-results", 1
MANIFEST = "manifest.json"
_NAMES = re.compile(r"records/[0-9a-f]{64}\.json|artifacts/[0-9a-f]{64}/(?!\.{1,2}$)[^/\\]+")

# A result is some 30 KB; one of many classes, layers and epochs a few hundred.
MAX_RECORD_BYTES = 16_000_000
MAX_MANIFEST_BYTES = 64_000_000
# Texts of results shrink to a tenth. What shrinks to a hundredth was made to fill a disk.
MAX_RATIO = 100


class ExchangeError(TrimboardError):
    """A file of results that cannot be written, or is not one, or is damaged."""


@dataclass(frozen=True, kw_only=True)
class Exchanged:
    """What became of one result.

    Attributes:
        record: the result as it stands in the file, without layers and curve.
        state: "exported", or what the store did with it.
        n_files: how many of its files went along.
    """

    record: RunRecord
    state: Literal["exported"] | Merged
    n_files: int


def export_results(
    store: Store, file: Path, *, model: str | None = None, data: str | None = None, checkpoints: bool = False
) -> list[Exchanged]:
    """Write one's own results into a file; it appears whole or not at all.

    Args:
        store: whose results.
        file: to be written; replaced where it is there.
        model: only of this label.
        data: only on this data set.
        checkpoints: put their files in too, as far as they are on this machine or in the shared place.

    Raises:
        ExchangeError: there are no such results, or the file cannot be written.
        StoreError: the database or the shared place cannot be read.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        with zipfile.ZipFile(part, "w") as archive:
            done = _write(archive, store, store.own_keys(model, data), checkpoints=checkpoints)
        if not done:
            raise ExchangeError(
                f"There are no results of your own of {model or 'any model'} on {data or 'any data set'} to export."
            )
        part.replace(file)
    except OSError as error:
        raise ExchangeError(f"{str(file)!r} cannot be written ({error.strerror}); name another file.") from error
    finally:
        part.unlink(missing_ok=True)
    return done


def _write(archive: zipfile.ZipFile, store: Store, keys: list[str], *, checkpoints: bool) -> list[Exchanged]:
    listed: dict[str, dict[str, Any]] = {}
    done = []
    for record in filter(None, map(store.find, keys)):
        given = record.without_places()
        text = json.dumps(given.to_dict()).encode()
        name = f"records/{record.key}.json"
        archive.writestr(name, text, zipfile.ZIP_DEFLATED)
        listed[name] = {"sha256": hashlib.sha256(text).hexdigest(), "size_bytes": len(text)}
        files = _whole_files(store, record) if checkpoints else []
        for artifact, path in files:
            name = _artifact_name(artifact)
            if name not in listed:
                archive.write(path, name, zipfile.ZIP_STORED)
                listed[name] = {"sha256": artifact.sha256, "size_bytes": artifact.size_bytes}
        done.append(Exchanged(record=head_of(given), state="exported", n_files=len(files)))
    manifest = {"format": FORMAT, "version": VERSION, "files": listed}
    archive.writestr(MANIFEST, json.dumps(manifest, indent=1), zipfile.ZIP_DEFLATED)
    return done


def _whole_files(store: Store, record: RunRecord) -> list[tuple[Artifact, Path]]:
    """The files of a result that can be had, and are still those that it speaks of."""
    found = [(artifact, store.artifact_path(record, artifact.name)) for artifact in record.artifacts]
    return [(artifact, path) for artifact, path in found if path and file_sha256(path) == artifact.sha256]


def import_results(store: Store, file: Path, *, replace: bool = False) -> list[Exchanged]:
    """Take the results of a file, all that are new or none.

    Args:
        store: where they go.
        file: written by `export_results`.
        replace: take a result of the file where the store has another one of the same key.

    Returns:
        What became of each; one that was here already may have got a checkpoint that was missing.

    Raises:
        ExchangeError: the file is none of ours, damaged, of another version, or larger than the disk.
        StoreError: the database or the shared place cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="import-", dir=home()) as folder:
        staging = Path(folder)
        with _opened(file) as archive:
            heads, files = _unpack(archive, file, staging)
        for key, artifacts in files.items():
            for artifact in artifacts:
                store.share_file(artifact, _staged(staging, key, artifact))
        n_files: dict[str, int] = {}
        with ExitStack() as undo:

            def settle(outcome: dict[str, Merged]) -> None:
                for head in heads:
                    n_files[head.key] = _place(store, head, files[head.key], outcome[head.key], staging, undo)

            texts = ((staging / head.key).read_text(encoding="utf-8") for head in heads)
            outcome = store.merge(map(parse_record, texts), replace=replace, settle=settle)
            undo.pop_all()
    return [Exchanged(record=head, state=outcome[head.key], n_files=n_files[head.key]) for head in heads]


def _unpack(
    archive: zipfile.ZipFile, file: Path, staging: Path
) -> tuple[list[RunRecord], dict[str, tuple[Artifact, ...]]]:
    """Copy everything into an empty folder, once it was looked at.

    Returns:
        The results without layers and curves, and by key their files.
    """
    listed = _manifest(archive, file)
    heads, files = [], {}
    for name in listed:
        if name.startswith("records/"):
            record, text = _record(archive, name, listed[name], file)
            (staging / record.key).write_bytes(text)
            heads.append(head_of(record))
            there = tuple(artifact for artifact in record.artifacts if _artifact_name(artifact) in listed)
            if any(listed[_artifact_name(item)]["size_bytes"] != item.size_bytes for item in there):
                raise _damaged(file, name)
            files[record.key] = there
    users: dict[str, list[Path]] = defaultdict(list)
    for key, artifacts in files.items():
        for artifact in artifacts:
            users[_artifact_name(artifact)].append(_staged(staging, key, artifact))
    _check_room(sum(listed[name]["size_bytes"] * len(copies) for name, copies in users.items()), file)
    for name in listed:
        if name.startswith("artifacts/"):
            _extract(archive, name, listed[name], file, users[name])
    return heads, files


def _extract(archive: zipfile.ZipFile, name: str, said: dict[str, Any], file: Path, users: list[Path]) -> None:
    """Copy an artifact out for each result that has it, and look whether it is what it says."""
    if name.split("/")[1] != said["sha256"] or not users:
        raise _damaged(file, name)
    first, *others = users
    with archive.open(name) as source, first.open("wb") as target:
        shutil.copyfileobj(source, target)
    if file_sha256(first) != said["sha256"]:
        raise _damaged(file, name)
    for other in others:
        shutil.copyfile(first, other)


def _staged(staging: Path, key: str, artifact: Artifact) -> Path:
    return staging / f"{key}-{artifact.sha256}"


def _place(
    store: Store,
    record: RunRecord,
    artifacts: tuple[Artifact, ...],
    state: Merged,
    staging: Path,
    undo: ExitStack,
) -> int:
    """Move the files of a result into its run folder, to be taken back where the result is not stored after all.

    Returns:
        How many.
    """
    if state == "conflict":
        return 0
    placed = 0
    for artifact in artifacts:
        if state == "same" and store.artifact_path(record, artifact.name, fetch=False):
            continue
        target = run_folder(record.key) / artifact.file
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = _staged(staging, record.key, artifact)
        if target.exists():
            aside = staged.with_name(f"{staged.name}-before")
            shutil.move(target, aside)
            undo.callback(shutil.move, aside, target)
        shutil.move(staged, target)
        undo.callback(target.unlink)
        placed += 1
    return placed


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file whose faults are told in one sentence."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except OSError as error:
        # Of the file itself, or of the data folder that its contents go to.
        place = error.filename or file
        raise ExchangeError(f"{str(place)!r} cannot be read or written ({error.strerror}).") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, UnicodeError) as error:
        raise ExchangeError(f"{str(file)!r} is damaged, or no export of results: {error}.") from error


def _manifest(archive: zipfile.ZipFile, file: Path) -> dict[str, dict[str, Any]]:
    """What the file holds by its own account, as far as that agrees with the zip."""
    entries = {entry.filename: entry for entry in archive.infolist()}
    if MANIFEST not in entries or entries[MANIFEST].file_size > MAX_MANIFEST_BYTES:
        raise ExchangeError(f"{str(file)!r} is no export of results; `trimboard export-results` writes one.")
    _check_ratio(entries[MANIFEST], file)
    try:
        manifest = json.loads(archive.read(MANIFEST))
        form, version = manifest["format"], manifest["version"]
        listed: dict[str, dict[str, Any]] = {
            str(name): {"sha256": str(said["sha256"]), "size_bytes": int(said["size_bytes"])}
            for name, said in manifest["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(file, MANIFEST) from None
    if form != FORMAT or version != VERSION:
        raise ExchangeError(
            f"{str(file)!r} has the form {form!r} {version!r}; this program reads {FORMAT!r} {VERSION}."
        )
    del entries[MANIFEST]
    for name in sorted({*entries, *listed}):
        if not _NAMES.fullmatch(name):
            raise ExchangeError(
                f"{str(file)!r} holds {name!r}, which is no part of an export of results; nothing is taken."
            )
    if len(archive.infolist()) != len(entries) + 1 or entries.keys() != listed.keys():
        raise _damaged(file, MANIFEST)
    for name, entry in entries.items():
        if entry.file_size != listed[name]["size_bytes"]:
            raise _damaged(file, name)
        _check_size(entry, file)
    return listed


def _check_size(entry: zipfile.ZipInfo, file: Path) -> None:
    """Refuse what would fill the memory or the disk."""
    if entry.filename.startswith("artifacts/"):
        if entry.compress_type != zipfile.ZIP_STORED:
            raise _damaged(file, entry.filename)
    elif entry.file_size > MAX_RECORD_BYTES:
        raise ExchangeError(
            f"{str(file)!r} holds {entry.filename!r}, which is larger than any result; nothing is taken."
        )
    _check_ratio(entry, file)


def _check_ratio(entry: zipfile.ZipInfo, file: Path) -> None:
    if entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        raise ExchangeError(
            f"{str(file)!r} holds {entry.filename!r}, which unpacks to more than {MAX_RATIO} times its size; "
            f"nothing is taken."
        )


def _check_room(needed: int, file: Path) -> None:
    free = shutil.disk_usage(home()).free
    if needed > free:
        raise ExchangeError(
            f"The files in {str(file)!r} need {needed / 1e9:.1f} GB, and {str(home())!r} has {free / 1e9:.1f} GB left; "
            f"make room, or set TRIMBOARD_HOME to another folder."
        )


def _record(archive: zipfile.ZipFile, name: str, said: dict[str, Any], file: Path) -> tuple[RunRecord, bytes]:
    """One result and its text, if it is whole and answers the question whose key it has."""
    text = archive.read(name)
    if hashlib.sha256(text).hexdigest() != said["sha256"]:
        raise _damaged(file, name)
    try:
        record = parse_record(text.decode())
        wrong = misfit(record, RunRecord)
        if wrong:
            raise RecordError(f"Its {wrong} is of another kind.")
        summary_line(record)
        datetime.fromisoformat(record.created)
    except (RecordError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ExchangeError(f"{str(file)!r} holds {name!r}, which cannot be read: {str(error).rstrip('.')}.") from error
    if record.provenance != "measured" or record.spec is None or f"records/{record.spec.key}.json" != name:
        raise ExchangeError(f"{str(file)!r} holds {name!r}, which answers another question; nothing is taken.")
    if record.key != record.spec.key or any(Path(item.file).name != item.file for item in record.artifacts):
        raise _damaged(file, name)
    return record, text


def _artifact_name(artifact: Artifact) -> str:
    return f"artifacts/{artifact.sha256}/{Path(artifact.file).name}"


def _damaged(file: Path, name: str) -> ExchangeError:
    return ExchangeError(f"{str(file)!r} is damaged: {name!r} is not what it should be; ask for the file again.")
