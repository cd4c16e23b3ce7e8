"""How a cut is shared out, on three groups whose rankings can be told by eye."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from compression.pruning.allocation import ALLOCATIONS, Numbers, Units, budget, isomorphic, ranked, uniform
from compression.spec import AllocationName

DEPTHS = np.linspace(0, 1, 41)
TILTS = (-3.0, -1.0, 0.0, 0.5, 1.0, 3.0)

every = pytest.mark.parametrize("name", ALLOCATIONS)
tilted = pytest.mark.parametrize("tilt", TILTS)


def units(**changes: Any) -> Units:
    """Three groups of 4, 8 and 6 channels; the first and the last are of the same structure."""
    values: dict[str, Any] = {
        "widths": np.array([4.0, 8.0, 6.0]),
        "floors": np.array([1.0, 2.0, 1.0]),
        "prices": [
            np.array([1.0, 2.0, 30.0, 40.0]),
            np.array([3.0, 4.0, 5.0, 6.0, 50.0, 60.0, 70.0, 80.0]),
            np.array([0.5, 0.6, 0.7, 0.8, 0.9, 7.0]),
        ],
        # The first is cheap in parameters and costs GFLOPs, the last is the other way round.
        "gflops": np.array([0.04, 0.01, 0.0025]),
        "params": np.array([0.0025, 0.01, 0.04]),
        "kinds": ["a", "b", "a"],
    }
    return Units(**{**values, **changes})


def alike(**changes: Any) -> Units:
    """The same, but every channel costs the same."""
    return units(gflops=np.full(3, 0.01), params=np.full(3, 0.01), **changes)


def kept(name: str, at: Units, depth: float, tilt: float = 0.0) -> list[float]:
    (allocation,) = (function for key, function in ALLOCATIONS.items() if key == name)
    counts: Numbers = allocation(at, tilt)(depth)
    return counts.tolist()


# Every allocation


def test_there_is_one_for_every_name() -> None:
    assert set(ALLOCATIONS) == set(get_args(AllocationName))


@every
@tilted
def test_nothing_goes_at_depth_0_and_all_that_may_at_depth_1(name: str, tilt: float) -> None:
    assert kept(name, units(), 0, tilt) == [4, 8, 6]
    assert kept(name, units(), 1, tilt) == pytest.approx([1, 2, 1], abs=1e-9)


@every
@tilted
def test_deeper_cuts_keep_no_more_of_any_group(name: str, tilt: float) -> None:
    counts = np.array([kept(name, units(), depth, tilt) for depth in DEPTHS])
    assert np.all(np.diff(counts, axis=0) <= 1e-12)
    assert np.all(counts >= units().floors)
    # It is a long way down, not a jump.
    assert len(np.unique(counts, axis=0)) > 8


@every
def test_groups_at_their_floor_stay(name: str) -> None:
    full = units(floors=np.array([4.0, 8.0, 1.0]))
    for depth in DEPTHS:
        assert kept(name, full, depth)[:2] == [4, 8]
    assert kept(name, full, 1)[2] == pytest.approx(1, abs=1e-9)


@every
def test_a_tilt_moves_the_cut_toward_what_holds_parameters(name: str) -> None:
    # Equal prices, so that the tilt alone decides; the last group is the heaviest, the first the lightest.
    flat = units(prices=[np.full(4, 1.0), np.full(8, 1.0), np.full(6, 1.0)], kinds=["a", "a", "a"])
    # Tilt 0 of the budget stands for GFLOPs alone; its middle is a half.
    middle = 0.5 if name == "budget" else 0.0
    for distance in (0.5, 1.5, 3.0):
        light, _, heavy = kept(name, flat, 0.25, middle + distance)
        assert light / 4 > heavy / 6
        light, _, heavy = kept(name, flat, 0.25, middle - distance)
        assert light / 4 < heavy / 6


def test_heaviness_is_the_share_of_parameters_over_that_of_gflops() -> None:
    np.testing.assert_allclose(units().heaviness, [1 / 16, 1, 16])
    # Geometric mean 1, whatever the scale.
    np.testing.assert_allclose(replace(units(), params=7 * units().params).heaviness, [1 / 16, 1, 16])


# Uniform


@pytest.mark.parametrize("depth", [0.1, 0.3, 0.5, 0.7])
def test_uniform_keeps_the_same_part_of_every_group(depth: float) -> None:
    free = units(floors=np.zeros(3))
    parts = uniform(free, 0)(depth) / free.widths
    assert parts == pytest.approx([parts[0]] * 3)
    assert 0 < parts[0] < 1


def test_uniform_does_not_look_at_prices() -> None:
    other = units(prices=[np.arange(4.0), np.arange(8.0), np.arange(6.0)])
    for depth in DEPTHS:
        assert kept("uniform", units(), depth, 0.7) == kept("uniform", other, depth, 0.7)


def test_uniform_at_a_tilt_cuts_in_proportion_to_heaviness() -> None:
    cut = 1 - uniform(units(floors=np.zeros(3)), 0.5)(0.1) / units().widths
    # Roots of 1/16, 1 and 16.
    np.testing.assert_allclose(cut / cut[1], [0.25, 1, 4])


# One ranking of all


@pytest.mark.parametrize(
    ("n_gone", "wanted"),
    [
        (3, [4, 8, 3]),  # 0.5, 0.6, 0.7 of the last
        (6, [3, 8, 1]),  # 0.8 and 0.9 of the last, 1 of the first
        (8, [2, 7, 1]),  # 2 of the first, 3 of the second
        (12, [2, 4, 1]),  # 4, 5, 6 of the second; 7 of the last stays at its floor
    ],
)
def test_global_follows_one_ranking(n_gone: int, wanted: list[float]) -> None:
    # At depth d the lowest d of all 18 channels go.
    assert kept("global", units(), n_gone / 18) == wanted


def test_global_at_a_tilt_divides_prices_by_heaviness() -> None:
    # At tilt 1 the first group's prices count 16 times, the last one's a sixteenth: 7/16 comes before 3.
    assert kept("global", units(floors=np.zeros(3)), 6 / 18, 1) == [4, 8, 0]
    # The other way round 1/16, 2/16, 30/16 and 40/16 of the first come before 3 of the second and 0.5 x 16 of the last.
    assert kept("global", units(floors=np.zeros(3)), 5 / 18, -1) == [0, 7, 6]


# Structure by structure


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5, 0.8])
def test_isomorphic_cuts_every_structure_by_the_same_part(part: float) -> None:
    first, second, third = kept("isomorphic", units(floors=np.zeros(3)), part)
    assert 10 - first - third == round(part * 10)
    assert 8 - second == round(part * 8)


def test_isomorphic_ranks_within_a_structure() -> None:
    # Half of the ten channels of the first and last group are the last one's five cheapest.
    assert kept("isomorphic", units(), 0.5) == [4, 4, 1]
    # Prices of other structures do not matter.
    cheap = units(prices=[units().prices[0], 1e-6 * units().prices[1], units().prices[2]])
    assert kept("isomorphic", cheap, 0.5) == [4, 4, 1]


def test_isomorphic_of_one_structure_is_global() -> None:
    same = units(kinds=["a", "a", "a"])
    for depth in DEPTHS:
        assert kept("isomorphic", same, depth, 0.5) == kept("global", same, depth, 0.5)


# Prices over costs


def test_budget_of_equal_costs_is_global() -> None:
    for depth in DEPTHS:
        assert kept("budget", alike(), depth) == kept("global", alike(), depth)


def test_budget_takes_of_equal_prices_the_channel_that_costs_more() -> None:
    flat = [np.full(4, 1.0), np.full(8, 1.0), np.full(6, 1.0)]
    even = units(prices=flat, floors=np.zeros(3))
    # Tilt 0: GFLOPs, of which the first group's channels cost most, then the second's.
    assert kept("budget", even, 4 / 18, 0) == [0, 8, 6]
    assert kept("budget", even, 6 / 18, 0) == [0, 6, 6]
    # Tilt 1: parameters, of which the last group's do.
    assert kept("budget", even, 6 / 18, 1) == [4, 8, 0]
    assert kept("budget", even, 8 / 18, 1) == [4, 6, 0]


def test_budget_weighs_prices_against_costs() -> None:
    # By GFLOPs a channel of the first group may cost 4 times as much as one of the second, 16 times as the last one's:
    # 1/4, 2/4, 0.5 x 4 of the last, 0.6 x 4, 0.7 x 4, 3 of the second.
    free = units(floors=np.zeros(3))
    assert kept("budget", free, 2 / 18, 0) == [2, 8, 6]
    assert kept("budget", free, 5 / 18, 0) == [2, 8, 3]
    assert kept("budget", free, 6 / 18, 0) == [2, 7, 3]


def test_budget_between_the_costs_is_their_geometric_mean() -> None:
    # All three cost the same then.
    for depth in DEPTHS:
        assert kept("budget", units(), depth, 0.5) == kept("global", units(), depth)


def test_the_functions_do_not_change_what_they_are_given() -> None:
    given = units()
    for allocation in (uniform, ranked, isomorphic, budget):
        allocation(given, 0.7)(0.4)
    for name, value in vars(units()).items():
        np.testing.assert_equal(getattr(given, name), value)
