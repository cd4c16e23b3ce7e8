"""What each node of a graph takes within a forward pass, as the runtime itself tells it.

ONNX Runtime and OpenVINO have profilers of their own, and name each node after the module that it comes from. In torch
the time between two calls of modules belongs to the innermost one that is at work.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compression.deployment.backends import BACKENDS, Setting, onnx_session, openvino_request, torch_runner
from compression.errors import SpecError
from compression.spec import BackendName

MILLI = 1e3
# ONNX Runtime notes a node's run as its name with this suffix.
_KERNEL = "_kernel_time"


@dataclass(frozen=True, kw_only=True)
class NodeTimes:
    """Times of a graph's nodes.

    Attributes:
        nodes: their names, in order of execution.
        ms: milliseconds, [nodes, passes].
    """

    nodes: tuple[str, ...]
    ms: NDArray[np.float64]


class Profiled(Protocol):
    """A model whose passes are profiled."""

    def once(self) -> object:
        """Run it once."""

    def times(self) -> NodeTimes:
        """The times of all passes so far; the last that is asked of it."""


def open_profiled(place: Path, setting: Setting) -> Profiled:
    """Load a model with its runtime's profiler on.

    Args:
        place: the checkpoint, or the exported file or folder, that the backend runs.
        setting: how.

    Raises:
        SpecError: the backend tells no times of single nodes.
    """
    check_profiled(setting.backend)
    return _OPENERS[setting.backend](place, setting)


def check_profiled(backend: BackendName) -> None:
    """Refuse a backend whose layers cannot be timed.

    Raises:
        SpecError: it tells no times of single nodes.
    """
    if backend not in _OPENERS:
        raise SpecError(f"Backend {backend} tells no times of single layers; choose one of {', '.join(_OPENERS)}.")


class _Onnx:
    def __init__(self, place: Path, setting: Setting) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trimboard-profile-")
        self._session, self._feed = onnx_session(place, setting, Path(self._folder.name) / "profile")
        self._n_passes = 0

    def once(self) -> None:
        self._session.run(None, self._feed)
        self._n_passes += 1

    def times(self) -> NodeTimes:
        with self._folder:
            events = json.loads(Path(self._session.end_profiling()).read_text())
        runs = [event for event in events if event["cat"] == "Node" and event["name"].endswith(_KERNEL)]
        nodes = [event["name"].removesuffix(_KERNEL) for event in runs[: len(runs) // self._n_passes]]
        microseconds = np.array([event["dur"] for event in runs], dtype=np.float64)
        return NodeTimes(nodes=tuple(nodes), ms=microseconds.reshape(self._n_passes, -1).T / MILLI)


class _OpenVino:
    """OpenVINO tells the mean of all passes until now, from which the last one follows."""

    def __init__(self, place: Path, setting: Setting) -> None:
        self._request, self._feed = openvino_request(place, setting, profile=True)
        self._nodes: list[str] = []
        self._means: list[list[float]] = []

    def once(self) -> None:
        self._request.infer(self._feed)
        told = self._request.get_profiling_info()
        self._nodes = [node.node_name for node in told]
        self._means.append([MILLI * node.real_time.total_seconds() for node in told])

    def times(self) -> NodeTimes:
        totals = np.array(self._means) * np.arange(1, len(self._means) + 1)[:, None]
        # Nodes that were optimized away are told too, and one whose mean is below a microsecond looks like them.
        works = totals.any(axis=0)
        # Means are told in whole microseconds, so that the difference of two totals may come out below nothing.
        ms = np.maximum(np.diff(totals, axis=0, prepend=0), 0).T
        return NodeTimes(nodes=tuple(np.array(self._nodes)[works].tolist()), ms=ms[works])


class _Torch:
    def __init__(self, place: Path, setting: Setting) -> None:
        model, self._run = torch_runner(place, setting)
        self._synchronise: Callable[[], object] = (
            torch.cuda.synchronize if BACKENDS[setting.backend].on_gpu else lambda: None
        )
        self._at_work: list[str] = []
        self._since = 0.0
        self._passes: list[list[tuple[str, float]]] = []
        for name, module in model.named_modules():
            if name:
                self._watch(name, module)

    def _watch(self, name: str, module: nn.Module) -> None:
        def begin(*_: Any) -> None:
            self._note()
            self._at_work.append(name)

        def end(*_: Any) -> None:
            self._note()
            self._at_work.pop()

        module.register_forward_pre_hook(begin)
        module.register_forward_hook(end)

    def _note(self) -> None:
        """Book what has passed since the last call on the module that was at work."""
        self._synchronise()
        now = time.perf_counter()
        self._passes[-1].append((self._at_work[-1] if self._at_work else "", MILLI * (now - self._since)))
        self._since = time.perf_counter()

    def once(self) -> None:
        self._passes.append([])
        self._since = time.perf_counter()
        self._run()
        self._note()

    def times(self) -> NodeTimes:
        nodes = tuple(name for name, _ in self._passes[0])
        return NodeTimes(nodes=nodes, ms=np.array([[ms for _, ms in one] for one in self._passes]).T)


_OPENERS: dict[BackendName, Callable[[Path, Setting], Profiled]] = {
    "torch": _Torch,
    "onnx": _Onnx,
    "openvino": _OpenVino,
    "cuda": _Torch,
}
