"""A level against the line between unpruned siblings, worked out by hand."""

from __future__ import annotations

import pytest

from cache.judgement import Axis, Candidate, Judgement, judge
from cache.spread import Spread

TIME = Axis(name="time", form="{:.2f} of the time")
GFLOPS = Axis(name="GFLOPs", form="{:g} GFLOPs")
SMALL = Candidate(name="small", accuracies=(0.40,), costs={GFLOPS: 6.0})
LARGE = Candidate(name="large", accuracies=(0.48,), costs={GFLOPS: 22.0})


def level(*accuracies: float, gflops: float = 18.0) -> Candidate:
    return Candidate(name="level 5", accuracies=accuracies, costs={GFLOPS: gflops})


def judged(candidate: Candidate, *siblings: Candidate, spread: Spread | None = None) -> Judgement:
    found = judge(candidate, siblings or (SMALL, LARGE), (TIME, GFLOPS), spread)
    assert found is not None
    return found


def test_the_line_is_straight_between_the_siblings_to_both_sides() -> None:
    # 18 GFLOPs are three quarters of the way: 0.40 + 0.75 x 0.08.
    found = judged(level(0.45))
    assert found.axis == GFLOPS
    assert found.line == pytest.approx(0.46)
    assert found.difference == pytest.approx(-1.0)
    assert [(share.sibling.name, share.part) for share in found.shares] == [("small", 0.25), ("large", 0.75)]
    assert (found.outcome, found.dominating, found.interval) == ("worse", None, None)
    assert judged(level(0.47)).outcome == "better"


def test_only_the_nearest_siblings_make_the_line() -> None:
    middle = Candidate(name="middle", accuracies=(0.47,), costs={GFLOPS: 14.0})
    # Half of the way from 14 to 22.
    assert judged(level(0.45), LARGE, SMALL, middle).line == pytest.approx(0.475)


def test_a_sibling_that_costs_less_and_is_better_dominates() -> None:
    assert judged(level(0.39)).dominating == SMALL
    assert judged(level(0.40)).dominating == SMALL
    # 0.45 at the same cost as the level.
    equal = Candidate(name="equal", accuracies=(0.45,), costs={GFLOPS: 18.0})
    assert judged(level(0.44), SMALL, equal, LARGE).dominating == equal


def test_a_line_that_falls_with_the_cost_does_not_hide_the_better_small_model() -> None:
    poor = Candidate(name="poor", accuracies=(0.36,), costs={GFLOPS: 22.0})
    found = judged(level(0.38), SMALL, poor)
    assert ([share.sibling for share in found.shares], found.line) == ([SMALL], 0.40)
    assert (found.outcome, found.dominating) == ("worse", SMALL)


def test_beyond_the_largest_sibling_the_best_that_costs_no_more_counts() -> None:
    found = judged(level(0.47, gflops=23.0))
    assert ([share.sibling for share in found.shares], found.dominating) == ([LARGE], LARGE)


def test_where_no_sibling_is_small_enough_there_is_nothing_to_compare() -> None:
    assert judge(level(0.3, gflops=5.0), (SMALL, LARGE), (GFLOPS,), None) is None
    unmeasured = Candidate(name="small", accuracies=(), costs={GFLOPS: 4.0})
    assert judge(level(0.3, gflops=5.0), (unmeasured, LARGE), (GFLOPS,), None) is None


def test_time_decides_where_a_smaller_sibling_was_timed() -> None:
    costs = {TIME: 0.9, GFLOPS: 18.0}
    candidate = Candidate(name="level 5", accuracies=(0.45,), costs=costs)
    large = Candidate(name="large", accuracies=(0.48,), costs={TIME: 1.0, GFLOPS: 22.0})
    small = Candidate(name="small", accuracies=(0.40,), costs={TIME: 0.5, GFLOPS: 6.0})
    assert judged(candidate, SMALL, large).axis == GFLOPS
    found = judged(candidate, small, large)
    # Four fifths of the way from 0.5 to 1.
    assert found.axis == TIME
    assert found.line == pytest.approx(0.464)


def test_a_sibling_that_was_measured_slower_is_no_alternative_by_its_gflops() -> None:
    candidate = Candidate(name="level 5", accuracies=(0.42,), costs={TIME: 0.5, GFLOPS: 6.5})
    large = Candidate(name="large", accuracies=(0.48,), costs={TIME: 1.0, GFLOPS: 22.0})
    slower = Candidate(name="small", accuracies=(0.44,), costs={TIME: 0.6, GFLOPS: 6.0})
    assert judge(candidate, (slower, large), (TIME, GFLOPS), None) is None
    # Published figures of the same model do not bring it back.
    assert judge(candidate, (SMALL, LARGE), (GFLOPS,), None, dearer={"small", "large"}) is None
    # One that nobody timed still counts, and the line to what was timed above it.
    found = judge(candidate, (SMALL, large), (TIME, GFLOPS), None)
    assert found is not None
    assert (found.axis, found.shares[0].sibling) == (GFLOPS, SMALL)
    assert [share.sibling for share in found.shares] == [SMALL, large]


def test_pruning_that_made_it_slower_loses_against_the_original() -> None:
    candidate = Candidate(name="level 1", accuracies=(0.47,), costs={TIME: 1.07, GFLOPS: 18.0})
    large = Candidate(name="large", accuracies=(0.48,), costs={TIME: 1.0, GFLOPS: 22.0})
    found = judged(candidate, SMALL, large)
    assert (found.axis, found.dominating) == (TIME, large)


def test_seeds_give_an_interval_and_it_decides() -> None:
    # Quantile 4.303 of two degrees of freedom; variance 1/3 of the level, 0.25^2 and 0.75^2 of single siblings.
    spread = Spread(sd=0.002, degrees=2)
    found = judged(level(0.449, 0.450, 0.451), spread=spread)
    half = 100 * 4.3027 * 0.002 * (1 / 3 + 0.0625 + 0.5625) ** 0.5
    assert found.interval == pytest.approx((-1.0 - half, -1.0 + half), rel=1e-4)
    assert found.outcome == "worse"
    assert judged(level(0.455, 0.457, 0.456), spread=spread).outcome == "undecided"
    assert judged(level(0.471, 0.470, 0.472), spread=spread).outcome == "better"


def test_what_rounds_to_no_difference_is_none() -> None:
    assert judged(level(0.4603)).outcome == "undecided"


def test_a_level_that_was_not_measured_has_a_line_to_beat() -> None:
    found = judged(level())
    assert found.line == pytest.approx(0.46)
    assert (found.difference, found.interval) == (None, None)
