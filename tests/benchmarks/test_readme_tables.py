"""The README's tables are those that the benchmark prints of what is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import readme_tables

README = Path(__file__).parents[2] / "README.md"


def test_the_tables_of_the_readme_are_those_that_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    readme_tables.main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    # A heading and six levels of each data set, and a heading and five levels by the defaults.
    assert len(printed) == 20
    assert set(printed) <= set(README.read_text(encoding="utf-8").splitlines())
