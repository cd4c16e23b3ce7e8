"""The command that writes a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cache.store import own_store
from compression.cli.main import main
from compression.cli.report import add_report_command
from tests import factories
from tests.commands import run_command


def _save() -> None:
    for record in factories.series((0, 3), data="cells", data_source="/home/ada/cells/data.yaml"):
        own_store().save(record)


def test_it_writes_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _save()
    monkeypatch.chdir(tmp_path)
    assert run_command(add_report_command, "report", "yolo26n", "--data", "cells") == "trimboard-yolo26n-cells.html\n"
    written = (tmp_path / "trimboard-yolo26n-cells.html").read_text()
    assert "<h1>yolo26n on cells</h1>" in written
    assert "--data=/home/ada/cells/data.yaml" in written
    assert capsys.readouterr().err.startswith("2 results, ")


def test_json_names_file_and_results_and_places_can_be_left_out(tmp_path: Path) -> None:
    _save()
    out = tmp_path / "report.html"
    told = run_command(
        add_report_command,
        *("report", "in/yolo26n.pt", "--data", "cells", "--out", str(out)),
        "--json",
        "--without-places",
    )
    keys = [record.key for record in own_store().records(data="cells")]
    assert json.loads(told) == {"out": str(out), "bytes": out.stat().st_size, "results": keys}
    assert "/home/ada" not in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nope", "--data", "cells"), "Nothing is measured of 'nope' on 'cells'"),
        (("yolo26n", "--data", "orchard"), "Nothing is measured of 'yolo26n' on 'orchard'"),
        (("yolo26s", "--data", "coco"), "Nothing is measured of 'yolo26s' on 'coco'"),
        (("yolo26n", "--data", "cells", "--conditions", "magic"), "not measured under the conditions 'magic'"),
        (("yolo26n", "--data", "cells", "--out", "/no/such/folder/r.html"), "/no/such/folder/r.html cannot be written"),
    ],
)
def test_bad_input_is_told_in_one_sentence(
    arguments: tuple[str, ...], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _save()
    with pytest.raises(SystemExit) as stopped:
        main(["report", *arguments])
    told = capfd.readouterr().err
    assert stopped.value.code == 2
    assert sentence in told
    assert len(told.splitlines()) == 1
