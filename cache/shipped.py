"""What was measured and comes with the program: one RunRecord a JSON file, its artifacts beside it; in folders of their
own what is published, and sensitivities of layers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cache.record import RecordError, RunRecord, parse_record
from cache.sensitivity import SensitivityRecord, parse_sensitivity

SHIPPED = Path(__file__).parent / "shipped"
# Folders of other records than results.
OTHERS = ("published", "sensitivities")


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
    """Read every result below `folder`, except its folders of other records; read once a process."""
    by_key: dict[str, ShippedRecord] = {}
    unreadable: list[Path] = []
    for file in sorted(folder.rglob("*.json")):
        if file.relative_to(folder).parts[0] in OTHERS:
            continue
        try:
            record = parse_record(file.read_text(encoding="utf-8"))
        except (RecordError, UnicodeDecodeError):
            unreadable.append(file)
        else:
            by_key[record.key] = ShippedRecord(record=record, folder=file.parent)
    return Shipped(by_key=by_key, unreadable=tuple(unreadable))


@lru_cache
def load_shipped_sensitivities(folder: Path) -> dict[str, SensitivityRecord]:
    """Read every sensitivity in a folder that is of this version, by key; read once a process."""
    found: dict[str, SensitivityRecord] = {}
    for file in sorted(folder.glob("*.json")):
        with suppress(RecordError, UnicodeDecodeError):
            record = parse_sensitivity(file.read_text(encoding="utf-8"))
            found[record.spec.key] = record
    return found
