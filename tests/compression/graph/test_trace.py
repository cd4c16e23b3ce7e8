"""Which channels hang together: the unfolded copy, the groups, and what must stay."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn
from ultralytics.nn.modules import C2PSA, C2f, Conv
from ultralytics.nn.tasks import DetectionModel

from compression.errors import ModelError
from compression.graph import channels
from compression.graph.trace import ChannelGroup, convolutions, trace
from tests.compression.small_models import FAMILIES, build, original, planner

families = pytest.mark.parametrize("name", FAMILIES)


def groups(name: str) -> tuple[ChannelGroup, ...]:
    return planner(name).trace.groups


def sides(model: nn.Module) -> dict[tuple[str, str], int]:
    """Every side of every layer, with its number of channels; a depthwise convolution has one side."""
    widths = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            widths[name, "out"] = layer.num_features
        if isinstance(layer, nn.Conv2d):
            widths[name, "out"] = layer.out_channels
            if layer.groups == 1:
                widths[name, "in"] = layer.in_channels
    return widths


def test_tracing_leaves_the_model_alone() -> None:
    model = copy.deepcopy(original("yolo26n")).train().requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    modules = dict(model.named_modules())
    trace(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert dict(model.named_modules()) == modules
    assert not any("forward" in vars(module) for module in modules.values())
    assert all(module.training for module in modules.values())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())


# Groups


@families
def test_every_channel_of_both_sides_stands_in_one_group(name: str) -> None:
    met: dict[tuple[str, str], list[int]] = {}
    for group in groups(name):
        for member in group.members:
            assert len(member.positions) == len(member.channels)
            assert set(member.channels) <= set(range(group.width))
            met.setdefault((member.layer, member.side), []).extend(member.positions.tolist())
    wanted = sides(original(name))
    assert {side: sorted(positions) for side, positions in met.items()} == {
        side: list(range(wanted[side])) for side in met
    }
    # The image has three channels, queries and keys keep their width, and DFL decodes the head's outputs.
    left_out = {side for side in wanted if side not in met}
    assert ("model.0.conv", "in") in left_out
    assert all(layer == "model.0.conv" or ".attn.qkv." in layer or ".dfl." in layer for layer, _ in left_out)


@families
def test_every_group_keeps_its_channels_together(name: str) -> None:
    # A convolution's BatchNorm stands in the group of its outputs, channel by channel.
    for group in groups(name):
        out = {(member.layer, *pair) for member in group.members if member.side == "out" for pair in pairs_of(member)}
        for layer, position, channel in out:
            if layer.endswith(".conv"):
                assert (layer.removesuffix("conv") + "bn", position, channel) in out


def pairs_of(member: Any) -> list[tuple[int, int]]:
    return list(zip(member.positions.tolist(), member.channels.tolist(), strict=True))


def test_concatenated_channels_are_found_behind_the_ones_before_them() -> None:
    # In yolov8n, block 14 concatenates block 13 (upsampled block 12, 128 channels) and block 4 (64 channels).
    readers = {
        group.name: member.positions
        for group in groups("yolov8n")
        for member in group.members
        if (member.layer, member.side) == ("model.15.cv1.conv", "in")
    }
    assert readers["model.12.cv2.conv"].tolist() == list(range(128))
    assert readers["model.4.cv2.conv"].tolist() == list(range(128, 192))
    assert set(readers) == {"model.12.cv2.conv", "model.4.cv2.conv"}


def locked(name: str) -> dict[str, set[str]]:
    """Layers whose outputs must stay, by reason."""
    layers: dict[str, set[str]] = {}
    for group in groups(name):
        if group.locked:
            layers.setdefault(group.locked, set()).update(each.layer for each in group.members if each.side == "out")
    return layers


@pytest.mark.parametrize(
    ("name", "head", "blocks"), [("yolov8n", 22, []), ("yolo11n", 23, [10]), ("yolo26n", 23, [10])]
)
def test_locked_layers(name: str, head: int, blocks: list[int]) -> None:
    reasons = locked(name)
    branches = ("cv2", "cv3", "one2one_cv2", "one2one_cv3") if name == "yolo26n" else ("cv2", "cv3")
    assert reasons.pop("the outputs of the head") == {
        f"model.{head}.{branch}.{level}.2" for branch in branches for level in range(3)
    }
    attention = reasons.pop("the residual width of an attention block", set())
    for block in blocks:
        # The residual width, and the other half of the convolution that gives it.
        assert {
            f"model.{block}.cv1.conv",
            f"model.{block}.m.0.attn.proj.conv",
            f"model.{block}.m.0.ffn.1.conv",
        } < attention
        assert f"model.{block}.m.0.ffn.0.conv" not in attention
    assert bool(attention) == bool(blocks)
    assert not reasons


@families
def test_halves_are_tied(name: str) -> None:
    found = planner(name).trace
    tied = set()
    assert sorted(index for tie in found.ties for index in tie) == list(range(len(found.groups)))
    for tie in found.ties:
        groups_of_tie = [found.groups[index] for index in tie]
        assert len({group.width for group in groups_of_tie}) == 1
        assert len({group.locked is None for group in groups_of_tie}) == 1
        if len(tie) > 1:
            tied |= {each.layer for each in groups_of_tie[0].members if each.layer.endswith("cv1.conv")}
    chunked = {f"{layer}.cv1.conv" for layer, block in original(name).named_modules() if isinstance(block, C2f | C2PSA)}
    assert chunked <= tied


def test_queries_go_with_their_keys_and_heads_are_tied() -> None:
    # Two heads, each of 32 queries, 32 keys and 64 values, one after the other.
    found = planner("yolo26n").trace
    heads = [i for i, group in enumerate(found.groups) if group.name == "model.10.m.0.attn.qkv.conv"]
    first, second = (found.groups[index] for index in heads)
    (values,) = (group for group in found.groups if group.name == "model.10.m.0.attn.pe.conv")
    assert tuple(heads) in found.ties
    assert first.locked is second.locked is None
    assert values.locked == "the residual width of an attention block"
    for start, group in ((0, first), (128, second)):
        assert group.width == 32
        for layer in ("qkv.conv", "qkv.bn"):
            places = [
                (channel, position)
                for member in group.members
                if member.layer == f"model.10.m.0.attn.{layer}"
                for channel, position in zip(member.channels.tolist(), member.positions.tolist(), strict=True)
            ]
            assert sorted(places) == [(each, start + half + each) for each in range(32) for half in (0, 32)]
    (given,) = (member for member in values.members if member.layer == "model.10.m.0.attn.qkv.conv")
    assert sorted(given.positions) == [*range(64, 128), *range(192, 256)]


# The copy that importance measures look at


@families
def test_couplings_are_the_members(name: str) -> None:
    found = planner(name).trace
    layers = {module: layer for layer, module in found.twin.named_modules()}
    for group in found.groups:
        seen: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for item in group.couplings.items:
            dependency, positions = item
            side = "in" if dependency.handler == tp.prune_conv_in_channels else "out"
            assert item.root_idxs == list(range(group.width))
            place = layers[dependency.target.module], side
            seen.setdefault(place, []).extend(zip(item.root_idxs, positions, strict=True))
        assert {place: sorted(pairs) for place, pairs in seen.items()} == {
            (member.layer, member.side): sorted((channel, at) for at, channel in pairs_of(member))
            for member in group.members
        }


@families
def test_convolutions_are_all_but_the_decoding_of_boxes(name: str) -> None:
    model = original(name)
    found = dict(convolutions(model))
    every = {layer: module for layer, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    # yolo26 decodes boxes without a convolution.
    assert set(every) - set(found) == (set() if name == "yolo26n" else {f"model.{len(model.model) - 1}.dfl.conv"})
    assert all(module is every[layer] for layer, module in found.items())


# What is not known


def stays_as_it_is(block: list[Any], unknown: str) -> None:
    """A block keeps its channels, and so do its neighbours; the head is cut."""
    model = build(block, [-1, 1, "Conv", [32, 3, 1]])
    found = trace(model)
    assert [each.name for each in found.unknown] == [unknown]
    (warning,) = found.warnings
    assert unknown in warning
    assert type(model.get_submodule(unknown)).__name__ in warning
    members = [member for group in found.groups if group.locked is None for member in group.members]
    assert not any(member.layer.startswith("model.2.") for member in members)
    free = {member.layer for member in members if member.side == "out"}
    assert "model.1.conv" not in free
    assert {"model.0.conv", "model.3.conv"} <= free
    assert all(
        group.locked == found.unknown[0].reason
        for group in found.groups
        for member in group.members
        if (member.layer, member.side) == ("model.1.conv", "out")
    )


@pytest.mark.parametrize(
    "block",
    [
        *(["BottleneckCSP", [64]], ["nn.BatchNorm2d", []], ["nn.PixelShuffle", [1]], ["nn.ChannelShuffle", [2]]),
        *(["Conv", [64, 3, 1, None, 4]], ["DWConv", [128, 3, 1]], ["C3TR", [64]], ["nn.GroupNorm", [4, 64]]),
        *(["nn.InstanceNorm2d", [64]], ["nn.PReLU", [64]]),
    ],
    ids=lambda block: str(block[0]),
)
def test_unknown_block(block: list[Any]) -> None:
    stays_as_it_is([-1, 1, *block], "model.2")


def test_unknown_block_in_a_known_one() -> None:
    model = build([-1, 1, "C2f", [64, True, 4]])
    found = trace(model)
    # The first convolution of each bottleneck is plain, the second one works in groups.
    assert [each.name for each in found.unknown] == ["model.2.m.0.cv2"]
    assert "model.2.cv2.conv" in {group.name for group in found.groups if group.locked is None}


def test_repeated_unknown_block() -> None:
    found = trace(build([-1, 2, "nn.PixelShuffle", [1]]))
    assert [each.name for each in found.unknown] == ["model.2.0", "model.2.1"]
    assert found.warnings == (
        "PixelShuffle (model.2.0, model.2.1) is not a block that can be followed; it keeps its channels, and so do "
        "the layers beside it. docs/blocks.md shows how to make it known.",
    )


def test_a_subclass_is_not_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Conv):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).roll(1, 1)

    model = build([-1, 1, "Conv", [64, 3, 1]])
    model.model[2].__class__ = Odd
    assert [each.type for each in trace(model).unknown] == ["Odd"]


def test_unknown_operation_in_a_known_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Conv, "forward", lambda self, x: self.act(self.bn(self.conv(x))).roll(1, 1))
    locked = {group.locked for group in trace(build()).groups if group.name == "model.0.conv"}
    assert locked == {"the operation 'roll' is not followed"}


def test_a_block_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "TIME_LIMIT_S", 0.0)
    with pytest.raises(ModelError, match="took longer than 0 s and was given up"):
        trace(build())


def test_a_block_that_takes_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "MEMORY_LIMIT", 1 << 16)
    with pytest.raises(ModelError, match=r"met a tensor of shape \(1, 64, 32, 32\)"):
        trace(build())


def test_a_model_that_does_not_run() -> None:
    model = build()
    model.model[1].conv = nn.Conv2d(7, 64, 3)
    with pytest.raises(
        ModelError, match=r"This model does not run on an image of 64 pixels \(model\.1\.conv, Conv2d: RuntimeError: "
    ):
        trace(model)


def test_a_model_of_one_size_is_told_which_block_it_is() -> None:
    model = build([-1, 1, "nn.Identity", []])
    model.model[2] = nn.Sequential(nn.Flatten(2), nn.Unflatten(2, (40, 40)))
    model.model[2].i, model.model[2].f, model.model[2].type = 2, -1, "own"
    with pytest.raises(ModelError, match=r"64 pixels \(model\.2\.1, Unflatten: .* and at more sizes than one, as "):
        trace(model)


def test_p6_models_can_be_traced() -> None:
    # At the image size of the trace their deepest feature maps have a single position.
    assert len(trace(DetectionModel("yolo26n-p6.yaml", verbose=False)).groups) > len(groups("yolo26n"))


def test_groups_do_not_depend_on_the_weights() -> None:
    other = trace(DetectionModel("yolov8n.yaml", verbose=False))
    ours = planner("yolov8n").trace
    assert [(group.name, group.width, group.locked) for group in other.groups] == [
        (group.name, group.width, group.locked) for group in ours.groups
    ]
    assert other.ties == ours.ties
    assert all(
        np.array_equal(one.positions, two.positions)
        for group, twin in zip(other.groups, ours.groups, strict=True)
        for one, two in zip(group.members, twin.members, strict=True)
    )
