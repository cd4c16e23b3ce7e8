"""Costs by arithmetic against counted ones, and against a few worked out by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from cache.record import Costs
from compression.catalog import known_models
from compression.graph import blocks
from compression.graph.blocks import register_block, training_only
from compression.graph.costs import CostModel
from compression.image_size import ImageSize, height_width
from compression.models.detector import open_detector
from compression.pruning.planner import Planner, PruningPlan
from compression.pruning.recovery import recover
from compression.pruning.surgery import apply_plan, kept_outputs, without_channels
from compression.spec import Target
from tests.compression.images import noise
from tests.compression.small_models import DEEP, FAMILIES, LEVEL_5, build, original, outputs, plan, planner, pruned
from tests.compression.task_data import architecture

families = pytest.mark.parametrize("name", FAMILIES)
sizes = pytest.mark.parametrize("imgsz", [64, 160, (96, 224)], ids=str)


def counted(model: DetectionModel, imgsz: ImageSize) -> tuple[float, int]:
    """GFLOPs and parameters of the training graph, counted in a forward pass; without operations for the loss alone."""
    meta = copy.deepcopy(model).to("meta").train()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta(torch.empty(1, 3, *height_width(imgsz), device="meta"))
    by_module = counter.get_flop_counts()
    for_loss = sum(
        sum(by_module[f"{type(model).__name__}.{name}"].values())
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and f"{name}.".startswith(training_only(model))
    )
    return (counter.get_total_flops() - for_loss) / 1e9, n_params(model)


def counted_deployed(model: DetectionModel, imgsz: ImageSize) -> tuple[float, int]:
    """The same of the graph that fuse() leaves, with the end-to-end head where there is one."""
    fused = copy.deepcopy(model).eval()
    if hasattr(fused.model[-1], "one2one_cv2"):
        fused.model[-1].end2end = True
    fused.fuse(verbose=False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        fused(torch.zeros(1, 3, *height_width(imgsz)))
    return counter.get_total_flops() / 1e9, n_params(fused)


def n_params(model: DetectionModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def claimed(name: str, imgsz: ImageSize, cut: PruningPlan | None = None) -> Costs:
    """Costs of `original(name)` at that image size, or of a plan."""
    model = CostModel(original(name), planner(name).trace, imgsz)
    kept = model.widths if cut is None else np.array([len(channels) for channels in cut.kept], dtype=np.float64)
    return model.costs(kept)


def check(costs: Costs, model: DetectionModel, imgsz: ImageSize) -> None:
    gflops, params = counted(model, imgsz)
    assert costs.gflops == pytest.approx(gflops, rel=1e-9)
    assert costs.params == params
    gflops, params = counted_deployed(model, imgsz)
    assert costs.gflops_deployed == pytest.approx(gflops, rel=1e-9)
    assert costs.params_deployed == params


@families
@sizes
def test_original_costs_what_is_counted(name: str, imgsz: ImageSize) -> None:
    check(claimed(name, imgsz), original(name), imgsz)


def test_blocks_that_are_not_known_cost_what_is_counted() -> None:
    # With an activation that is not known, no Conv is; `fuse()` takes away those of one branch of the head.
    config = {**yaml_model_load("yolo26n.yaml"), "activation": "nn.Hardshrink()"}
    before = Conv.default_act
    try:
        model = DetectionModel(config, verbose=False).eval()
    finally:
        Conv.default_act = before
    costs = Planner(model, 64).costs
    check(costs.costs(costs.widths), model, 64)


def no_scale(model: DetectionModel) -> None:
    model.model[2].bn = nn.BatchNorm2d(64, affine=False).eval()


def shared_norm(model: DetectionModel) -> None:
    model.model[3].bn = model.model[2].bn


def shared_scale(model: DetectionModel) -> None:
    model.model[3].bn.weight = model.model[2].bn.weight


def never_run(model: DetectionModel) -> None:
    model.model[2].spare = nn.Conv2d(3, 3, 1)


@pytest.mark.parametrize("change_", [no_scale, shared_norm, shared_scale, never_run])
def test_what_is_there_and_runs_is_counted(change_: Callable[[DetectionModel], None]) -> None:
    model = build([-1, 1, "Conv", [64, 3, 1]], [-1, 1, "Conv", [64, 3, 1]])
    change_(model)
    small = Planner(model, 64)
    cut = small.plan(Target(gflops_kept=0.5, params_kept=None))
    narrow = apply_plan(model, small.trace, cut)
    check(cut.before, model, 64)
    check(cut.after, narrow, 64)
    for our, their in zip(outputs(narrow), outputs(without_channels(model, small.trace, cut)), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-3, atol=1e-4)
    kept = kept_outputs(model, small.trace, cut)
    recovered, _ = recover(model, narrow, kept, noise(2).images, seed=0, device=torch.device("cpu"))
    fitted = not torch.equal(recovered.model[2].conv.weight, narrow.model[2].conv.weight)
    assert fitted == (change_ is not shared_norm)


class Gate(nn.Module):
    """Hands a feature map on, and computes something of it beside."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 5)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.linear(torch.zeros(features.shape[0], 7, device=features.device))
        return features


