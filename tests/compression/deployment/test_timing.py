"""Taking turns, and ratios worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from compression.deployment.timing import TIMED_PASSES, UNTIMED_PASSES, WARM_UP_PASSES, ratio_of, take_turns


def test_each_action_gets_its_turns_in_every_round() -> None:
    called: list[str] = []
    seconds = take_turns([lambda: called.append("a"), lambda: called.append("b")], n_rounds=6)
    assert seconds.shape == (2, 6, TIMED_PASSES)
    assert (seconds >= 0).all()
    warm_up, rest = called[: 2 * WARM_UP_PASSES], called[2 * WARM_UP_PASSES :]
    assert warm_up == ["a"] * WARM_UP_PASSES + ["b"] * WARM_UP_PASSES
    turn = UNTIMED_PASSES + TIMED_PASSES
    turns = ["".join(rest[start : start + turn]) for start in range(0, len(rest), turn)]
    rounds = [turns[start : start + 2] for start in range(0, len(turns), 2)]
    assert len(rounds) == 6
    assert all(sorted(each) == ["a" * turn, "b" * turn] for each in rounds)
    # Who begins is left to chance, so that nobody always follows the same neighbour.
    assert len({tuple(each) for each in rounds}) == 2


def test_the_order_follows_from_the_seed() -> None:
    def order(seed: int) -> list[str]:
        called: list[str] = []
        take_turns([lambda: called.append("a"), lambda: called.append("b")], n_rounds=8, seed=seed)
        return called

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_steady_ratio_has_no_width() -> None:
    reference = np.array([[1.0, 1.0, 9.0], [2.0, 2.0, 2.0], [4.0, 4.0, 0.0]])
    found = ratio_of(0.5 * reference, reference)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_interval_of_a_ratio() -> None:
    """Logarithms of the rounds are 0 and ln 4: mean ln 2, standard error ln 2, Student's t for one degree 12.706."""
    found = ratio_of(np.array([[1.0], [4.0]]), np.array([[1.0], [1.0]]))
    assert found.value == pytest.approx(2.0)
    assert np.log([found.low, found.high]) == pytest.approx(np.log(2) * np.array([1 - 12.7062, 1 + 12.7062]), rel=1e-4)
