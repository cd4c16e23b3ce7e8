"""Which layer a node of a profile belongs to, and times of real layers."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from cache.store import own_store
from compression.deployment import layer_times
from compression.deployment.backends import Setting, why_not_here
from compression.deployment.latency import opened
from compression.deployment.layer_times import measure_layers, owners_of, structure_of
from compression.errors import SpecError
from compression.graph.costs import shown_as
from compression.models.checkpoint import write_checkpoint
from compression.spec import BackendName
from compression.telling import silent
from tests.compression.small_models import IMGSZ, LEVEL_5, original, planner, pruned

ROUNDS = 2


def names_of(name: str) -> tuple[list[str], list[str]]:
    """Layers and modules of a model."""
    modules = dict(original(name).named_modules())
    return [shown_as(path) for path, one in modules.items() if isinstance(one, nn.Conv2d)], list(modules)


def test_nodes_of_onnx_runtime_go_to_their_layers() -> None:
    nodes = {
        "/model.0/conv/Conv_output_0_nchwc": "model.0",
        "/model.0/act/Mul/QuickGeluFusion/": "model.0",
        "ReorderOutput_token_377": "model.2.m.0.cv1",
        "/model.2/Split": "model.2.m.0.cv1",
        "/model.2/m.0/cv1/conv/Conv_output_0_nchwc": "model.2.m.0.cv1",
        "/model.2/m.0/Add": "model.6.m.0.m.0.cv1",
        "/model.6/m.0/m/m.0/cv1/conv/Conv_output_0_nchwc": "model.6.m.0.m.0.cv1",
        "/model.10/m/m.0/attn/MatMul_1/MatmulTransposeFusion/": "model.10.m.0.attn.qkv",
        "/model.10/m/m.0/ffn/ffn.0/act/Mul/QuickGeluFusion/": "model.10.m.0.ffn.0",
        "/model.12/Concat": "model.23.one2one_cv3.2.0.0",
        "/model.23/one2one_cv3.2/one2one_cv3.2.0/one2one_cv3.2.0.0/conv/Conv": "model.23.one2one_cv3.2.0.0",
        "/model.23/one2one_cv3.2/one2one_cv3.2.2/Conv_output_0_nchwc": "model.23.one2one_cv3.2.2",
        "/model.23/Reshape_5": None,
        "/model.23/TopK": None,
    }
    assert owners_of(list(nodes), *names_of("yolo26n")) == list(nodes.values())


def test_nodes_of_openvino_go_to_their_layers() -> None:
    nodes = {
        "x.1_abcd_acdb___module.model.0.conv/aten::_convolution/Convolution": "model.0",
        "__module.model.2.cv1.conv/aten::_convolution/Convolution": "model.2.cv1",
        "__module.model.2/aten::split_with_sizes/VariadicSplit": "model.2.m.0.cv1",
        "__module.model.2.m.0.cv1.conv/aten::_convolution/Convolution": "model.2.m.0.cv1",
        "__module.model.10.m.0.attn/aten::softmax/Softmax": "model.10.m.0.attn.qkv",
        "__module.model.10.m.0.attn/aten::view/Reshape_1_abcd_acdb___module.model.10.m.0.attn.pe.conv/aten::_convolution"
        "/GroupConvolution": "model.10.m.0.attn.qkv",
        "__module.model.10.m.0.attn.pe.conv/aten::_convolution/GroupConvolution": "model.10.m.0.attn.pe",
        "__module.model.23.one2one_cv2.0.2/aten::_convolution/Convolution_acdb_abcd___module.model.23/aten::view/"
        "Reshape": "model.23.one2one_cv2.0.2",
        "__module.model.23/aten::topk/TopK": None,
    }
    assert owners_of(list(nodes), *names_of("yolo26n")) == list(nodes.values())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A detector and its level 5."""
    folder = tmp_path_factory.mktemp("checkpoints")
    whole, narrow = folder / "whole.pt", folder / "narrow.pt"
    write_checkpoint(original("yolo26n"), whole, {})
    write_checkpoint(pruned("yolo26n", LEVEL_5), narrow, {"imgsz": IMGSZ})
    return whole, narrow


def setting(backend: BackendName) -> Setting:
    return Setting(backend=backend, precision="fp32", imgsz=IMGSZ, batch=1, threads=1, head="e2e")


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
def test_every_deployed_layer_is_timed_in_turn_with_the_originals(
    backend: BackendName, checkpoints: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := why_not_here(backend):
        pytest.skip(reason)
    whole, narrow = (opened(str(file)) for file in checkpoints)
    times = measure_layers(narrow, whole, setting(backend), n_rounds=ROUNDS, tell=silent)
    assert (times.spec.subject, times.spec.reference) == (narrow.sha256, whole.sha256)
    deployed = {layer.shown_as: layer for layer in planner("yolo26n").costs.layers if layer.deployed}
    before, after = times.forms
    assert {layer.name for layer in before.layers} == {layer.name for layer in after.layers} == deployed.keys()
    for layer in before.layers:
        known = deployed[layer.name]
        read = 1 if known.depthwise else known.channels_in
        assert (layer.channels_in, layer.channels_out) == (read, known.channels_out)
    assert sum(layer.channels_out for layer in after.layers) < sum(layer.channels_out for layer in before.layers)
    # A layer may be too quick for a profiler's microseconds, but not most of them.
    assert sum(layer.ms > 0 for layer in before.layers) > len(before.layers) / 2
    assert before.rest_ms > 0
    assert own_store().layer_times(narrow.sha256) == [times]
    monkeypatch.setattr(layer_times, "take_turns", None)
    assert measure_layers(narrow, whole, setting(backend), tell=silent) == times


def test_a_backend_that_tells_no_times_is_refused(checkpoints: tuple[Path, Path]) -> None:
    subject = opened(str(checkpoints[0]))
    with pytest.raises(SpecError) as caught:
        measure_layers(subject, None, setting("tensorrt"), tell=silent)
    assert str(caught.value) == (
        "Backend tensorrt tells no times of single layers; choose one of torch, onnx, openvino, cuda."
    )


def test_a_structure_is_that_of_channel_counts_not_of_weights() -> None:
    name = structure_of(original("yolo26n"))
    other = structure_of(pruned("yolo26n", LEVEL_5))
    assert len({name, other, structure_of(original("yolo11n"))}) == 3
    assert structure_of(original("yolo26n").float()) == name
    assert name.startswith("widths-")
