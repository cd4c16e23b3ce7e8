"""Exports of small models: what is asked of Ultralytics, what appears, and what is said where nothing does."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from ultralytics.utils import checks

from compression.data.dataset import open_dataset
from compression.deployment import export as module
from compression.deployment.export import CALIBRATION_IMAGES, export_checkpoint
from compression.deployment.exported import content_sha256
from compression.errors import ExportError, ModelError, SpecError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import file_sha256
from compression.spec import FormatName, PrecisionName
from tests.compression.small_models import DEEP, IMGSZ, original, outputs, pruned


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    file = tmp_path / "best.v2.pt"
    write_checkpoint(original("yolo26n"), file, {})
    return file


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Ultralytics was asked for, which it answers by a file of its own name in the place that it is told."""
    noted: list[dict[str, Any]] = []

    class Exporter:
        def __init__(self, overrides: dict[str, Any]) -> None:
            noted.append(overrides)

        def __call__(self, model: torch.nn.Module) -> str:
            file = Path(str(model.pt_path)).with_name("whatever it is called")
            file.write_bytes(b"exported")
            return str(file)

    monkeypatch.setattr(module, "Exporter", Exporter)
    monkeypatch.setattr(module, "obstacle", lambda format_, precision: None)
    return noted


def test_a_deeply_pruned_model_is_exported_as_it_is(tmp_path: Path) -> None:
    file, folder = tmp_path / "cut.pt", tmp_path / "has.pt in it"
    write_checkpoint(pruned("yolov8n", DEEP), file, {})
    before = file_sha256(file)
    exported = export_checkpoint(file, "torchscript", folder, imgsz=IMGSZ, batch=2)
    assert exported.path == folder / "cut-nms-64-batch2-fp32.torchscript"
    assert (exported.head, exported.size_bytes) == ("nms", exported.path.stat().st_size)
    assert exported.sha256 == file_sha256(exported.path)
    assert (exported.warnings, file_sha256(file)) == ((), before)
    # Nothing but the file is left.
    assert list(folder.iterdir()) == [exported.path]
    images = torch.rand(2, 3, IMGSZ, IMGSZ)
    module = pruned("yolov8n", DEEP)
    with torch.no_grad():
        # A checkpoint holds half-precision weights.
        torch.testing.assert_close(torch.jit.load(exported.path)(images), module(images)[0], rtol=0.02, atol=0.5)
    assert outputs(module)


