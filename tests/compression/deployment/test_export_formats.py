"""What can be exported here, and what is said where it cannot."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from importlib.machinery import ModuleSpec
from typing import get_args

import pytest
from ultralytics.engine.exporter import FP16_FORMATS, INT8_FORMATS, export_formats

from compression.deployment import export_formats as ours
from compression.errors import SpecError
from compression.spec import FormatName

FOUND = ModuleSpec("found", None)


def machine(patch: pytest.MonkeyPatch, system: str, *, gpu: bool = False, without: tuple[str, ...] = ()) -> None:
    """Be a machine that has every module but those."""
    patch.setattr(importlib.util, "find_spec", lambda name: None if name in without else FOUND)
    patch.setattr(platform, "system", lambda: system)
    patch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if gpu else None)


def test_all_formats_are_as_ultralytics_makes_them() -> None:
    table = export_formats()
    theirs = {
        argument: row for argument, *row in zip(table["Argument"], table["Suffix"], table["Arguments"], strict=True)
    }
    assert list(ours.FORMATS) == list(get_args(FormatName))
    for known in ours.FORMATS.values():
        suffix, arguments = theirs[known.argument]
        assert known.suffix == suffix
        assert known.calibrates == ("data" in arguments) or "int8" not in known.precisions
        assert ("fp16" in known.precisions) == (known.argument in FP16_FORMATS)
        assert ("int8" in known.precisions) == (known.argument in INT8_FORMATS)


def test_what_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "Linux", without=("nncf", "onnxslim", "pnnx", "ncnn"))
    assert ours.obstacle("onnx", "fp32") == (
        "ONNX needs onnxslim, which is not installed; run: pip install 'trimboard[deploy]'"
    )
    assert ours.obstacle("openvino", "fp32") is None
    assert ours.obstacle("openvino", "int8") == (
        "OpenVINO needs nncf, which is not installed; run: pip install 'trimboard[deploy]'"
    )
    assert ours.available_formats()["ncnn"] == (
        "NCNN needs ncnn and pnnx, which are not installed; run: pip install ncnn pnnx==20260526"
    )


def test_a_format_has_its_precisions_systems_and_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "Linux")
    assert ours.obstacle("tensorrt", "fp32") == (
        "TensorRT is made on an NVIDIA GPU, and this machine has none; run the export there."
    )
    assert ours.obstacle("torchscript", "fp16") == (
        "TorchScript in fp16 is made on an NVIDIA GPU, and this machine has none; run the export there."
    )
    assert ours.obstacle("torchscript", "int8") == "TorchScript has no int8; choose fp32 or fp16."
    assert ours.idle_reason("coreml") == "CoreML runs on macOS only, so it was not compared with its checkpoint here."
    assert ours.idle_reason("onnx") is None
    machine(monkeypatch, "Windows", gpu=True)
    assert ours.obstacle("coreml", "fp32") == "CoreML can be made on Linux and macOS only."
    assert ours.obstacle("tensorrt", "int8") is None


def test_end_to_end_predictions_where_the_format_holds_them() -> None:
    assert ours.head_of("onnx", "int8", "e2e") == "e2e"
    assert ours.head_of("onnx", "fp32", "nms") == "nms"
    assert ours.head_of("ncnn", "fp32", "e2e") == "nms"
    assert (ours.head_of("tflite", "fp32", "e2e"), ours.head_of("tflite", "int8", "e2e")) == ("e2e", "nms")


def test_lists_are_read_as_typed() -> None:
    assert ours.parse_formats(" OpenVINO,onnx,openvino") == ["openvino", "onnx"]
    assert ours.parse_precisions("int8") == ["int8"]
    with pytest.raises(SpecError, match="There is no format 'onyx'; choose from onnx, openvino, tensorrt"):
        ours.parse_formats("onnx,onyx")
    with pytest.raises(SpecError, match="There is no precision ','; choose from fp32, fp16, int8"):
        ours.parse_precisions(",")
