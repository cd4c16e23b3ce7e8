"""Intervals, worked out by hand with the quantiles that tables of Student's t print."""

from __future__ import annotations

import pytest

from cache.spread import half_interval, pooled

# Of 95% intervals, by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182}


def test_the_interval_of_a_mean() -> None:
    # Standard deviation 1, of three values.
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(T[2] / 3**0.5, rel=1e-4)


def test_one_value_tells_no_spread() -> None:
    assert half_interval([1.0]) is None
    assert pooled([[1.0], [2.0], []]) is None


def test_groups_share_their_spread_and_not_their_mean() -> None:
    # Squares within the groups: 2 of [0, 1, 2], and 0.5 of [10, 11]; degrees 2 + 1.
    spread = pooled([[0.0, 1.0, 2.0], [10.0, 11.0], [5.0]])
    assert spread is not None
    assert spread.sd == pytest.approx((2.5 / 3) ** 0.5)
    assert spread.degrees == 3
    # Of a difference of the means of two and of three.
    assert spread.half_width(1 / 2 + 1 / 3) == pytest.approx(T[3] * (2.5 / 3 * 5 / 6) ** 0.5, rel=2e-4)
