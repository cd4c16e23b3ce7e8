"""What runs a detector: torch, ONNX Runtime, OpenVINO, TensorRT or CUDA, one forward pass at a time."""

from __future__ import annotations

import importlib.util
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import nn
from ultralytics.nn.autobackend import AutoBackend

from compression.environment import package_version, processor
from compression.errors import ModelError, SpecError, TrimboardError
from compression.image_size import ImageSize, height_width
from compression.models.detector import n_channels, read_checkpoint
from compression.spec import BackendName, FormatName, HeadName, PrecisionName

Pass = Callable[[], object]
Images = NDArray[Any]

# A pass takes as long for any values but denormal ones, which do not occur in images.
_SEED = 0
# After so many passes a backend holds all the memory that it will.
_PASSES_FOR_MEMORY = 3
MEGA = 1e6


@dataclass(frozen=True, kw_only=True)
class Backend:
    """What has to be known of a backend before it is asked to run.

    Attributes:
        format: of the file that it runs; None for the checkpoint itself.
        package: that runs it, and whose version is noted.
        module: by which that package is imported.
        on_gpu: it needs one of NVIDIA's.
        precisions: that it computes in.
        remedy: how to get it.
    """

    format: FormatName | None
    package: str
    module: str
    on_gpu: bool
    precisions: tuple[PrecisionName, ...]
    remedy: str