def test_openvino_is_a_folder_that_replaces_an_earlier_one(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    folder = tmp_path / "out"
    (folder / "best.v2-e2e-64-fp32_openvino_model").mkdir(parents=True)
    (folder / "best.v2-e2e-64-fp32_openvino_model" / "of before").touch()
    exported = export_checkpoint(checkpoint, "openvino", folder, imgsz=IMGSZ)
    assert list(folder.iterdir()) == [exported.path]
    assert {file.suffix for file in exported.path.iterdir()} == {".xml", ".bin", ".yaml"}
    assert exported.sha256 == content_sha256(exported.path)
    assert exported.size_bytes == sum(file.stat().st_size for file in exported.path.iterdir())
    assert exported.warnings[0].startswith("On processors that have bfloat16, OpenVINO computes an fp32 file in that")
    # FP32 holds twice what the checkpoint does, less one of the two heads.
    assert exported.size_bytes > 1.5 * checkpoint.stat().st_size


def test_int8_is_calibrated_on_training_images(
    checkpoint: Path, tmp_path: Path, tiny_shapes: Path, asked: list[dict[str, Any]]
) -> None:
    dataset = open_dataset(str(tiny_shapes))
    exported = export_checkpoint(
        checkpoint, "openvino", tmp_path, imgsz=IMGSZ, batch=4, precision="int8", dataset=dataset
    )
    assert asked == [
        {
            "format": "openvino",
            "imgsz": IMGSZ,
            "batch": 4,
            "quantize": 8,
            "nms": False,
            "device": None,
            "data": str(dataset.yaml_file),
            "split": "train",
            "fraction": CALIBRATION_IMAGES,
            "mode": "export",
            "verbose": False,
        }
    ]
    assert exported.path.read_bytes() == b"exported"
    assert exported.path.name == f"best.v2-e2e-64-batch4-int8-{dataset.fingerprint[:8]}_openvino_model"


def test_each_format_is_asked_for_by_ultralytics_name(
    checkpoint: Path, tmp_path: Path, tiny_shapes: Path, asked: list[dict[str, Any]]
) -> None:
    dataset = open_dataset(str(tiny_shapes))
    questions: list[tuple[FormatName, PrecisionName]] = [(name, "fp32") for name in get_args(FormatName)]
    questions += [("tensorrt", "int8"), ("coreml", "int8"), ("tflite", "int8"), ("torchscript", "fp16")]
    heads = [
        export_checkpoint(checkpoint, name, tmp_path, imgsz=IMGSZ, precision=precision, dataset=dataset).head
        for name, precision in questions
    ]
    told = [(one["format"], one["quantize"], one["nms"], one["device"], one.get("split")) for one in asked]
    assert told == [
        ("onnx", None, False, None, None),
        ("openvino", None, False, None, None),
        ("engine", None, False, "0", None),
        ("torchscript", None, False, None, None),
        ("ncnn", None, None, None, None),
        ("coreml", None, False, None, None),
        ("litert", None, False, None, None),
        ("engine", 8, False, "0", "train"),
        ("coreml", 8, False, None, None),
        ("litert", 8, None, None, "train"),
        ("torchscript", 16, False, "0", None),
    ]
    assert heads == ["nms" if one["nms"] is None else "e2e" for one in asked]


def test_a_head_that_a_format_cannot_hold_is_told(
    checkpoint: Path, tmp_path: Path, tiny_shapes: Path, asked: list[dict[str, Any]]
) -> None:
    (warning,) = export_checkpoint(checkpoint, "ncnn", tmp_path, imgsz=IMGSZ).warnings
    assert warning.startswith("NCNN cannot hold the end-to-end head: this file gives the one-to-many predictions")
    dataset = open_dataset(str(tiny_shapes))
    exported = export_checkpoint(checkpoint, "tflite", tmp_path, imgsz=IMGSZ, precision="int8", dataset=dataset)
    assert exported.warnings[0].startswith("TFLite in int8 cannot hold the end-to-end head")
    assert export_checkpoint(checkpoint, "ncnn", tmp_path, imgsz=IMGSZ, head="nms").warnings == ()


def test_a_failure_is_one_sentence_and_leaves_what_was_there(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    before = export_checkpoint(checkpoint, "torchscript", folder, imgsz=IMGSZ)

    def fail(model: object) -> str:
        Path(f"{model.pt_path}.half").write_bytes(b"half a file")  # type: ignore[attr-defined]
        raise RuntimeError("ERROR ❌️ No kernel for it.\nTraceback and more")

    monkeypatch.setattr(module, "Exporter", lambda overrides: fail)
    with pytest.raises(ExportError, match=r"^TorchScript could not be made of 'best.v2': No kernel for it\.$"):
        export_checkpoint(checkpoint, "torchscript", folder, imgsz=IMGSZ)
    assert list(folder.iterdir()) == [before.path]
    assert file_sha256(before.path) == before.sha256


def test_what_makes_no_sense_is_refused_before_any_work(
    checkpoint: Path, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    plain = tmp_path / "yolo11n.pt"
    write_checkpoint(original("yolo11n"), plain, {})
    ask: dict[str, Any] = {"checkpoint": checkpoint, "format_": "onnx", "folder": tmp_path, "imgsz": IMGSZ}
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"format_": "onyx"}, SpecError, "There is no format 'onyx'"),
        ({"precision": "fp8"}, SpecError, "There is no precision 'fp8'"),
        ({"imgsz": 100}, ModelError, "Image size 100 is no multiple of this model's stride 32; use 96"),
        ({"imgsz": 0}, SpecError, "image size 0 is not possible"),
        ({"batch": 0}, SpecError, "batch 0 is not possible"),
        ({"device": "7"}, SpecError, "Device '7' is not there"),
        ({"precision": "int8"}, ExportError, "ONNX in int8 is calibrated on training images; name the data set"),
        ({"checkpoint": plain, "head": "e2e"}, ModelError, "has no end-to-end head"),
        ({"checkpoint": Path("yolo26n.yaml")}, ExportError, "has random weights"),
        ({"checkpoint": tmp_path / "none.pt"}, ModelError, "There is no model"),
    ]
    for changes, kind, message in cases:
        with pytest.raises(kind, match=message):
            export_checkpoint(**{**ask, **changes})
    assert asked == []


def test_what_is_not_installed_is_named(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "obstacle", lambda format_, precision: "NCNN needs ncnn.")
    with pytest.raises(ExportError, match=r"^NCNN needs ncnn\.$"):
        export_checkpoint(checkpoint, "ncnn", tmp_path, imgsz=IMGSZ)


def test_exports_install_nothing_and_report_to_nobody() -> None:
    assert checks.AUTOINSTALL is False
    with pytest.raises(ImportError):
        importlib.import_module("openvino_telemetry")
