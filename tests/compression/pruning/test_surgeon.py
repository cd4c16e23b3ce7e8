"""Prices of eliminated channels, against regressions solved anew for each set of channels that is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compression.graph.trace import ChannelGroup, Member
from compression.pruning.evidence import Moments, moments
from compression.pruning.surgeon import DAMPING, elimination_prices
from tests.compression.images import noise
from tests.compression.small_models import original, planner

Numbers = NDArray[np.float64]
N_POSITIONS = 400


def signals(n_channels: int, seed: int = 0) -> Numbers:
    """Inputs of a layer at many positions, correlated and of different size, mean 0: [positions, channels]."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(N_POSITIONS, n_channels)) @ draw.normal(size=(n_channels, n_channels))
    scaled = mixed * np.linspace(0.5, 2, n_channels)
    return np.asarray(scaled - scaled.mean(axis=0), dtype=np.float64)


def kernels(conv: nn.Conv2d) -> Numbers:
    """[channels in, channels out x taps]."""
    return np.asarray(conv.weight.detach().double().transpose(0, 1).flatten(1).numpy(), dtype=np.float64)


def moments_of(inputs: Numbers, importance: Sequence[float]) -> Moments:
    """Moments of a layer with those inputs, whose outputs matter as much as given."""
    weights = torch.tensor(importance, dtype=torch.float64)
    # Importance is the root of gradients over variance; the variance is damped by a thousandth of its mean.
    return Moments(
        inputs=torch.from_numpy(inputs.T @ inputs / len(inputs)),
        outputs=torch.ones(len(weights), dtype=torch.float64),
        gradients=weights**2 * (1 + DAMPING),
    )


def group_of(
    width: int, *readers: tuple[str, Sequence[int], Sequence[int]], more: Sequence[Member] = ()
) -> ChannelGroup:
    """A group that is read at the given positions of the given layers."""
    members = [
        Member(layer=layer, side="in", positions=np.array(positions), channels=np.array(channels))
        for layer, positions, channels in readers
    ]
    return ChannelGroup(name="giver", width=width, members=(*members, *more), locked=None, couplings=cast(Any, None))


def residual(inputs: Numbers, wanted: Numbers, gone: Sequence[int], importance: Sequence[float]) -> float:
    """What damped least squares leaves of the outputs when the inputs `gone` are missing.

    Args:
        inputs: [positions, inputs].
        wanted: kernels that give the outputs, [inputs, outputs].
        gone: inputs.
        importance: of each output.
    """
    damping = DAMPING * inputs.var(axis=0).mean()
    # A row more for each input does to the regression what variance added to that input does.
    rows = np.concatenate([inputs / np.sqrt(len(inputs)), np.sqrt(damping) * np.eye(inputs.shape[1])])
    left = np.setdiff1d(np.arange(inputs.shape[1]), gone)
    fitted = np.linalg.lstsq(rows[:, left], rows @ wanted, rcond=None)[0]
    errors = ((rows @ wanted - rows[:, left] @ fitted) ** 2).sum(axis=0)
    return float(errors @ np.asarray(importance))


Reader = tuple[Numbers, Numbers, Sequence[float], Sequence[int], Sequence[int]]


def by_brute_force(width: int, readers: Sequence[Reader]) -> tuple[Numbers, list[int]]:
    """Prices and order of a greedy elimination, each step by regressions on all channels that would be left."""

    def total(gone: Sequence[int]) -> float:
        return sum(
            residual(inputs, wanted, [p for p, c in zip(positions, channels, strict=True) if c in gone], importance)
            for inputs, wanted, importance, positions, channels in readers
        )

    prices, order, last = np.zeros(width), list[int](), 0.0
    while len(order) < width:
        added = {c: total([*order, c]) - total(order) for c in range(width) if c not in order}
        cheapest = min(added, key=lambda channel: added[channel])
        last = max(last, added[cheapest])
        prices[cheapest] = last
        order.append(cheapest)
    return prices, order


def one_layer(width: int = 6, n_out: int = 4, kernel: int = 1, seed: int = 0) -> tuple[nn.Module, nn.Conv2d]:
    torch.manual_seed(seed)
    conv = nn.Conv2d(width, n_out, kernel)
    return nn.ModuleDict({"reader": conv}), conv


# One layer that reads all channels


