"""Measured times of a model's layers in context, as the runtime's own profiler tells them.

A layer that is timed alone has caches and memory for itself, and its input in the layout that it likes; within a model
it has not. So whole passes are profiled, and the time of each node goes to the convolution that it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import nn

from cache.layer_times import LayerTime, LayerTimesRecord, LayerTimesSpec, TimedForm
from cache.record import Progress
from cache.store import own_store
from compression.data.dataset import Dataset
from compression.deployment.backends import Bench, Setting, told_plainly
from compression.deployment.latency import Timed, place_of, timing_conditions
from compression.deployment.profiling import NodeTimes, check_profiled, open_profiled
from compression.deployment.timing import is_timed, take_turns
from compression.environment import describe_environment
from compression.graph.costs import shown_as
from compression.models.detector import read_checkpoint
from compression.telling import Tell

# Rounds of turns. Each has several passes, and what counts is the median of all.
N_ROUNDS = 4

# OpenVINO's name of a node holds the path of its module, dots and all, behind this.
_DOTTED = re.compile(r"__module\.([\w.]+)")


def structure_of(module: nn.Module) -> str:
    """A name for all models of these layers and channel counts, whatever their weights, on which no time depends."""
    layers = [
        (name, type(one).__name__)
        + ((one.in_channels, one.out_channels, one.kernel_size, one.stride) if isinstance(one, nn.Conv2d) else ())
        for name, one in module.named_modules()
    ]
    return f"widths-{hashlib.sha256(json.dumps(layers).encode()).hexdigest()}"


def layer_times_spec(
    subject: str,
    reference: str | None,
    setting: Setting,
    dataset: Dataset | None = None,
    *,
    bench: Bench | None = None,
) -> LayerTimesSpec:
    """The question of a subject's layer times, see `compression.deployment.latency.latency_spec`."""
    return LayerTimesSpec(
        subject=subject,
        reference=reference,
        **timing_conditions(setting, dataset, bench),
    )


def measure_layers(
    subject: Timed,
    reference: Timed | None,
    setting: Setting,
    *,
    dataset: Dataset | None = None,
    n_rounds: int | None = None,
    again: bool = False,
    tell: Tell,
) -> LayerTimesRecord:
    """Time the layers of a checkpoint in turn with those of another, and store what was found.

    Args:
        subject: whose layers.
        reference: the original; None, or the subject itself, where it is alone.
        setting: backend, precision, sizes and threads.
        dataset: whose training images an int8 file is calibrated on.
        n_rounds: at least 2; N_ROUNDS where None.
        again: measure also what is stored.
        tell: receives the progress.

    Raises:
        TrimboardError: a checkpoint cannot be opened or exported, or the backend tells no times of layers.
    """
    check_profiled(setting.backend)
    both = [subject] if reference in (None, subject) else [reference, subject]
    spec = layer_times_spec(subject.sha256, both[0].sha256 if len(both) > 1 else None, setting, dataset)
    found = None if again else own_store().find_layer_times(spec.key)
    return found or time_and_store(both, spec, setting, dataset=dataset, n_rounds=n_rounds, tell=tell)


def time_and_store(
    forms: Sequence[Timed],
    spec: LayerTimesSpec,
    setting: Setting,
    *,
    dataset: Dataset | None = None,
    n_rounds: int | None = None,
    tell: Tell,
) -> LayerTimesRecord:
    """Time the layers of several forms of one model in turn.

    Args:
        forms: the original first; the last gives its name to the record.
        spec: what the record answers.
        setting: backend, precision, sizes and threads.
        dataset: whose training images an int8 file is calibrated on.
        n_rounds: at least 2; N_ROUNDS where None.
        tell: receives the progress.
    """
    n_rounds = n_rounds or N_ROUNDS
    places = [place_of(form, setting, dataset, tell) for form in forms]
    tell(Progress(stage=f"timing the layers on {setting.backend}"))
    profiled = []
    for place in places:
        with told_plainly(place, setting.backend):
            profiled.append(open_profiled(place, setting))
    take_turns([one.once for one in profiled], n_rounds=n_rounds)
    record = LayerTimesRecord(
        spec=spec,
        model=forms[-1].model,
        level=forms[-1].level,
        forms=tuple(_form(one.times(), form.checkpoint, n_rounds) for one, form in zip(profiled, forms, strict=True)),
        environment=describe_environment(setting.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    own_store().save_layer_times(record)
    return record


def _form(times: NodeTimes, checkpoint: Path, n_rounds: int) -> TimedForm:
    module = read_checkpoint(checkpoint)[0]
    convolutions = {shown_as(name): one for name, one in module.named_modules() if isinstance(one, nn.Conv2d)}
    medians = np.median(times.ms[:, is_timed(n_rounds)], axis=1)
    owners = owners_of(times.nodes, convolutions, {name for name, _ in module.named_modules()})
    total: dict[str | None, float] = {}
    for owner, ms in zip(owners, medians.tolist(), strict=True):
        total[owner] = total.get(owner, 0.0) + ms
    rest = total.pop(None, 0.0)
    return TimedForm(layers=tuple(_layer(name, convolutions, ms) for name, ms in total.items() if name), rest_ms=rest)


def _layer(name: str, convolutions: Mapping[str, nn.Conv2d], ms: float) -> LayerTime:
    convolution = convolutions[name]
    # A depthwise convolution reads one channel for each that it gives.
    read = convolution.in_channels // convolution.groups
    return LayerTime(name=name, channels_in=read, channels_out=convolution.out_channels, ms=ms)


def owners_of(nodes: Sequence[str], layers: Collection[str], modules: Collection[str]) -> list[str | None]:
    """The layer that each node of a profile belongs to; None for what comes after the last layer.

    A node inside of a layer's block is the layer's, as an activation is. The products of attention belong to the layer
    whose GFLOPs count them. All else joins, splits and copies what the next layer reads, and grows with its channels.

    Args:
        nodes: names of nodes, in order of execution.
        layers: names of blocks of one convolution each.
        modules: paths of all modules of the model.
    """
    own = [_own_layer(_module_path(node, modules), layers) for node in nodes]
    following: str | None = None
    owners: list[str | None] = []
    for layer in reversed(own):
        following = layer or following
        owners.append(following)
    return owners[::-1]


def _own_layer(path: str, layers: Collection[str]) -> str | None:
    if f"{path}.qkv" in layers:
        return f"{path}.qkv"
    while path and path not in layers:
        path = path.rpartition(".")[0]
    return path or None


def _module_path(node: str, modules: Collection[str]) -> str:
    """The module that a node comes from; empty where its name does not tell."""
    if node in modules:
        return node
    if found := _DOTTED.search(node):
        path = found[1].strip(".")
        while path and path not in modules:
            path = path.rpartition(".")[0]
        return path
    path = ""
    for scope in node.split("/"):
        path = _inner(path, scope, modules) or path
    return path


def _inner(path: str, scope: str, modules: Collection[str]) -> str | None:
    """The module of a scope within a module's; a scope of a list's member repeats the list's own name, "m/m.0"."""
    while True:
        inner = f"{path}.{scope}" if path else scope
        if scope and inner in modules:
            return inner
        if not path:
            return None
        path = path.rpartition(".")[0]