_DEPLOY = "run: pip install 'trimboard[deploy]'"
BACKENDS: dict[BackendName, Backend] = {
    "torch": Backend(
        format=None, package="torch", module="torch", on_gpu=False, precisions=("fp32",), remedy="install PyTorch"
    ),
    "onnx": Backend(
        format="onnx",
        package="onnxruntime",
        module="onnxruntime",
        on_gpu=False,
        precisions=("fp32", "fp16", "int8"),
        remedy=_DEPLOY,
    ),
    "openvino": Backend(
        format="openvino",
        package="openvino",
        module="openvino",
        on_gpu=False,
        precisions=("fp32", "fp16", "int8"),
        remedy=_DEPLOY,
    ),
    "tensorrt": Backend(
        format="tensorrt",
        package="tensorrt",
        module="tensorrt",
        on_gpu=True,
        precisions=("fp32", "fp16", "int8"),
        remedy="run on a machine with an NVIDIA GPU: pip install tensorrt",
    ),
    "cuda": Backend(
        format=None,
        package="torch",
        module="torch",
        on_gpu=True,
        precisions=("fp32", "fp16"),
        remedy="run on a machine with an NVIDIA GPU",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a backend is to run.

    Attributes:
        backend: which one.
        precision: of the arithmetic.
        imgsz: size of the input.
        batch: images a pass.
        threads: of the processor; does not matter on a GPU.
        head: whose predictions are computed.
    """

    backend: BackendName
    precision: PrecisionName
    imgsz: ImageSize
    batch: int
    threads: int
    head: HeadName

    @property
    def device(self) -> str:
        """Ultralytics' device string of what does the work."""
        return "0" if BACKENDS[self.backend].on_gpu else "cpu"

    def __post_init__(self) -> None:
        for name, value in (("batch", self.batch), ("threads", self.threads)):
            if value < 1:
                raise SpecError(f"{name} {value} is not possible; give a whole number from 1 up.")
        known = BACKENDS[self.backend].precisions
        if self.precision not in known:
            raise SpecError(
                f"Backend {self.backend} does not compute in {self.precision}; choose one of {', '.join(known)}."
            )


def why_not_here(backend: BackendName) -> str:
    """Why this machine cannot run a backend, and what would help, as one sentence; empty where it can."""
    asked = BACKENDS[backend]
    if importlib.util.find_spec(asked.module) is None:
        return f"Backend {backend} is left out: {asked.package} is not installed; {asked.remedy}."
    if asked.on_gpu and not torch.cuda.is_available():
        return f"Backend {backend} is left out: this machine has no NVIDIA GPU that PyTorch can use; {asked.remedy}."
    return ""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What times are of, besides the model and the setting.

    Attributes:
        machine: processor or GPU.
        backend_version: of the package that runs models there.
    """

    machine: str
    backend_version: str


def bench_here(backend: BackendName) -> Bench:
    """What a backend computes on and with, on this machine, where it can."""
    machine = torch.cuda.get_device_name() if BACKENDS[backend].on_gpu else processor()
    return Bench(machine=machine, backend_version=package_version(BACKENDS[backend].package))


@contextmanager
def told_plainly(place: Path, backend: BackendName) -> Iterator[None]:
    """Turn what a backend raises of its own into one sentence.

    Raises:
        ModelError: it cannot run the model.
    """
    try:
        yield
    except TrimboardError:
        raise
    except Exception as error:  # each backend has errors of its own
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise ModelError(f"{place.name!r} cannot be run on {backend}: {reason}.") from error


def open_pass(place: Path, setting: Setting) -> Pass:
    """Load a model, and give what runs it once on images that are in place; it returns when the work is done.

    Args:
        place: the checkpoint, or the exported file or folder, that the backend runs.
        setting: how.

    Raises:
        ModelError: a checkpoint cannot be opened by the restricted loader.
    """
    return _OPENERS[setting.backend](place, setting)


def _images(setting: Setting, dtype: type[np.float32] | type[np.float16], channels: int) -> Images:
    """[B, channels, H, W] in [0, 1]."""
    shape = (setting.batch, channels, *height_width(setting.imgsz))
    return np.random.default_rng(_SEED).random(shape, dtype=np.float32).astype(dtype)


def torch_runner(place: Path, setting: Setting) -> tuple[nn.Module, Pass]:
    """The model as Ultralytics itself runs it, fused and with one head, and what runs it once.

    Args:
        place: the checkpoint.
        setting: how; on a CPU or a GPU.
    """
    on_gpu = BACKENDS[setting.backend].on_gpu
    if not on_gpu:
        torch.set_num_threads(setting.threads)
    model = read_checkpoint(place)[0]
    run = _auto_backend(model, setting, torch.device("cuda:0" if on_gpu else "cpu"))
    if on_gpu:
        return model, _on_gpu(run, setting, n_channels(model))
    images = torch.from_numpy(_images(setting, np.float32, n_channels(model)))
    return model, lambda: run(images)


def _open_torch(place: Path, setting: Setting) -> Pass:
    return torch_runner(place, setting)[1]


def _open_tensorrt(place: Path, setting: Setting) -> Pass:
    run = _auto_backend(place, setting, torch.device("cuda:0"))
    # Ultralytics' exports of other than colour images say so.
    return _on_gpu(run, setting, getattr(run, "channels", 3))


def _auto_backend(model: Any, setting: Setting, device: torch.device) -> AutoBackend:
    fp16 = setting.precision == "fp16" and BACKENDS[setting.backend].format is None
    return AutoBackend(model, device=device, fp16=fp16, verbose=False, end2end=setting.head == "e2e")


def _on_gpu(run: AutoBackend, setting: Setting, channels: int) -> Pass:
    dtype = np.float16 if setting.precision == "fp16" and BACKENDS[setting.backend].format is None else np.float32
    images = torch.from_numpy(_images(setting, dtype, channels)).to("cuda:0")

    def once() -> None:
        run(images)
        torch.cuda.synchronize()

    return once


def onnx_session(place: Path, setting: Setting, profile: Path | None = None) -> tuple[Any, dict[str, Images]]:
    """A session of ONNX Runtime and what to feed it with.

    Args:
        place: the exported file.
        setting: how to run it.
        profile: beginning of the name of the file that the session's profiler writes; None for no profiler.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = setting.threads, 1
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    session = onnxruntime.InferenceSession(str(place), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    dtype = np.float16 if entry.type == "tensor(float16)" else np.float32
    return session, {entry.name: _images(setting, dtype, entry.shape[1])}


def _open_onnx(place: Path, setting: Setting) -> Pass:
    session, feed = onnx_session(place, setting)
    return lambda: session.run(None, feed)


def compile_openvino(place: Path, setting: Setting, *, profile: bool = False) -> Any:
    """A model of OpenVINO as it is timed, and as its accuracy is measured.

    Args:
        place: the exported folder.
        setting: how to run it.
        profile: count the time of each node.
    """
    import openvino

    options = {"INFERENCE_NUM_THREADS": setting.threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if setting.precision == "fp32":
        # By itself OpenVINO computes in bfloat16 where the processor can.
        options["INFERENCE_PRECISION_HINT"] = "f32"
    if profile:
        options["PERF_COUNT"] = True
    (model,) = place.glob("*.xml")
    return openvino.Core().compile_model(str(model), "CPU", options)


def openvino_request(place: Path, setting: Setting, *, profile: bool = False) -> tuple[Any, dict[int, Images]]:
    """A request of OpenVINO and what to feed it with; see `compile_openvino`."""
    compiled = compile_openvino(place, setting, profile=profile)
    return compiled.create_infer_request(), {0: _images(setting, np.float32, compiled.inputs[0].shape[1])}


def _open_openvino(place: Path, setting: Setting) -> Pass:
    request, feed = openvino_request(place, setting)
    return lambda: request.infer(feed)


_OPENERS: dict[BackendName, Callable[[Path, Setting], Pass]] = {
    "torch": _open_torch,
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "tensorrt": _open_tensorrt,
    "cuda": _open_torch,
}


def peak_memory_mb(place: Path, setting: Setting) -> float:
    """What a model takes of memory in this process, which must not have done anything like it before.

    Args:
        place: what the backend runs.
        setting: how.

    Returns:
        Megabytes: the peak of the resident memory less what was resident with the packages imported; on a GPU the peak
        of what torch allocated there.
    """
    importlib.import_module(BACKENDS[setting.backend].module)
    before = psutil.Process().memory_info().rss
    once = open_pass(place, setting)
    for _ in range(_PASSES_FOR_MEMORY):
        once()
    if BACKENDS[setting.backend].on_gpu:
        return torch.cuda.max_memory_allocated() / MEGA
    # Linux counts in kibibytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before, 0) / MEGA