def test_price_of_the_first_channel_is_the_error_that_regression_leaves() -> None:
    model, conv = one_layer()
    inputs, importance = signals(6), [1.0, 1.0, 1.0, 1.0]
    prices = elimination_prices(
        group_of(6, ("reader", range(6), range(6))), model, {"reader": moments_of(inputs, importance)}
    )
    alone = [residual(inputs, kernels(conv), [channel], importance) for channel in range(6)]
    first = int(np.argmin(alone))
    assert int(prices.argmin()) == first
    assert prices[first] == pytest.approx(alone[first], rel=1e-6)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_prices_are_those_of_removing_set_after_set(kernel: int, seed: int) -> None:
    model, conv = one_layer(kernel=kernel, seed=seed)
    inputs, importance = signals(6, seed), [0.3, 2.0, 1.0, 0.0]
    ours = elimination_prices(
        group_of(6, ("reader", range(6), range(6))), model, {"reader": moments_of(inputs, importance)}
    )
    prices, order = by_brute_force(
        6, [(inputs, kernels(conv), np.repeat(importance, kernel**2).tolist(), range(6), range(6))]
    )
    np.testing.assert_allclose(ours, prices, rtol=1e-6)
    assert np.argsort(ours, kind="stable").tolist() == np.argsort(prices, kind="stable").tolist()
    # Prices do not fall along the elimination.
    assert np.all(np.diff(ours[order]) >= 0)


def test_nothing_stands_in_for_uncorrelated_channels() -> None:
    # Each costs what it carries.
    model, conv = one_layer(width=5)
    inputs = np.linalg.qr(np.random.default_rng(0).normal(size=(N_POSITIONS, 5)))[0] * np.sqrt(N_POSITIONS)
    inputs = inputs * [1.0, 2.0, 3.0, 4.0, 5.0]
    group = group_of(5, ("reader", range(5), range(5)))
    seen = moments_of(inputs, [1.0] * 4)
    variances = (inputs**2).mean(axis=0)
    carried = (kernels(conv) ** 2).sum(axis=1) * (variances + DAMPING * variances.mean())
    np.testing.assert_allclose(elimination_prices(group, model, {"reader": seen}), carried, rtol=1e-6)


def test_one_of_two_equal_channels_is_spared_and_the_other_is_not() -> None:
    model, conv = one_layer(width=5)
    inputs = signals(5)
    inputs[:, 3] = inputs[:, 1]
    seen = moments_of(inputs, [1.0] * 4)
    prices = elimination_prices(group_of(5, ("reader", range(5), range(5))), model, {"reader": seen})
    first, twin = sorted((1, 3), key=lambda channel: prices[channel])
    # What is left of its price is the damping's.
    assert prices[first] < 0.1 * min(prices[channel] for channel in (0, 2, 4))
    assert prices[twin] > 20 * prices[first]
    # With its equal gone it carries what both gave.
    alone = signals(5)[:, [0, 1, 2, 4]]
    both = kernels(conv)
    both[1] += both[3]
    expected, _ = by_brute_force(4, [(alone, both[[0, 1, 2, 4]], [1.0] * 4, range(4), range(4))])
    assert prices[twin] == pytest.approx(expected[1], rel=0.05)


def test_channels_that_nothing_was_seen_of_go_first() -> None:
    model, _ = one_layer()
    inputs = signals(6)
    inputs[:, [2, 4]] = 0
    prices = elimination_prices(
        group_of(6, ("reader", range(6), range(6))), model, {"reader": moments_of(inputs, [1.0] * 4)}
    )
    assert np.all(np.isfinite(prices))
    assert set(np.argsort(prices)[:2]) == {2, 4}
    assert prices[[2, 4]].max() < 0.01 * np.delete(prices, [2, 4]).min()


def test_a_layer_in_which_nothing_happens_costs_nothing() -> None:
    model, _ = one_layer()
    still = Moments(
        inputs=torch.zeros(6, 6).double(), outputs=torch.zeros(4).double(), gradients=torch.zeros(4).double()
    )
    prices = elimination_prices(group_of(6, ("reader", range(6), range(6))), model, {"reader": still})
    np.testing.assert_array_equal(prices, 0)


# Several layers, and layers that read more than the group


def test_prices_of_all_readers_add_up() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Conv2d(5, 4, 1), "b": nn.Conv2d(8, 3, 3), "norm": nn.BatchNorm2d(5)})
    in_a, in_b = signals(5, seed=1), signals(8, seed=2)
    # The second reads the group's channels behind three others, and in another order.
    places, order = [3, 4, 5, 6, 7], [4, 2, 0, 1, 3]
    norm = Member(layer="norm", side="out", positions=np.arange(5), channels=np.arange(5))
    ours = elimination_prices(
        group_of(5, ("a", range(5), range(5)), ("b", places, order), more=[norm]),
        model,
        {"a": moments_of(in_a, [1.0] * 4), "b": moments_of(in_b, [2.0] * 3)},
    )
    prices, _ = by_brute_force(
        5,
        [
            (in_a, kernels(cast(nn.Conv2d, model["a"])), [1.0] * 4, range(5), range(5)),
            (in_b, kernels(cast(nn.Conv2d, model["b"])), [2.0] * 27, places, order),
        ],
    )
    np.testing.assert_allclose(ours, prices, rtol=1e-6)


