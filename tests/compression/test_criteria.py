"""Which channels stay: scores against weights added up by hand, and ties."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compression.criteria import group_l2, strongest_channels
from compression.planner import Planner
from compression.trace import ChannelGroup
from tests.compression.models import DEEP, FAMILIES, original, planner


def squares(model: nn.Module, group: ChannelGroup) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Sum of the squared weights of each channel of a group, layer by layer of the original."""
    sums = np.zeros(group.width)
    for member in group.members:
        layer = model.get_submodule(member.layer)
        assert isinstance(layer.weight, torch.Tensor)
        weight = layer.weight.detach().double()
        if isinstance(layer, nn.Conv2d):
            if layer.groups > 1:
                continue  # depthwise kernels do not count
            weight = weight if member.side == "out" else weight.transpose(0, 1)
        each = weight.reshape(len(weight), -1).square().sum(1).numpy()
        np.add.at(sums, member.channels, each[member.positions])
    return sums


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_are_the_squares_of_all_weights_of_a_channel(name: str) -> None:
    n_checked = 0
    for group in planner(name).trace.groups:
        if group.locked is None:
            by_hand = squares(original(name), group)
            np.testing.assert_allclose(group_l2(group), by_hand / by_hand.mean(), rtol=1e-4)
            n_checked += 1
    assert n_checked > 20


def test_larger_channels_stay() -> None:
    model = copy.deepcopy(original("yolov8n"))
    strong = [1, 2, 3, 5, 8, 13, 14, 15]
    with torch.no_grad():
        model.model[0].conv.weight[strong] *= 10
    made = Planner(model, 64)
    index = next(i for i, group in enumerate(made.trace.groups) if group.name == "model.0.conv")
    kept = made.plan(DEEP).kept[index].tolist()
    assert 8 <= len(kept) < 16
    assert set(strong) <= set(kept)


def test_size_counts_in_every_layer_that_reads_a_channel() -> None:
    model = copy.deepcopy(original("yolov8n"))
    with torch.no_grad():
        model.model[1].conv.weight[:, 7] *= 10
    group = next(group for group in Planner(model, 64).trace.groups if group.name == "model.0.conv")
    assert group_l2(group).argmax() == 7


@pytest.mark.parametrize(
    ("scores", "n_kept", "kept"),
    [
        ([1.0, 3.0, 2.0], 2, [1, 2]),
        ([3.0, 1.0, 2.0], 1, [0]),
        ([1.0, 3.0, 2.0], 3, [0, 1, 2]),
        # Of equals the first ones stay.
        ([1.0, 1.0, 1.0, 1.0], 2, [0, 1]),
        ([0.0, 2.0, 1.0, 2.0, 2.0], 2, [1, 3]),
    ],
)
def test_strongest_channels(scores: list[float], n_kept: int, kept: list[int]) -> None:
    assert strongest_channels(np.array(scores), n_kept).tolist() == kept


def test_ties_are_stable_in_wide_groups() -> None:
    # Numpy's default sort keeps the order of equals in short arrays only.
    assert strongest_channels(np.tile([1.0, 0.0], 512), 300).tolist() == list(range(0, 600, 2))
