"""The study's peers: torch-pruning's own cut, narrower siblings, and what Model Optimizer is given to trace."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn
from ultralytics import YOLO
from ultralytics.nn.modules import C2PSA, Attention, C2f, Conv
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT

from benchmarks.peers import (
    FASTNAS_BATCHES,
    StraightLine,
    counted_gflops,
    fastnas,
    fastnas_is_installed,
    narrower,
    torch_pruning_as_used,
)
from benchmarks.unfolded import make_traceable
from compression.errors import SpecError
from compression.graph.trace import TRACE_IMGSZ, trace
from compression.models.checkpoint import write_checkpoint
from tests.compression.small_models import DETECT, FAMILIES, IMGSZ, equal, original, outputs, randomised

families = pytest.mark.parametrize("name", FAMILIES)

# What torch-pruning leaves of two convolutions of 16 and 24 channels and of a head with convolutions of 64 and 24, in
# eights, for ratios up to each bound, worked out by hand: 24 x 0.7 = 16.8 -> 16, and 16 x 0.4 = 6.4 -> none, so all 16.
LEFT_IN_EIGHTS = {
    0.125: (8, 16, 56, 16),
    0.25: (8, 16, 48, 16),
    0.333: (8, 16, 40, 16),
    0.375: (8, 8, 40, 8),
    0.5: (8, 8, 32, 8),
    0.625: (16, 8, 24, 8),
    0.667: (16, 8, 16, 8),
    0.75: (16, 24, 16, 24),
    0.875: (16, 24, 8, 24),
}
WHOLE = (16, 24, 64, 24)
# From here on a greater ratio costs more.
CHEAPEST = (16, 8, 16, 8)


def two_convolutions() -> DetectionModel:
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [24, 3, 2]]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DetectionModel({"nc": 1, "backbone": rows, "head": [DETECT]}, verbose=False).eval()


def mega_flops(a: int, b: int, c: int, d: int) -> float:
    """Of `two_convolutions` at 64 pixels: maps of 32 x 32 and 16 x 16, a box branch of width c, a class branch of d."""
    first = 9 * 3 * a * 32 * 32
    second = 9 * a * b * 16 * 16
    boxes = (9 * b * c + 9 * c * c + c * 64) * 16 * 16
    classes = (9 * b * d + 9 * d * d + d) * 16 * 16
    return 2 * (first + second + boxes + classes) / 1e6


def widths(model: nn.Module) -> list[int]:
    return [module.out_channels for name, module in model.named_modules() if is_conv(name, module)]


def is_conv(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and ".dfl." not in name


def n_params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# The copy that other tools can trace


def unfolded(model: DetectionModel) -> Iterator[tuple[Conv, Any]]:
    """Each `cv1` that is chunked, and the two halves that stand for it."""
    halves = dict(make_traceable(model).named_modules())
    for name, module in model.named_modules():
        if isinstance(module, C2f | C2PSA):
            yield module.cv1, halves[f"{name}.cv1"]


@families
def test_unfolding_is_exact(name: str) -> None:
    model = copy.deepcopy(original(name))
    for cv1, _ in unfolded(model):
        # Whole numbers add up exactly in any order, so that a kernel of another width cannot differ.
        cv1.conv.weight.data = (100 * cv1.conv.weight.data).round()
    pairs = list(unfolded(model))
    assert len(pairs) >= 8
    with torch.no_grad():
        for cv1, halves in pairs:
            x = torch.randint(-9, 10, (2, cv1.conv.in_channels, 8, 8)).float()
            first, second = cv1(x).chunk(2, 1)
            assert torch.equal(halves.first(x), first)
            assert torch.equal(halves.second(x), second)
            assert first.std() > 0


def test_stand_ins_compute_what_the_blocks_do() -> None:
    # Without attention every stand-in is exact, so that the copy gives the raw outputs of the head's branches.
    model = original("yolov8n")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        raw = model(image)[1]
        branches = [branch.flatten(2) for branch in make_traceable(model)(image)]
    torch.testing.assert_close(torch.cat(branches[:3], 2), raw["boxes"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat(branches[3:], 2), raw["scores"], rtol=1e-4, atol=1e-5)


# torch-pruning


def test_gflops_are_counted() -> None:
    assert counted_gflops(two_convolutions(), 64) * 1e3 == pytest.approx(mega_flops(*WHOLE), rel=1e-9)


@pytest.mark.parametrize("kept", [1, 0.55, 0.4, 0.3, 0.2])
def test_counts_are_those_of_one_ratio_in_eights(kept: float) -> None:
    reachable = list(LEFT_IN_EIGHTS.values())
    reachable = reachable[: reachable.index(CHEAPEST) + 1]
    a, b, c, d = min(reachable, key=lambda left: abs(mega_flops(*left) - kept * mega_flops(*WHOLE)))
    cut = torch_pruning_as_used(two_convolutions(), 64, kept)
    assert widths(cut) == [a, b, c, c, 64, d, d, 1]


def pruned_by_torch_pruning(model: DetectionModel, ratio: float, round_to: int | None) -> nn.Module:
    """The traceable copy after torch-pruning's own pruner, which is told to ignore what our trace locks."""
    traceable = make_traceable(model)
    image = torch.zeros(1, 3, TRACE_IMGSZ, TRACE_IMGSZ)
    graph = tp.DependencyGraph().build_dependency(traceable, image, verbose=False)
    names = {module: name for name, module in traceable.named_modules()}
    locked = {
        member.layer
        for group in trace(model).groups
        if group.locked
        for member in group.members
        if member.side == "out"
    }
    roots = [group[0].dep.target.module for group in graph.get_all_groups(root_module_types=[nn.Conv2d])]
    pruner = tp.pruner.MagnitudePruner(
        traceable,
        image,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        round_to=round_to,
        ignored_layers=[root for root in roots if _place(names[root]) in locked],
    )
    pruner.step()
    return traceable


