"""Measured results that come with the program: one RunRecord a JSON file, its artifacts beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cache.record import RecordError, RunRecord, parse_record

SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True, kw_only=True)
class ShippedRecord:
    """A shipped result and the folder that it and its artifacts lie in."""

    record: RunRecord
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """Everything measured that a folder ships.

    Attributes:
        by_key: the results by their key.
        unreadable: files that are not a result this program understands.
    """

    by_key: dict[str, ShippedRecord]
    unreadable: tuple[Path, ...]


@lru_cache
def load_shipped(folder: Path = SHIPPED) -> Shipped:
    """Read every result below `folder`, except its folder of published ones; read once a process."""
    by_key: dict[str, ShippedRecord] = {}
    unreadable: list[Path] = []
    for file in sorted(folder.rglob("*.json")):
        if file.is_relative_to(folder / "published"):
            continue
        try:
            record = parse_record(file.read_text(encoding="utf-8"))
        except (RecordError, UnicodeDecodeError):
            unreadable.append(file)
        else:
            by_key[record.key] = ShippedRecord(record=record, folder=file.parent)
    return Shipped(by_key=by_key, unreadable=tuple(unreadable))
