"""What stored measurements share: a key of all that was asked, and a version that they are read again by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from cache.record import RecordError
from cache.strict import misfit

Measured = TypeVar("Measured")


def key_of(version: int, decisive: dict[str, Any]) -> str:
    """Sha256 of what was asked, as canonical JSON.

    Args:
        version: of the form of the answer.
        decisive: everything that decides the answer, as plain data.
    """
    asked = {"version": version, **decisive}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_measured(text: str, version: int, build: Callable[[dict[str, Any]], Measured], name: str) -> Measured:
    """A stored record.

    Args:
        text: JSON of the record with its version.
        version: that this program understands.
        build: makes the record of plain data without the version.
        name: what cannot be read if that fails, at the beginning of a sentence.

    Raises:
        RecordError: the text is no record of this version.
    """
    try:
        values = json.loads(text)
        if values.pop("version") != version:
            raise ValueError("of another version")
        record = build(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{name} cannot be read: {error}.") from error
    if (place := misfit(record, type(record))) is not None:
        raise RecordError(f"{name} cannot be read: {place} is of another type.")
    return record