def _place(name: str) -> str:
    """The layer of the original that a layer of the traceable copy is, or is a half of."""
    return name.replace(".first.0", ".conv").replace(".second.0", ".conv")


@families
@pytest.mark.parametrize(("ratio", "round_to"), [(0.2, 8), (0.45, 8), (0.2, None)])
def test_weights_are_those_that_torch_pruning_leaves(name: str, ratio: float, round_to: int | None) -> None:
    model = original(name)
    line = StraightLine(model)
    line.blocks = pruned_by_torch_pruning(model, ratio, round_to).model
    theirs = line.folded(model)
    kept = counted_gflops(theirs, IMGSZ) / counted_gflops(model, IMGSZ)
    assert 0.25 < kept < 0.85
    ours = torch_pruning_as_used(model, IMGSZ, kept, round_to=round_to)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert equal(list(ours.state_dict().values()), list(theirs.state_dict().values()))
    assert equal(outputs(ours), outputs(theirs))


@families
def test_any_count_meets_the_target(name: str) -> None:
    model = original(name)
    cut = torch_pruning_as_used(model, IMGSZ, 0.7, round_to=None)
    assert counted_gflops(cut, IMGSZ) / counted_gflops(model, IMGSZ) == pytest.approx(0.7, abs=0.02)


@families
def test_halves_attention_and_outputs_are_kept(name: str) -> None:
    model = original(name)
    cut = torch_pruning_as_used(model, IMGSZ, 0.6)
    for wide, thin in zip(model.modules(), cut.modules(), strict=True):
        if isinstance(thin, C2f):
            assert 2 * thin.c == thin.cv1.conv.out_channels
        if isinstance(thin, Attention):
            assert widths(thin) == widths(wide)
    assert [each.shape for each in outputs(cut)] == [each.shape for each in outputs(model)]


