"""The table of families: what the page shows is what was measured, and nothing there is wrong."""

from __future__ import annotations

from benchmarks.matrix import COLUMNS, PAGE, RESULTS, _rows, examine, page
from compression.catalog import CATALOG


def test_the_page_shows_what_was_measured() -> None:
    assert page() == PAGE.read_text(encoding="utf-8")
    rows = _rows()
    assert RESULTS.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert [row["model"] for row in rows] == [name for name in CATALOG if name in {row["model"] for row in rows}]


def test_every_cut_that_was_measured_is_right() -> None:
    for row in _rows():
        assert row["zero_cut_equal"] == row["reload_equal"] == "True", row["model"]
        assert abs(float(row["counted_error_pct"])) < 1e-6, row["model"]
        assert float(row["target_error_points"]) <= 0.5, row["model"]


def test_one_row() -> None:
    row = examine("yolov8n")
    assert tuple(row) == COLUMNS
    (shown,) = (each for each in _rows() if each["model"] == "yolov8n")
    for column in ("gflops", "params", "free_pct", "locked", "zero_cut_equal", "reload_equal"):
        assert str(row[column]) == shown[column]
