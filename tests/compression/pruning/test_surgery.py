"""The narrower model computes what the original does without the removed channels."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from ultralytics.nn.modules import Attention, C2f
from ultralytics.nn.tasks import DetectionModel

from compression.graph.channels import channels_out
from compression.graph.layer_groups import MIN_GROUP_KEPT
from compression.graph.trace import Trace, convolutions
from compression.levels import target_of
from compression.pruning.planner import Planner, PruningPlan
from compression.pruning.surgery import apply_plan, kept_outputs, without_channels
from compression.spec import Target
from tests.compression.small_models import (
    DEEP,
    FAMILIES,
    LEVEL_5,
    build,
    equal,
    original,
    outputs,
    plan,
    planner,
    pruned,
    randomised,
)

families = pytest.mark.parametrize("name", FAMILIES)
cuts = pytest.mark.parametrize("target", [LEVEL_5, DEEP], ids=["level 5", "deep"])


def check_against_silenced(model: DetectionModel, found: Trace, cut: PruningPlan, narrow: DetectionModel) -> None:
    ours, theirs, full = outputs(narrow), outputs(without_channels(model, found, cut)), outputs(model)
    for our, their, before in zip(ours, theirs, full, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5)
        assert our.shape == before.shape
        # The cut shows, far beyond what rounding does.
        assert (our - before).abs().max() > 1e-3


@families
@cuts
def test_pruned_model_equals_the_original_without_those_channels(name: str, target: Target) -> None:
    check_against_silenced(original(name), planner(name).trace, plan(name, target), pruned(name, target))


BLOCKS = {
    "repeated": [[-1, 3, "Conv", [64, 3, 1]]],
    "repeated Bottleneck": [[-1, 2, "Bottleneck", [64]]],
    "DWConv": [[-1, 1, "DWConv", [64, 3, 1]], [-1, 1, "Conv", [64, 1, 1]]],
    "C2f": [[-1, 2, "C2f", [64, True]]],
    "C2f without shortcut": [[-1, 2, "C2f", [64]]],
    "C3": [[-1, 2, "C3", [64]]],
    "C3k2": [[-1, 2, "C3k2", [64, True]]],
    "C3k2 of attention": [[-1, 1, "C3k2", [64, True, 0.5, True]]],
    "C2PSA": [[-1, 1, "Conv", [128, 1, 1]], [-1, 2, "C2PSA", [128]]],
    "SPPF": [[-1, 1, "SPPF", [64, 5]]],
    "channels twice": [[[-1, -1], 1, "Concat", [1]], [-1, 1, "Conv", [64, 1, 1]]],
    "Upsample": [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 0], 1, "Concat", [1]],
        [-1, 1, "Conv", [64, 1, 1]],
    ],
    "Identity": [[-1, 1, "nn.Identity", []]],
}


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_each_block_that_can_be_pruned(blocks: list[list[object]]) -> None:
    model = randomised(build(*copy.deepcopy(blocks)))
    small = Planner(model, 64)
    cut = small.plan(Target(gflops_kept=0.5, params_kept=None))
    check_against_silenced(model, small.trace, cut, apply_plan(model, small.trace, cut))


def test_activations_that_treat_all_channels_alike() -> None:
    names = ("SELU", "CELU", "Softsign", "LogSigmoid", "PReLU")
    model = randomised(build(*(row for each in names for row in ([-1, 1, f"nn.{each}", []], [-1, 1, "Conv", [64]]))))
    small = Planner(model, 64)
    assert {group.locked for group in small.trace.groups} == {None, "the outputs of the head"}
    cut = small.plan(Target(gflops_kept=0.5, params_kept=None))
    check_against_silenced(model, small.trace, cut, apply_plan(model, small.trace, cut))


@families
def test_a_plan_of_nothing_changes_nothing(name: str) -> None:
    same = pruned(name, target_of(0))
    assert same is not original(name)
    assert equal(list(same.state_dict().values()), list(original(name).state_dict().values()))
    assert equal(outputs(same), outputs(original(name)))


@families
def test_the_original_is_left_alone(name: str) -> None:
    model = copy.deepcopy(original(name))
    apply_plan(model, planner(name).trace, plan(name, DEEP))
    assert equal(list(model.state_dict().values()), list(original(name).state_dict().values()))
    assert equal(outputs(model), outputs(original(name)))


@families
@cuts
def test_c2f_knows_its_width(name: str, target: Target) -> None:
    blocks = [module for module in pruned(name, target).modules() if isinstance(module, C2f)]
    before = [module for module in original(name).modules() if isinstance(module, C2f)]
    assert len(blocks) == len(before) == 8
    for narrow, wide in zip(blocks, before, strict=True):
        assert 2 * narrow.c == narrow.cv1.conv.out_channels
        assert wide.c == wide.cv1.conv.out_channels / 2
    assert sum(narrow.c < wide.c for narrow, wide in zip(blocks, before, strict=True)) >= 6


def test_attention_knows_how_many_keys_are_left() -> None:
    for narrow, wide in zip(pruned("yolo26n", DEEP).modules(), original("yolo26n").modules(), strict=True):
        if isinstance(narrow, Attention):
            assert isinstance(wide, Attention)
            assert wide.key_dim == 32
            assert 4 <= narrow.key_dim < 32
            assert (narrow.num_heads, narrow.head_dim, narrow.scale) == (wide.num_heads, wide.head_dim, wide.scale)
            assert narrow.qkv.conv.out_channels == narrow.num_heads * (2 * narrow.key_dim + narrow.head_dim)


@families
def test_weights_that_stay_are_the_originals(name: str) -> None:
    found, cut = planner(name).trace, plan(name, DEEP)
    kept = dict(zip((group.name for group in found.groups), cut.kept, strict=True))
    before, after = original(name).model[0].conv.weight, pruned(name, DEEP).model[0].conv.weight
    assert len(kept["model.0.conv"]) < len(before)
    assert torch.equal(after, before[kept["model.0.conv"]])


@families
def test_plan_says_the_channels_that_are_left(name: str) -> None:
    narrow = pruned(name, LEVEL_5)
    rows = {row.name: row.channels_after for row in plan(name, LEVEL_5).layers}
    widths = {
        layer.removesuffix(".conv"): conv.out_channels
        for layer, conv in narrow.named_modules()
        if isinstance(conv, nn.Conv2d)
    }
    assert rows == widths


@families
def test_pruned_model_can_be_trained(name: str) -> None:
    narrow = copy.deepcopy(pruned(name, LEVEL_5)).train()
    raw = narrow(torch.rand(2, 3, 64, 64))
    heads = [raw] if "boxes" in raw else list(raw.values())
    sum(head["boxes"].sum() + head["scores"].sum() for head in heads).backward()
    assert all(parameter.grad is not None for key, parameter in narrow.named_parameters() if ".dfl." not in key)


@families
def test_pruned_model_can_be_pruned_again(name: str) -> None:
    narrow = pruned(name, LEVEL_5)
    again = Planner(narrow, 64, original=original(name))
    cut = again.plan(Target(gflops_kept=0.8, params_kept=0.8))
    assert cut.before == plan(name, LEVEL_5).after
    both = apply_plan(narrow, again.trace, cut)
    check_against_silenced(narrow, again.trace, cut, both)
    # Counted from the first model, as if it had been cut at once.
    costs, rows = planner(name).outcome(both)
    assert costs == cut.after
    assert [row.channels_after for row in rows] == [row.channels_after for row in cut.layers]
    assert [row.channels_before for row in rows] == [row.channels_before for row in plan(name, LEVEL_5).layers]


@families
def test_floors_are_parts_of_the_first_models_widths(name: str) -> None:
    narrow = pruned(name, LEVEL_5)
    again = Planner(narrow, 64, original=original(name))
    cut = again.plan(Target(gflops_kept=0.5, params_kept=None))
    for group, channels, first in zip(again.trace.groups, cut.kept, planner(name).trace.groups, strict=True):
        assert group.name == first.name
        assert len(channels) >= MIN_GROUP_KEPT * first.width


# What stays of each convolution's outputs


@families
@cuts
def test_kept_outputs_are_those_of_the_narrow_model(name: str, target: Target) -> None:
    model, narrow = original(name), pruned(name, target)
    kept = kept_outputs(model, planner(name).trace, plan(name, target))
    assert {layer for layer, _ in convolutions(model)} <= set(kept)
    n_cut = n_told = 0
    for layer, channels in kept.items():
        wide, thin = model.get_submodule(layer), narrow.get_submodule(layer)
        assert len(channels) == thin.out_channels
        assert np.all(np.diff(channels) > 0)
        assert 0 <= channels[0] <= channels[-1] < wide.out_channels
        n_cut += len(channels) < wide.out_channels
        # BatchNorm says which channels they are: its statistics are drawn at random.
        means = f"{layer.removesuffix('conv')}bn.running_mean"
        if means in model.state_dict():
            assert torch.equal(narrow.state_dict()[means], model.state_dict()[means][channels])
            n_told += 1
    assert n_cut > 20
    assert n_told > 50


@families
def test_kept_outputs_of_both_halves_stand_side_by_side(name: str) -> None:
    kept = kept_outputs(original(name), planner(name).trace, plan(name, DEEP))
    n_checked = 0
    for layer, block in original(name).named_modules():
        if isinstance(block, C2f):
            channels, half = kept[f"{layer}.cv1.conv"], block.cv1.conv.out_channels // 2
            assert np.sum(channels < half) == np.sum(channels >= half) == pruned(name, DEEP).get_submodule(layer).c
            n_checked += 1
    assert n_checked == 8


@families
def test_outputs_that_must_stay_are_kept(name: str) -> None:
    model = original(name)
    kept = kept_outputs(model, planner(name).trace, plan(name, DEEP))
    locked = [
        member
        for group in planner(name).trace.groups
        if group.locked
        for member in group.members
        if member.side == "out" and member.layer in kept
    ]
    assert any(".cv2." in member.layer for member in locked)
    for member in locked:
        assert set(member.positions.tolist()) <= set(kept[member.layer].tolist())


def test_kept_outputs_of_a_plan_of_nothing_are_all() -> None:
    kept = kept_outputs(original("yolov8n"), planner("yolov8n").trace, plan("yolov8n", target_of(0)))
    for layer, conv in convolutions(original("yolov8n")):
        assert kept[layer].tolist() == list(range(channels_out(conv)))