@families
def test_model_is_left_alone(name: str) -> None:
    model = copy.deepcopy(original(name))
    torch_pruning_as_used(model, IMGSZ, 0.6)
    StraightLine(model)
    assert equal(list(model.state_dict().values()), list(original(name).state_dict().values()))
    assert equal(outputs(model), outputs(original(name)))


# Narrower models


@cache
def sibling(name: str, kept: float) -> DetectionModel:
    """A narrower model of `original(name)` at 64 pixels; not to be changed."""
    return narrower(original(name), IMGSZ, kept, seed=0)


@pytest.mark.parametrize(
    ("name", "kept"), [("yolo26n", 0.868), ("yolo26n", 0.4), ("yolo11n", 0.6), ("yolov8n", 0.25), ("yolo26n", 1)]
)
def test_narrower_model_meets_the_target(name: str, kept: float) -> None:
    model, thin = original(name), sibling(name, kept)
    assert counted_gflops(thin, IMGSZ) / counted_gflops(model, IMGSZ) == pytest.approx(kept, abs=0.01)
    assert (widths(thin) == widths(model)) == (kept == 1)
    assert [type(module) for module in thin.modules()] == [type(module) for module in model.modules()]
    assert [each.shape for each in outputs(thin)] == [each.shape for each in outputs(model)]


def test_narrower_model_is_built_from_its_own_stock_yaml() -> None:
    thin = sibling("yolo26n", 0.4)
    again = DetectionModel(copy.deepcopy(thin.yaml), verbose=False)
    assert [each.shape for each in again.state_dict().values()] == [each.shape for each in thin.state_dict().values()]
    given = [row[3][0] for row in thin.yaml["backbone"]]
    last = [block.cv2 if hasattr(block, "cv2") else block for block in thin.model[: len(given)]]
    assert given == [conv.conv.out_channels for conv in last]
    assert all(width % 8 == 0 for width in given)


def test_narrower_model_knows_the_classes() -> None:
    model = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    model.names = {0: "platelets", 1: "red", 2: "white"}
    thin = narrower(model, IMGSZ, 0.5, seed=0)
    assert thin.names == {0: "platelets", 1: "red", 2: "white"}
    assert thin.model[-1].nc == 3
    assert outputs(thin)[1].shape[1] == 3


def test_attention_of_a_wider_model_has_whole_heads() -> None:
    model = DetectionModel("yolo26s.yaml", verbose=False)
    # Its 512 channels become 456 at this cut; 448 and 440 have halves that three heads could not share.
    thin = narrower(model, IMGSZ, 0.78, seed=0)
    attentions = [module for module in thin.modules() if isinstance(module, Attention)]
    assert [(each.num_heads, each.proj.conv.out_channels) for each in attentions] == [(3, 228), (3, 228)]
    assert counted_gflops(thin, IMGSZ) / counted_gflops(model, IMGSZ) == pytest.approx(0.78, abs=0.01)