def test_other_inputs_of_a_reader_stand_in() -> None:
    model, _ = one_layer(width=4)
    inputs = signals(4)
    inputs[:, 3] = inputs[:, 0]
    seen = {"reader": moments_of(inputs, [1.0] * 4)}
    # The group's channel 0 is also what another group gives at position 3.
    prices = elimination_prices(group_of(2, ("reader", [0, 1], [0, 1])), model, seen)
    without = elimination_prices(
        group_of(2, ("reader", [0, 1], [0, 1])), model, {"reader": moments_of(signals(4), [1.0] * 4)}
    )
    # What is left of its price is the damping's.
    assert prices[0] < 0.1 * prices[1]
    assert prices[0] < 0.1 * without[0]


def test_what_matters_more_costs_more() -> None:
    model, conv = one_layer(width=2, n_out=2)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(2)[:, :, None, None])
    inputs = np.linalg.qr(np.random.default_rng(0).normal(size=(N_POSITIONS, 2)))[0]
    group = group_of(2, ("reader", range(2), range(2)))
    prices = elimination_prices(group, model, {"reader": moments_of(inputs, [1.0, 5.0])})
    assert prices[1] == pytest.approx(5 * prices[0], rel=1e-6)


def test_depthwise_convolutions_are_no_readers() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"deep": nn.Conv2d(4, 4, 3, groups=4), "point": nn.Conv2d(4, 3, 1)})
    deep = Member(layer="deep", side="out", positions=np.arange(4), channels=np.arange(4))
    seen = {"point": moments_of(signals(4), [1.0] * 3)}
    both = elimination_prices(group_of(4, ("point", range(4), range(4)), more=[deep]), model, seen)
    np.testing.assert_array_equal(both, elimination_prices(group_of(4, ("point", range(4), range(4))), model, seen))


def test_channels_that_no_layer_reads_cost_what_varies_in_them() -> None:
    # As queries and keys do: three channels that each stand at two places of one layer.
    model = nn.ModuleDict({"qkv": nn.Conv2d(2, 8, 1)})
    queries, keys = (
        Member(layer="qkv", side="out", positions=np.array(positions), channels=np.arange(3))
        for positions in ([0, 1, 2], [3, 4, 5])
    )
    variances = torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0, 4.0, 2.0, 2.0], dtype=torch.float64)  # mean 2
    gradients = torch.tensor([4.0, 1.0, 0.0, 1.0, 9.0, 1.0, 5.0, 5.0], dtype=torch.float64)
    seen = Moments(inputs=torch.eye(2).double(), outputs=variances, gradients=gradients)
    costs = [
        (np.sqrt(gradient / (variance + 2 * DAMPING)) * variance)
        for gradient, variance in zip(gradients.tolist(), variances.tolist(), strict=True)
    ]
    np.testing.assert_allclose(
        elimination_prices(group_of(3, more=[queries, keys]), model, {"qkv": seen}),
        [costs[0] + costs[3], costs[1] + costs[4], costs[2] + costs[5]],
    )


# Real groups


def test_prices_of_a_real_group_are_those_of_regressions_on_its_images() -> None:
    model, found = original("yolov8n"), planner("yolov8n").trace
    calibration = noise(2, nc=80)
    group = next(group for group in found.groups if group.name == "model.0.conv")
    (reader,) = [member for member in group.members if member.side == "in"]
    assert reader.layer == "model.1.conv"
    seen = moments(model, calibration, torch.device("cpu"))
    inputs: list[Tensor] = []
    conv = model.get_submodule(reader.layer)
    assert isinstance(conv, nn.Conv2d)
    handle = conv.register_forward_pre_hook(lambda _conv, given: inputs.append(given[0]))
    with torch.no_grad():
        model(calibration.images.float() / 255)
    handle.remove()
    flat = inputs[0].double().transpose(0, 1).flatten(1).T.numpy()
    outputs, gradients = seen[reader.layer].outputs, seen[reader.layer].gradients
    importance = (gradients / (outputs + DAMPING * outputs.mean())).sqrt().repeat_interleave(9).tolist()
    ours = elimination_prices(group, model, seen)
    prices, _ = by_brute_force(
        16, [(flat - flat.mean(axis=0), kernels(conv), importance, reader.positions.tolist(), reader.channels.tolist())]
    )
    np.testing.assert_allclose(ours, prices, rtol=1e-3)
