"""How figures are written: digits and units, the same on every page and as in the published table."""

from __future__ import annotations

from datetime import datetime

from cache.comparison import change_pct

NOT_MEASURED = "not measured"
UNKNOWN = "unknown"
NO_CHANGE = "0.0%"


def accuracy(value: float | None) -> str:
    """A part of 1 with three digits: 0.512."""
    return NOT_MEASURED if value is None else f"{value:.3f}"


def gflops(value: float | None) -> str:
    """One decimal, two where one would hide a level's step: 22.8, 6.07, 0.45."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def params(value: float | None) -> str:
    """Millions: 10.01 M."""
    return UNKNOWN if value is None else f"{value / 1e6:.2f} M"


def change(original: float | None, value: float | None) -> str | None:
    """Relative change with its sign: -22.4%; None where it cannot be told."""
    percent = change_pct(original, value)
    if percent is None:
        return None
    rounded = round(percent, 1)
    return f"{rounded:+.1f}%" if rounded else NO_CHANGE


def size(n_bytes: int) -> str:
    """Megabytes of 1e6 bytes: 5.4 MB."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 50_000 else f"{n_bytes / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """Two units at most: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def day(iso: str) -> str:
    """The day of an ISO 8601 date and time: 22 May 2026; the text itself if it is none."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{moment.day} {moment:%B %Y}"
