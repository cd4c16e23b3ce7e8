"""The command `trimboard export`: what it takes, what it leaves out, and what it writes."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest

from cache.artifacts import file_sha256
from cache.shipped import SHIPPED
from cache.store import own_store
from compression.cli.export import add_export_command
from compression.deployment import deploy as deploying
from compression.deployment.exported import ExportRecord
from compression.errors import ExportError, ModelError
from tests import factories
from tests.compression.deployment.test_exported import record_of

LEVEL_5 = SHIPPED / "shapes" / "yolo26n-level5.pt"


def run(*arguments: str) -> str:
    """What the command writes to stdout."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def add(name: str, command: Callable[[argparse.Namespace, TextIO], None], text: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=text)
        subparser.set_defaults(command=command)
        subparser.add_argument("--json", action="store_true")
        return subparser

    add_export_command(add)
    options, results = parser.parse_args(["export", *arguments]), io.StringIO()
    options.command(options, results)
    return results.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "best-e2e-320-fp32.onnx"
    path.write_bytes(b"a file")
    return path


@pytest.fixture
def asked(file: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked for; ONNX is given, all else is not there."""
    noted: list[dict[str, Any]] = []

    def deploy(detector: object, format_: str, **options: Any) -> ExportRecord:
        noted.append({"detector": detector, "format": format_, **options})
        if format_ != "onnx":
            raise ExportError(f"{format_} is not here.")
        return record_of(file)

    monkeypatch.setattr(deploying, "deploy", deploy)
    return noted


def test_each_file_is_told_with_its_snippet(
    file: Path, asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = run(str(LEVEL_5), "--format", "ncnn,onnx", "--precision", "int8,fp32", "--imgsz", "64", "--out", "there")
    first, second, third, *rest = out.splitlines()
    assert first == str(file)
    assert second == f"6 bytes, sha256 {record_of(file).exported.sha256}"
    assert third.startswith("398 of 400 detections on 64 validation images of shapes are found again")
    assert rest[0] == "A warning."
    assert f'    model = YOLO("{file}", task="detect")' in rest
    # What is not there is left out, and told.
    assert capsys.readouterr().err == "trimboard: ncnn is not here.\ntrimboard: ncnn is not here.\n"
    assert [(one["precision"], one["format"]) for one in asked] == [
        ("int8", "ncnn"),
        ("int8", "onnx"),
        ("fp32", "ncnn"),
        ("fp32", "onnx"),
    ]
    assert (asked[0]["imgsz"], asked[0]["dataset"], asked[0]["folder"]) == (64, None, Path("there").resolve())


def test_json_holds_files_and_what_was_left_out(file: Path, asked: list[dict[str, Any]]) -> None:
    found = json.loads(run(str(LEVEL_5), "--format", "onnx,ncnn", "--json"))
    assert found["left_out"] == ["ncnn is not here."]
    (only,) = found["files"]
    assert only["exported"]["path"] == str(file)
    assert only["parity"]["n_equal"] == 390
    assert "YOLO(" in only["snippet"]


def test_where_nothing_is_left_the_reasons_are_the_error(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(ExportError, match=r"^ncnn is not here\. coreml is not here\.$"):
        run(str(LEVEL_5), "--format", "ncnn,coreml")


def test_the_image_size_is_that_of_the_run(asked: list[dict[str, Any]]) -> None:
    run(str(LEVEL_5))
    assert asked[0]["imgsz"] == 320


def test_a_key_stands_for_the_checkpoint_of_its_result(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # To draw it takes a while.
    monkeypatch.setattr("compression.data.dataset.open_dataset", lambda data, task: f"the {task} data set {data}")
    of_level_5 = [one for one in own_store().heads("yolo26n", "shapes") if one.level == 5]
    (level_5,) = (one for one in of_level_5 if one.checkpoint_sha256 == file_sha256(LEVEL_5))
    run(level_5.key[:10])
    assert asked[0]["detector"].file == LEVEL_5
    assert asked[0]["imgsz"] == level_5.imgsz
    # The built-in data set is drawn wherever it is asked for.
    assert asked[0]["dataset"] == "the detect data set shapes"


def test_keys_that_stand_for_nothing_are_refused(asked: list[dict[str, Any]]) -> None:
    with pytest.raises(ModelError, match=r"There is no checkpoint 'abcdef'; give the path of a \.pt, or at least 4"):
        run("abcdef")
    spec = factories.spec(3)
    own_store().save(replace(factories.record(3, spec=spec)))
    with pytest.raises(ModelError, match=f"The checkpoint of result {spec.key[:12]} .* is not on this machine"):
        run(spec.key)
