"""What is kept of an exported file, and how it is told."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from compression.deployment.exported import (
    Exported,
    ExportRecord,
    Parity,
    content_sha256,
    describe_parity,
    export_path,
    find_export,
    find_exports,
    packed,
    save_export,
    size_of,
    snippet,
)
from compression.errors import ExportError

PARITY = Parity(
    images="validation images of shapes",
    n_images=64,
    n_checkpoint=400,
    n_exported=401,
    n_matched=398,
    n_equal=390,
    max_box_px=3.21,
    max_score=0.0812,
)
SAME = replace(PARITY, n_exported=400, n_matched=400, n_equal=400, max_box_px=0.00042, max_score=0.0000019)


def record_of(path: Path, **changes: object) -> ExportRecord:
    """A record of a file that lies there."""
    exported = Exported(
        format="onnx",
        precision="fp32",
        imgsz=320,
        batch=1,
        head="e2e",
        path=path,
        size_bytes=size_of(path),
        sha256=content_sha256(path),
        warnings=("A warning.",),
    )
    record = ExportRecord(
        exported=exported,
        parity=PARITY,
        not_compared="",
        checkpoint_sha256="ab" * 32,
        data="shapes",
        data_fingerprint="cd" * 32,
        created="2026-05-22T10:00:00+00:00",
        environment={"torch": "2.14"},
    )
    return replace(record, **changes)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "best-e2e-320-fp32.onnx"
    path.write_bytes(b"a file")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A format of several files."""
    path = tmp_path / "best-e2e-320-fp32_openvino_model"
    (path / "sub").mkdir(parents=True)
    (path / "best.xml").write_bytes(b"<xml>")
    (path / "sub" / "best.bin").write_bytes(b"weights")
    return path


def test_names_tell_files_apart() -> None:
    def name(**changes: object) -> str:
        asked = {"precision": "fp32", "imgsz": 320, "batch": 1, "head": "e2e", **changes}
        return export_path(Path("here"), "best", "ncnn" if "head" in changes else "onnx", **asked).name  # type: ignore[arg-type]

    assert name() == "best-e2e-320-fp32.onnx"
    assert name(precision="int8", batch=8) == "best-e2e-320-batch8-int8.onnx"
    # Calibrated on other images it is another file; without calibration it is the same.
    assert name(precision="int8", calibration="0123456789abcdef") == "best-e2e-320-int8-01234567.onnx"
    assert name(calibration="0123456789abcdef") == name()
    # The file cannot hold what is asked for, and its name says what it holds.
    assert name(head="e2e") == "best-nms-320-fp32_ncnn_model"


def test_a_folder_has_a_hash_of_names_and_contents(folder: Path, tmp_path: Path) -> None:
    lines = [
        f"best.xml\0{hashlib.sha256(b'<xml>').hexdigest()}\n",
        f"sub/best.bin\0{hashlib.sha256(b'weights').hexdigest()}\n",
    ]
    before = content_sha256(folder)
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert size_of(folder) == 12
    moved = folder.rename(tmp_path / "moved")
    assert content_sha256(moved) == before
    (moved / "best.xml").rename(moved / "other.xml")
    assert content_sha256(moved) != before


def test_a_record_survives_json(file: Path) -> None:
    record = record_of(file)
    assert ExportRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    uncompared = record_of(file, parity=None, not_compared="Why.")
    assert ExportRecord.from_dict(json.loads(json.dumps(uncompared.to_dict()))) == uncompared


@pytest.mark.parametrize("change", [{"version": 9}, {"parity": {}}, {"created": 3}, {"exported": None}, {"more": 1}])
def test_a_damaged_record_is_refused(file: Path, change: dict[str, object]) -> None:
    with pytest.raises(ExportError, match=r"^A kept export "):
        ExportRecord.from_dict({**record_of(file).to_dict(), **change})


def test_a_kept_file_is_found_where_it_lies(file: Path, folder: Path, tmp_path: Path) -> None:
    assert find_exports(tmp_path) == []
    later = record_of(folder, created="2026-05-23T10:00:00+00:00")
    for record in (later, record_of(file)):
        save_export(record)
    assert find_exports(tmp_path) == [record_of(file), later]
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    found = find_export(moved / file.name)
    assert found is not None
    assert found.exported.path == moved / file.name
    # A file that is gone, cut off, or without a record was not made here.
    (moved / file.name).write_bytes(b"a fil")
    (moved / folder.name / "best.xml").unlink()
    (moved / "other.onnx.export.json").write_text("no JSON")
    assert find_exports(moved) == []


def test_a_folder_is_downloaded_as_a_zip_file(file: Path, folder: Path) -> None:
    assert packed(file) == b"a file"
    with zipfile.ZipFile(io.BytesIO(packed(folder))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            f"{folder.name}/best.xml": b"<xml>",
            f"{folder.name}/sub/best.bin": b"weights",
        }


def test_parity_in_words() -> None:
    assert describe_parity(PARITY) == (
        "398 of 400 detections on 64 validation images of shapes are found again, 390 of them equal; 2 lost, 3 gained. "
        "Largest difference: boxes 3.2 px, scores 0.081."
    )
    assert describe_parity(SAME) == (
        "Same detections: all 400 on 64 validation images of shapes are equal. "
        "Largest difference: boxes under 0.001 px, scores under 0.001."
    )
    nothing = replace(PARITY, n_checkpoint=0, n_exported=0, n_matched=0, n_equal=0, max_box_px=None, max_score=None)
    assert not nothing.is_same
    assert describe_parity(nothing) == (
        "Nothing to compare: neither the checkpoint nor the file detects anything on 64 validation images of shapes."
    )
    lost = replace(nothing, n_checkpoint=3)
    assert describe_parity(lost) == "0 of 3 detections on 64 validation images of shapes are found again; 3 lost."
    more = replace(SAME, n_exported=402)
    assert describe_parity(more).split(" Largest")[0] == (
        "400 of 400 detections on 64 validation images of shapes are found again, all of them equal; 2 gained."
    )


def test_a_snippet_says_what_it_needs(file: Path) -> None:
    exported = record_of(file).exported
    assert snippet(exported, "a 'b' \"c\".onnx") == (
        "# pip install ultralytics onnx onnxruntime\n"
        "from ultralytics import YOLO\n"
        "from ultralytics.utils import ASSETS\n"
        "\n"
        'model = YOLO("a \'b\' \\"c\\".onnx", task="detect")\n'
        'for box in model(ASSETS / "bus.jpg", imgsz=320)[0].boxes:  # or the path of your image\n'
        "    print(model.names[int(box.cls)], round(float(box.conf), 3), box.xyxy[0].tolist())\n"
    )
    half = replace(exported, format="torchscript", precision="fp16")
    assert "imgsz=320, quantize=16)" in snippet(half, "x.torchscript")