@pytest.mark.parametrize("called", [True, False])
def test_linear_layers_that_are_not_followed_cost_what_is_counted(
    called: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compression.graph.blocks._REGISTRY", dict(blocks._REGISTRY))
    model = open_detector(str(architecture(tmp_path, "detect"))).module
    gate = Gate() if called else nn.Identity()
    if not called:
        gate.linear = nn.Linear(7, 5)
    register_block(Gate)
    model.model[1] = nn.Sequential(model.model[1], gate)
    model.model[1].i, model.model[1].f, model.model[1].type = 1, -1, "Gated"
    ours = Planner(model, 64)
    check(ours.costs.costs(ours.costs.widths), model, 64)
    rows = {row.name: row.params_before for row in ours.plan(Target(gflops_kept=0.7, params_kept=None)).layers}
    assert rows["model.1.1.linear"] == 40


@families
@sizes
def test_pruned_model_costs_what_is_counted(name: str, imgsz: ImageSize) -> None:
    check(claimed(name, imgsz, plan(name, LEVEL_5)), pruned(name, LEVEL_5), imgsz)


@families
def test_plan_claims_the_costs_of_both_models(name: str) -> None:
    cut = plan(name, DEEP)
    check(cut.before, original(name), 64)
    check(cut.after, pruned(name, DEEP), 64)


@families
def test_deepest_cut_costs_what_is_counted(name: str) -> None:
    # One channel of each group that may be cut: nothing that the arithmetic leaves out could hide.
    ours, cut = planner(name), plan(name, LEVEL_5)
    kept = tuple(np.arange(group.width if group.locked else 1, dtype=np.int64) for group in ours.trace.groups)
    model = apply_plan(original(name), ours.trace, replace(cut, kept=kept))
    check(ours.costs.costs(np.array([len(channels) for channels in kept], dtype=np.float64)), model, 64)


@families
def test_rows_add_up_to_the_totals(name: str) -> None:
    cut = plan(name, LEVEL_5)
    assert sum(row.gflops_before for row in cut.layers) == pytest.approx(cut.before.gflops, rel=1e-9)
    assert sum(row.gflops_after for row in cut.layers) == pytest.approx(cut.after.gflops, rel=1e-9)
    assert sum(row.params_before for row in cut.layers) == cut.before.params
    assert sum(row.params_after for row in cut.layers) == cut.after.params


@families
def test_rows_have_the_channels_of_the_layers(name: str) -> None:
    before, after = original(name), pruned(name, LEVEL_5)
    rows = plan(name, LEVEL_5).layers
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        layers = [model.get_submodule(row.name) for model in (before, after)]
        convs = [getattr(layer, "conv", layer) for layer in layers]
        assert [row.channels_before, row.channels_after] == [conv.out_channels for conv in convs]
        assert row.type == type(layers[0]).__name__
        assert [row.params_before, row.params_after] == [n_params(layer) for layer in layers]
        assert row.sparsity == pytest.approx(1 - convs[1].out_channels / convs[0].out_channels)


# By hand, at 64 pixels: name, multiply-adds x 2, parameters.
BY_HAND = [
    # 3 -> 16 channels, 3 x 3, stride 2: 32 x 32 positions.
    ("yolov8n", "model.0", 2 * 3 * 3 * 3 * 16 * 32 * 32, 3 * 3 * 3 * 16 + 2 * 16),
    # 64 -> 64 channels, 1 x 1 with a bias, in the head at stride 8.
    ("yolov8n", "model.22.cv2.0.2", 2 * 64 * 64 * 8 * 8, 64 * 64 + 64),
    # Depthwise, 64 channels, 3 x 3.
    ("yolo11n", "model.23.cv3.0.0.0", 2 * 3 * 3 * 64 * 8 * 8, 3 * 3 * 64 + 2 * 64),
    # Queries, keys (32 each) and values (64) of two heads at 2 x 2 positions; attention reads and weights them.
    (
        "yolo11n",
        "model.10.m.0.attn.qkv",
        2 * 128 * 256 * 2 * 2 + 2 * (2 * 32 * 4 * 4 + 2 * 64 * 4 * 4),
        128 * 256 + 2 * 256,
    ),
    # Decoding is part of the deployed graph only; its 16 numbers are parameters of both.
    ("yolo11n", "model.23.dfl", 0, 16),
]


@pytest.mark.parametrize(("name", "layer", "flops", "params"), BY_HAND)
def test_layers_by_hand(name: str, layer: str, flops: int, params: int) -> None:
    row = next(row for row in plan(name, LEVEL_5).layers if row.name == layer)
    assert row.gflops_before == pytest.approx(flops / 1e9, rel=1e-12)
    assert row.params_before == params


def test_many_plans_cost_what_each_does() -> None:
    costs = planner("yolo26n").costs
    plans = np.stack([costs.widths, np.ceil(costs.widths / 2), np.ones_like(costs.widths)], axis=1)
    gflops, params = costs.training_costs(plans)
    assert gflops.shape == params.shape == (3,)
    for column in range(3):
        single = costs.training_costs(plans[:, column])
        assert (gflops[column], params[column]) == pytest.approx(single, rel=1e-12)
        assert costs.costs(plans[:, column]).params == round(float(params[column]))


def test_published_size_of_yolo26s() -> None:
    costs = planner("yolo26s", 640).costs
    before = costs.costs(costs.widths)
    assert before.params == 10_009_784
    assert before.gflops == pytest.approx(22.8, abs=0.05)
    # Ultralytics' own count of the deployed graph, which leaves out the matrix products of attention.
    assert before.gflops_deployed == pytest.approx(20.7, rel=0.02)
    assert before.params_deployed == pytest.approx(9.5e6, rel=0.01)


@families
def test_catalog_knows_the_sizes(name: str) -> None:
    known = next(known for known in known_models() if known.name == name)
    costs = claimed(name, 640)
    assert known.params == costs.params
    # Ultralytics' figure counts some elementwise operations too.
    assert known.gflops == pytest.approx(costs.gflops, rel=0.03)
