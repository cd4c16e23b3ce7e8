"""A checkpoint by its path, or a stored result's by the beginning of its key; and the result that belongs to it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.groups import basis_of, conditions_of
from cache.record import CHECKPOINT, SHORT_KEY, RunRecord
from cache.store import own_store
from compression.errors import ModelError, SpecError
from compression.levels import ORIGINAL

# Shorter beginnings of keys are more likely a mistyped path than a key, or belong to several.
SHORTEST_PREFIX = 4
KEY = re.compile(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A checkpoint, and what is known of it.

    Attributes:
        file: the checkpoint.
        record: the result that it belongs to; None where nothing is known of it.
    """

    file: Path
    record: RunRecord | None


def find_checkpoint(text: str) -> Stored:
    """The checkpoint that a path or the beginning of a key stands for.

    Raises:
        ModelError: there is no such file or result, or the result's checkpoint is not on this machine.
        SpecError: several results have a key that begins so.
        StoreError: the store cannot be read.
    """
    file = Path(os.path.expanduser(text))
    if file.is_file():
        return Stored(file=file, record=_result_of(file))
    record = find_result(text)
    return Stored(file=checkpoint_of(record), record=record)


def find_result(text: str) -> RunRecord:
    """The measured result that the beginning of a key stands for.

    Raises:
        ModelError: there is none.
        SpecError: there are several.
        StoreError: the store cannot be read.
    """
    found = [one for one in own_store().heads() if one.provenance == "measured" and one.key.startswith(text)]
    if len(text) < SHORTEST_PREFIX or not found:
        raise ModelError(
            f"There is no checkpoint {text!r}; give the path of a .pt, or at least {SHORTEST_PREFIX} characters of the "
            f"key of a stored result, which `trimboard compare --csv FILE` lists."
        )
    if len(found) > 1:
        raise SpecError(f"{len(found)} stored results have a key that begins with {text!r}; give more of it.")
    return found[0]


def checkpoint_of(record: RunRecord) -> Path:
    """The checkpoint of a result.

    Raises:
        ModelError: it is not on this machine, nor where files are shared.
        StoreError: the shared place cannot be read.
    """
    checkpoint = own_store().artifact_path(record)
    if checkpoint is None:
        raise ModelError(
            f"The checkpoint of result {record.key[:SHORT_KEY]} ({record.model} on {record.data}) is not on this "
            f"machine; measure it again with `trimboard run --again`, or import it with `trimboard import-results`."
        )
    return checkpoint


def original_of(record: RunRecord) -> RunRecord | None:
    """Level 0 of a result: the original as it was given, of the same weights, data, image size and head."""
    if record.spec is None:
        return None
    for one in own_store().heads(data=record.data):
        if one.spec is not None and one.level == ORIGINAL and basis_of(one) == basis_of(record):
            return one
    return None


def levels_like(record: RunRecord) -> dict[int, RunRecord]:
    """The newest result of each level that was made as this one was, its original among them.

    Args:
        record: a measured result. Of an original, the levels that were cut from it under the conditions of the newest
            one, as several may have been tried.
    """
    of_basis = _levels_cut_from(basis_of(record))
    if record.level == ORIGINAL:
        newest = max(of_basis, key=lambda one: one.created, default=None)
        return {ORIGINAL: record} | (_newest_of(of_basis, newest) if newest else {})
    original = original_of(record)
    return ({ORIGINAL: original} if original else {}) | _newest_of(of_basis, record)


def _levels_cut_from(basis: tuple[object, ...]) -> list[RunRecord]:
    measured = [one for one in own_store().heads() if one.spec is not None and one.level not in (None, ORIGINAL)]
    return [one for one in measured if basis_of(one) == basis]


def _newest_of(records: Sequence[RunRecord], like: RunRecord) -> dict[int, RunRecord]:
    alike = [one for one in records if conditions_of(one) == conditions_of(like)]
    return {one.level: one for one in sorted(alike, key=lambda one: one.created) if one.level is not None}


def _result_of(file: Path) -> RunRecord | None:
    """The result whose checkpoint a file is; the hash decides, and is computed only where a size agrees."""
    from compression.models.detector import file_sha256

    size, sha256 = file.stat().st_size, ""
    for one in own_store().heads():
        for artifact in one.artifacts:
            if artifact.name == CHECKPOINT and artifact.size_bytes == size:
                sha256 = sha256 or file_sha256(file)
                if artifact.sha256 == sha256:
                    return one
    return None
