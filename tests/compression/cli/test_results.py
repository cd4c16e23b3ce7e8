"""The commands that hand results on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cache.store import own_store
from compression.cli.results import add_results_commands
from tests.cache.samples import make_record, make_spec
from tests.commands import run_command

FIRST, SECOND = make_record(), make_record(make_spec(level=None, data="bccd"), model="yolo26s")


def run(*arguments: str) -> str:
    return run_command(add_results_commands, *arguments)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for record in (FIRST, SECOND):
        own_store().save(record)
    return tmp_path / "results.zip"


def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMBOARD_HOME", str(tmp_path / "elsewhere"))


def test_export_and_import_tell_what_they_did(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = run("export-results", str(file), "--checkpoints").splitlines()
    assert header.split() == ["key", "model", "data", "level", "state", "files"]
    assert sorted(row.split()[1:] for row in rows) == [
        ["my-yolo26n", "shapes", "5", "exported", "0"],
        ["yolo26s", "bccd", "custom", "exported", "0"],
    ]
    assert capsys.readouterr().err == (
        f"2 results written to {file}\n2 of them went without their checkpoint, which is neither here nor shared.\n"
    )
    elsewhere(tmp_path, monkeypatch)
    own_store().save(make_record(warnings=("Mine.",)))
    told = {row.split()[0]: row.split()[4] for row in run("import-results", str(file)).splitlines()[1:]}
    assert told == {FIRST.key[:12]: "conflict", SECOND.key[:12]: "added"}
    assert "Where the file has another result of the same key, yours was kept; --replace" in capsys.readouterr().err
    run("import-results", str(file), "--replace")
    assert capsys.readouterr().err in ("1 replaced, 1 same\n", "1 same, 1 replaced\n")
    found = own_store().find(FIRST.key)
    assert found is not None
    assert found.warnings == FIRST.warnings


def test_json_gives_whole_keys(file: Path) -> None:
    rows = json.loads(run("export-results", str(file), "--json", "--model", "some/yolo26s.pt", "--data", "bccd"))
    assert rows == [
        {"key": SECOND.key, "model": "yolo26s", "data": "bccd", "level": "custom", "state": "exported", "files": 0}
    ]
    assert [row["state"] for row in json.loads(run("import-results", str(file), "--json"))] == ["same"]