def test_seed_draws_the_weights() -> None:
    state = torch.random.get_rng_state()
    same, other = (narrower(original("yolo26n"), IMGSZ, 0.4, seed=seed) for seed in (0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    first = sibling("yolo26n", 0.4)
    assert equal(list(first.state_dict().values()), list(same.state_dict().values()))
    assert widths(first) == widths(other)
    assert not torch.equal(first.model[0].conv.weight, other.model[0].conv.weight)


# All of them


@pytest.mark.parametrize("peer", [torch_pruning_as_used, narrower])
@pytest.mark.parametrize("kept", [0.0, -1, 1.2])
def test_impossible_target(peer: Any, kept: float) -> None:
    with pytest.raises(SpecError, match="is not possible"):
        peer(original("yolo26n"), IMGSZ, kept, **({"seed": 0} if peer is narrower else {}))


@pytest.mark.parametrize("peer", ["torch-pruning", "narrower"])
def test_plain_ultralytics_loads_and_predicts(peer: str, tmp_path: Path) -> None:
    model = original("yolo26n")
    made = torch_pruning_as_used(model, IMGSZ, 0.6) if peer == "torch-pruning" else sibling("yolo26n", 0.4)
    write_checkpoint(made, tmp_path / "peer.pt", {})
    loaded = YOLO(tmp_path / "peer.pt")
    assert n_params(loaded.model) == n_params(made) < n_params(model)
    assert loaded.names == model.names
    grey = np.full((IMGSZ, IMGSZ, 3), 114, np.uint8)
    result = loaded.predict(grey, imgsz=IMGSZ, verbose=False, save=False)[0]
    assert result.boxes.data.shape[1] == 6


# What FastNAS is given


@families
def test_straight_line_computes_what_the_model_does(name: str) -> None:
    model = original(name)
    image = torch.rand(1, 3, IMGSZ, IMGSZ, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        raw = StraightLine(model).eval()(image)
    heads = outputs(model)
    # Three branches of boxes, then three of classes, for each head.
    theirs = [part for each in heads for part in each.split([64, 16, 4], dim=2)]
    assert len(raw) == len(theirs) == 3 * len(heads)
    for ours, their in zip(raw, theirs, strict=True):
        torch.testing.assert_close(ours.flatten(2), their, rtol=1e-4, atol=1e-5)


@families
def test_straight_line_is_followed_from_end_to_end(name: str) -> None:
    graph = torch.fx.symbolic_trace(StraightLine(original(name)).eval()).graph
    concatenations = [node for node in graph.nodes if node.target is torch.cat]
    blocks = [module for module in original(name).modules() if type(module).__name__ in ("Concat", "C2f", "C3k2")]
    assert len(concatenations) >= len(blocks)
    # Model Optimizer iterates over what is concatenated; of a block traced alone that is a single node.
    assert all(isinstance(node.args[0], list | tuple) and len(node.args[0]) > 1 for node in concatenations)


@families
def test_fold_after_unfold_is_exact(name: str) -> None:
    model = original(name)
    folded = StraightLine(model).folded(model)
    assert equal(list(folded.state_dict().values()), list(model.state_dict().values()))
    assert equal(outputs(folded), outputs(model))


def test_fastnas_wants_enough_batches() -> None:
    with pytest.raises(SpecError, match="50 batches; 1 are too few"):
        fastnas(original("yolo26n"), IMGSZ, 0.7, score=n_params, batches=[torch.zeros(1, 3, IMGSZ, IMGSZ)])


@pytest.mark.skipif(not fastnas_is_installed(), reason="nvidia-modelopt is not installed")
def test_fastnas_meets_the_target(tmp_path: Path) -> None:
    rows = [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [24, 3, 2]],
        [-1, 1, "C3k2", [32, False]],
        [-1, 1, "C2PSA", [32]],
    ]
    model = randomised(DetectionModel({"nc": 1, "backbone": rows, "head": [DETECT]}, verbose=False))
    model.names, model.args = {0: "disc"}, dict(DEFAULT_CFG_DICT)
    batches = torch.rand(FASTNAS_BATCHES, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    cut = fastnas(
        model, 64, 0.7, score=lambda m: float(n_params(m)), batches=list(batches), sensitivity=tmp_path / "scores.pth"
    )
    assert 0.3 < counted_gflops(cut, 64) / counted_gflops(model, 64) <= 0.7
    assert [each.shape for each in outputs(cut)] == [each.shape for each in outputs(model)]
    assert all(width % 8 == 0 for width in widths(cut)[:-1])
    write_checkpoint(cut, tmp_path / "fastnas.pt", {})
    assert n_params(YOLO(tmp_path / "fastnas.pt").model) == n_params(cut)
    # The scores serve another target, and none is measured again.
    deeper = fastnas(model, 64, 0.5, score=_refuse, batches=list(batches), sensitivity=tmp_path / "scores.pth")
    assert counted_gflops(deeper, 64) < counted_gflops(cut, 64)


def _refuse(_: DetectionModel) -> float:
    raise AssertionError("a score was measured twice")
