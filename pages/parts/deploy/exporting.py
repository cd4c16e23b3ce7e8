"""What the page Deploy asks for and shows: the formats on offer, and what an export left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compression.deployment.export_formats import FORMATS, obstacle
from compression.deployment.exported import ExportRecord, describe_parity, snippet
from compression.image_size import in_pixels
from compression.spec import FormatName, PrecisionName
from pages.parts import formats


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A format that can be chosen, or why it cannot.

    Attributes:
        format: its name.
        label: as it is shown.
        reason: why it cannot be made here, and what helps; empty where it can.
    """

    format: FormatName
    label: str
    reason: str


def offers(precision: PrecisionName, *, with_data: bool) -> list[Offer]:
    """All formats in a precision.

    Args:
        precision: of the files.
        with_data: whether a data set is named, which INT8 is calibrated on.
    """
    return [
        Offer(
            format=name,
            label=known.label,
            reason=obstacle(name, precision) or _without_data(name, precision, with_data),
        )
        for name, known in FORMATS.items()
    ]


def _without_data(name: FormatName, precision: PrecisionName, with_data: bool) -> str:
    if with_data or precision != "int8" or not FORMATS[name].calibrates:
        return ""
    return "INT8 is calibrated on training images; name a data set above."


@dataclass(frozen=True, kw_only=True)
class FileCard:
    """One exported file as it is shown.

    Attributes:
        key: tells it from other files of the page.
        path: the file or folder.
        title: format, precision, and what the file is fixed to.
        same: whether it detects the same as its checkpoint; None where that is not known.
        parity: in words, with figures.
        facts: size, what calibrated it, and when and by what it was made.
        sha256: of its content.
        warnings: a sentence each.
        snippet: a program that runs it, beside it.
        size: as it is shown.
    """

    key: str
    path: Path
    title: str
    same: bool | None
    parity: str
    facts: str
    sha256: str
    warnings: tuple[str, ...]
    snippet: str
    size: str


def file_cards(records: Sequence[ExportRecord]) -> list[FileCard]:
    """The files of one checkpoint, the newest first."""
    return [_card(record) for record in reversed(records)]


def _card(record: ExportRecord) -> FileCard:
    exported = record.exported
    label, batch = FORMATS[exported.format].label, f" · batch {exported.batch}" if exported.batch > 1 else ""
    versions = ", ".join(
        f"{name} {record.environment[name]}" for name in ("ultralytics", "torch") if name in record.environment
    )
    calibrates = exported.precision == "int8" and FORMATS[exported.format].calibrates
    calibrated = f"calibrated on {record.data}" if calibrates and record.data else ""
    facts = (formats.size(exported.size_bytes), calibrated, formats.day(record.created), versions)
    return FileCard(
        key=exported.path.name,
        path=exported.path,
        title=f"**{label}** · {exported.precision} · {in_pixels(exported.imgsz)} px{batch} · {exported.head} head",
        same=record.parity.is_same if record.parity else None,
        parity=describe_parity(record.parity) if record.parity else record.not_compared,
        facts=" · ".join(filter(None, facts)),
        sha256=exported.sha256,
        warnings=exported.warnings,
        snippet=snippet(exported, exported.path.name),
        size=formats.size(exported.size_bytes),
    )
