"""Digits and units."""

from __future__ import annotations

import pytest

from pages.parts import formats


def test_figures() -> None:
    assert formats.accuracy(0.47649) == "0.476"
    assert formats.accuracy(None) == "not measured"
    assert [formats.gflops(value) for value in (22.775, 6.07, 0.451, None)] == ["22.8", "6.07", "0.45", "unknown"]
    assert formats.params(10_009_784) == "10.01 M"


@pytest.mark.parametrize(
    ("original", "value", "written"),
    [(10.0, 7.5, "-25.0%"), (10.0, 10.5, "+5.0%"), (10.0, 10.0, "0.0%"), (10.0, 9.9999, "0.0%"), (None, 1.0, None)],
)
def test_change(original: float | None, value: float, written: str | None) -> None:
    assert formats.change(original, value) == written


def test_sizes_times_and_days() -> None:
    assert [formats.size(n) for n in (5_400_000, 1_234)] == ["5.4 MB", "1.2 kB"]
    assert [formats.duration(s) for s in (45.4, 200, 7_500)] == ["45 s", "3 min 20 s", "2 h 5 min"]
    assert formats.day("2026-05-22T10:00:00+00:00") == "22 May 2026"
    assert formats.day("") == ""
