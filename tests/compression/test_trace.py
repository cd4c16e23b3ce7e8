"""Which channels hang together: the unfolded copy, the groups, and what must stay."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn
from ultralytics.nn.modules import C2PSA, C2f, Conv
from ultralytics.nn.tasks import DetectionModel

from compression.errors import ModelError
from compression.trace import ChannelGroup, convolutions, make_traceable, trace
from tests.compression.models import FAMILIES, build, original, planner

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


# The copy that is traced


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
    first, second, values = (found.groups[index] for index in heads)
    assert tuple(heads[:2]) in found.ties
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
    assert sorted(values.members[0].positions) == [*range(64, 128), *range(192, 256)]


# Places in the original


@families
def test_places_of_the_copys_layers_in_the_original(name: str) -> None:
    model = original(name)
    covered: dict[str, list[int]] = {}
    for module, (layer, first) in planner(name).trace.places.items():
        there: Any = model.get_submodule(layer)
        assert isinstance(there, type(module))
        for (key, ours), (_, theirs) in zip(
            module.named_parameters(recurse=False), there.named_parameters(recurse=False), strict=True
        ):
            assert torch.equal(ours, theirs[first : first + len(ours)]), (layer, key)
        n_channels = len(module.state_dict()["weight"])
        covered.setdefault(layer, []).extend(range(first, first + n_channels))
    assert {layer: sorted(channels) for layer, channels in covered.items()} == {
        layer: list(range(len(module.weight)))
        for layer, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    }


@families
def test_halves_have_places_of_their_own(name: str) -> None:
    found = planner(name).trace
    starts: dict[str, list[int]] = {}
    for layer, first in found.places.values():
        starts.setdefault(layer, []).append(first)
    wanted = {
        f"{path}.cv1.{part}": [0, block.cv1.conv.out_channels // 2]
        for path, block in original(name).named_modules()
        if isinstance(block, C2f | C2PSA)
        for part in ("conv", "bn")
    }
    assert {layer: sorted(firsts) for layer, firsts in starts.items() if len(firsts) > 1} == wanted
    assert all(firsts == [0] for layer, firsts in starts.items() if layer not in wanted)


def test_the_layers_of_the_copys_groups_have_places() -> None:
    found = planner("yolo26n").trace
    for group in found.groups:
        for dependency, _ in group.couplings:
            module = dependency.target.module
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                assert found.places[module][0] in {member.layer for member in group.members}


@families
def test_convolutions_are_all_but_the_decoding_of_boxes(name: str) -> None:
    model = original(name)
    found = dict(convolutions(model))
    every = {layer: module for layer, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    # yolo26 decodes boxes without a convolution.
    assert set(every) - set(found) == (set() if name == "yolo26n" else {f"model.{len(model.model) - 1}.dfl.conv"})
    assert all(module is every[layer] for layer, module in found.items())


# Models that cannot be traced


def test_unknown_block() -> None:
    model = build([-1, 1, "nn.MaxPool2d", [3, 1, 1]])
    with pytest.raises(
        ModelError, match=r"Block 2 of this model is a MaxPool2d, which cannot be pruned yet; models of"
    ):
        trace(model)


def test_repeated_unknown_block() -> None:
    model = build([-1, 2, "nn.MaxPool2d", [3, 1, 1]])
    assert isinstance(model.model[2], nn.Sequential)
    with pytest.raises(ModelError, match=r"Block 2 of this model is a MaxPool2d"):
        trace(model)


@pytest.mark.parametrize("block", [["Conv", [64, 3, 1, None, 4]], ["DWConv", [128, 3, 1]]])
def test_grouped_convolution(block: list[Any]) -> None:
    model = build([-1, 1, *block])
    with pytest.raises(ModelError, match=r"Layer model\.2\.conv of this model is a convolution in (4|64) groups"):
        trace(model)


def test_a_lost_group_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    find = tp.DependencyGraph.get_all_groups
    lost = next(index for index, group in enumerate(groups("yolov8n")) if group.name == "model.12.cv2.conv")
    monkeypatch.setattr(
        tp.DependencyGraph,
        "get_all_groups",
        lambda *args, **keys: (group for index, group in enumerate(find(*args, **keys)) if index != lost),
    )
    # It reads those channels and others.
    with pytest.raises(ModelError, match=r"The channels of layer model\.15\.cv1\.conv cannot be followed"):
        trace(original("yolov8n"))


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
