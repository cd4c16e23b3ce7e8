"""A checkpoint by its path, or a stored result's by the beginning of its key; and the result that belongs to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cache.record import CHECKPOINT, RunRecord
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
    file = Path(text).expanduser()
    if file.is_file():
        return Stored(file=file, record=_result_of(file))
    found = [one for one in own_store().heads() if one.provenance == "measured" and one.key.startswith(text)]
    if len(text) < SHORTEST_PREFIX or not found:
        raise ModelError(
            f"There is no checkpoint {text!r}; give the path of a .pt, or at least {SHORTEST_PREFIX} characters of the "
            f"key of a stored result, which `trimboard compare --csv FILE` lists."
        )
    if len(found) > 1:
        raise SpecError(f"{len(found)} stored results have a key that begins with {text!r}; give more of it.")
    return Stored(file=checkpoint_of(found[0]), record=found[0])


def checkpoint_of(record: RunRecord) -> Path:
    """The checkpoint of a result.

    Raises:
        ModelError: it is not on this machine, nor where files are shared.
        StoreError: the shared place cannot be read.
    """
    checkpoint = own_store().artifact_path(record)
    if checkpoint is None:
        raise ModelError(
            f"The checkpoint of result {record.key[:12]} ({record.model} on {record.data}) is not on this machine; "
            f"measure it again with `trimboard run --again`, or import it with `trimboard import-results`."
        )
    return checkpoint


def original_of(record: RunRecord) -> RunRecord | None:
    """Level 0 of a result: the original as it was given, of the same weights, data, image size and head."""
    if record.spec is None:
        return None
    for one in own_store().heads(data=record.data):
        alike = one.spec is not None and one.spec.weights_sha256 == record.spec.weights_sha256
        if alike and one.level == ORIGINAL and (one.imgsz, one.head) == (record.imgsz, record.head):
            return one
    return None


def _result_of(file: Path) -> RunRecord | None:
    """The result whose checkpoint a file is; the hash decides, and is computed only where a size agrees."""
    from compression.detector import file_sha256

    size, sha256 = file.stat().st_size, ""
    for one in own_store().heads():
        for artifact in one.artifacts:
            if artifact.name == CHECKPOINT and artifact.size_bytes == size:
                sha256 = sha256 or file_sha256(file)
                if artifact.sha256 == sha256:
                    return one
    return None
