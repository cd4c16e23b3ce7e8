"""What a checkpoint can be exported to, and whether this machine can do it. Imports no torch, so that pages can ask."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from compression.errors import SpecError
from compression.spec import FormatName, HeadName, PrecisionName

ALL_SYSTEMS = ("Linux", "Darwin", "Windows")
_SYSTEM_NAMES = {"Darwin": "macOS"}

DEPLOY = "pip install 'trimboard[deploy]'"

# What Ultralytics' `quantize` calls the precisions; None leaves the weights as they are.
QUANTIZE: dict[PrecisionName, int | None] = {"fp32": None, "fp16": 16, "int8": 8}


@dataclass(frozen=True, kw_only=True)
class Format:
    """How files of one format are made, after Ultralytics 8.4.190, engine/exporter.py.

    Attributes:
        label: its name as its makers write it.
        argument: its name for Ultralytics' exporter.
        suffix: of the file, or of the folder where `is_folder`; Ultralytics knows the format by it.
        is_folder: whether several files belong together.
        precisions: those it can hold.
        end_to_end: precisions in which it can hold the end-to-end head; without it predictions need suppression.
        modules: Python modules that are imported for it.
        int8_modules: further ones for INT8.
        install: the command that installs them.
        runtime: packages that run the file by Ultralytics, as pip takes them.
        systems: where it can be made, as `platform.system()` names them.
        runs_on: where the file can be run.
        on_gpu: precisions that are made on an NVIDIA GPU only.
        caveats: what the user of a precision must know.
        calibrates: whether INT8 needs images; otherwise the weights alone are rounded.
    """

    label: str
    argument: str
    suffix: str
    is_folder: bool = False
    precisions: tuple[PrecisionName, ...] = get_args(PrecisionName)
    end_to_end: tuple[PrecisionName, ...] = get_args(PrecisionName)
    modules: tuple[str, ...] = ()
    int8_modules: tuple[str, ...] = ()
    install: str = ""
    runtime: str
    systems: tuple[str, ...] = ALL_SYSTEMS
    runs_on: tuple[str, ...] = ALL_SYSTEMS
    on_gpu: tuple[PrecisionName, ...] = ()
    caveats: Mapping[PrecisionName, str] = field(default_factory=dict)
    calibrates: bool = True


FORMATS: dict[FormatName, Format] = {
    "onnx": Format(
        label="ONNX",
        argument="onnx",
        suffix=".onnx",
        modules=("onnx", "onnxslim", "onnxruntime"),
        install=DEPLOY,
        runtime="ultralytics onnx onnxruntime",
    ),
    "openvino": Format(
        label="OpenVINO",
        argument="openvino",
        suffix="_openvino_model",
        is_folder=True,
        modules=("openvino",),
        int8_modules=("nncf",),
        caveats={
            "fp32": "On processors that have bfloat16, OpenVINO computes an fp32 file in that, which moves scores by "
            "some hundredths; a program that must not sets INFERENCE_PRECISION_HINT to f32."
        },
        install=DEPLOY,
        runtime="ultralytics openvino",
    ),
    "tensorrt": Format(
        label="TensorRT",
        argument="engine",
        suffix=".engine",
        modules=("onnx", "onnxslim", "onnxruntime", "tensorrt"),
        install=f"{DEPLOY} tensorrt",
        systems=("Linux", "Windows"),
        runs_on=("Linux", "Windows"),
        on_gpu=get_args(PrecisionName),
        runtime="ultralytics tensorrt",
    ),
    "torchscript": Format(
        label="TorchScript",
        argument="torchscript",
        suffix=".torchscript",
        precisions=("fp32", "fp16"),
        on_gpu=("fp16",),
        runtime="ultralytics",
    ),
    "ncnn": Format(
        label="NCNN",
        argument="ncnn",
        suffix="_ncnn_model",
        is_folder=True,
        precisions=("fp32", "fp16"),
        end_to_end=(),
        modules=("ncnn", "pnnx"),
        # The release of pnnx that Ultralytics asks for: later ones crash in inference.
        install="pip install ncnn pnnx==20260526",
        runtime="ultralytics ncnn",
    ),
    "coreml": Format(
        label="CoreML",
        argument="coreml",
        suffix=".mlpackage",
        is_folder=True,
        modules=("coremltools",),
        int8_modules=("sklearn",),
        install="pip install 'coremltools>=9' scikit-learn",
        systems=("Linux", "Darwin"),
        runs_on=("Darwin",),
        calibrates=False,
        runtime="ultralytics coremltools",
    ),
    "tflite": Format(
        label="TFLite",
        argument="litert",
        suffix=".tflite",
        precisions=("fp32", "int8"),
        end_to_end=("fp32",),
        modules=("litert_torch", "ai_edge_litert"),
        int8_modules=("ai_edge_quantizer",),
        install="pip install 'litert-torch>=0.10' 'ai-edge-litert>=2.3' 'ai-edge-quantizer>=0.10'",
        systems=("Linux", "Darwin"),
        runtime="ultralytics ai-edge-litert",
    ),
}


def available_formats(precision: PrecisionName = "fp32") -> dict[FormatName, str | None]:
    """Each format with the sentence that says why it cannot be made here; None where it can."""
    return {name: obstacle(name, precision) for name in FORMATS}


def obstacle(format_: FormatName, precision: PrecisionName) -> str | None:
    """Why a file cannot be made on this machine and what helps, in one sentence; None where it can.

    Nothing is imported: whether a package is there is asked, not whether it works.
    """
    known = FORMATS[format_]
    if precision not in known.precisions:
        return f"{known.label} has no {precision}; choose {' or '.join(known.precisions)}."
    if platform.system() not in known.systems:
        return f"{known.label} can be made on {_names(known.systems)} only."
    if precision in known.on_gpu and shutil.which("nvidia-smi") is None:
        which = "" if len(known.on_gpu) == len(known.precisions) else f" in {precision}"
        return f"{known.label}{which} is made on an NVIDIA GPU, and this machine has none; run the export there."
    modules = (*known.modules, *(known.int8_modules if precision == "int8" else ()))
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        return f"{known.label} needs {' and '.join(missing)}, which {verb} not installed; run: {known.install}"
    return None


def head_of(format_: FormatName, precision: PrecisionName, asked: HeadName) -> HeadName:
    """The predictions that a file gives where those are asked for: the end-to-end ones where the format can."""
    return "e2e" if asked == "e2e" and precision in FORMATS[format_].end_to_end else "nms"


def parse_formats(text: str) -> list[FormatName]:
    """Formats as typed, each once: "onnx,openvino".

    Raises:
        SpecError: there is none, or one is unknown.
    """
    return _parsed("format", text, get_args(FormatName))


def parse_precisions(text: str) -> list[PrecisionName]:
    """Precisions as typed, each once: "fp32,int8".

    Raises:
        SpecError: there is none, or one is unknown.
    """
    return _parsed("precision", text, get_args(PrecisionName))


def _parsed(noun: str, text: str, known: tuple[Any, ...]) -> list[Any]:
    named = list(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    unknown = [name for name in named if name not in known] or ([] if named else [text])
    if unknown:
        raise SpecError(f"There is no {noun} {unknown[0]!r}; choose from {', '.join(known)}.")
    return named


def idle_reason(format_: FormatName) -> str | None:
    """Why a file that was made here cannot be run here, in one sentence; None where it can."""
    known = FORMATS[format_]
    if platform.system() in known.runs_on:
        return None
    return f"{known.label} runs on {_names(known.runs_on)} only, so it was not compared with its checkpoint here."


def _names(systems: tuple[str, ...]) -> str:
    return " and ".join(_SYSTEM_NAMES.get(system, system) for system in systems)
