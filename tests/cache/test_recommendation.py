"""Which level is recommended, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cache.recommendation import Advice, Budget, BudgetName, Option, advise, options_of
from cache.rivals import rivals_of
from cache.series import series_of
from cache.spread import Spread
from compression.spec import Target
from tests import factories

ORIGINAL = Option(name="the original", level=0, accuracies=(0.50,), costs={"gflops": 10.0, "params": 4.0, "time": 20.0})
# Two seeds each: losses of 0.2, 0.6, 0.9, 1.4 and 3 points.
LEVELS = [
    Option(
        name=f"level {level}",
        level=level,
        accuracies=(0.5 - loss / 100 - 0.001, 0.5 - loss / 100 + 0.001),
        costs={"gflops": 10.0 - level, "params": 4.0 - 0.2 * level, "time": 20.0 - level},
    )
    for level, loss in enumerate((0.2, 0.6, 0.9, 1.4, 3.0), start=1)
]
# Of 100 degrees of freedom the 97.5% quantile is 1.984, so that two means of two seeds differ by chance by 0.2 points.
NARROW = Spread(sd=0.001, degrees=100)
WIDE = Spread(sd=0.003, degrees=100)


def advised(name: BudgetName, limit: float, spread: Spread | None = NARROW) -> Advice:
    return advise([ORIGINAL, *LEVELS], Budget(name=name, limit=limit), spread)


def test_the_smallest_that_loses_no_more_than_allowed() -> None:
    found = advised("loss", 1.0)
    assert (found.option, found.lead, found.missing) == (LEVELS[2], "Take level 3", "")
    assert found.text == (
        "the smallest that loses at most 1.0 point of mAP50-95: 0.491 against 0.500 of the original (-0.9 points), "
        "with 30% fewer GFLOPs, 15% fewer parameters and 15% less time."
    )
    # The original has one seed: 1.984 x 0.1 x sqrt(1/2 + 1).
    assert found.sureness == "95% interval of the difference: -1.1 to -0.7 points, so it may lose more."
    assert advised("loss", 1.2).sureness == "95% interval of the difference: -1.1 to -0.7 points."


def test_levels_that_seeds_do_not_tell_apart_are_named() -> None:
    # Means of two seeds differ by chance by 1.984 x 0.3 = 0.6 points; levels 2 to 4 lie within that of level 3.
    assert advised("loss", 1.0, WIDE).sureness.endswith("Levels 2, 3 and 4 cannot be told apart with two seeds.")
    one_seed = [replace(level, accuracies=level.accuracies[:1]) for level in LEVELS]
    found = advise([ORIGINAL, *one_seed], Budget(name="loss", limit=1.0), None)
    assert found.sureness == "With one seed of each nothing tells how far they differ by chance."


def test_nothing_loses_so_little() -> None:
    found = advised("loss", 0.1)
    assert (found.option, found.lead) == (ORIGINAL, "Keep the original")
    assert found.text == "nothing that is measured loses at most 0.1 points; level 1 loses least, 0.2 points."


@pytest.mark.parametrize(
    ("name", "limit", "level", "written"),
    [
        ("gflops", 7.5, 3, "at most 7.5 GFLOPs: mAP50-95 0.491 at 7 GFLOPs, -0.9 points"),
        ("params", 3.4, 3, "at most 3.4 M parameters: mAP50-95 0.491 at 3.4 M parameters"),
        ("time", 16.4, 4, "at most 16.4 ms: mAP50-95 0.486 at 16 ms"),
    ],
)
def test_the_most_accurate_within_a_cost(name: BudgetName, limit: float, level: int, written: str) -> None:
    found = advised(name, limit)
    assert found.option == LEVELS[level - 1]
    assert written in found.text


def test_a_cost_that_is_too_small_or_not_known() -> None:
    assert advised("gflops", 10.0).lead == "Keep the original"
    found = advised("gflops", 1.0)
    assert (found.option, found.lead) == (None, "Nothing fits")
    assert found.text == "nothing that is measured needs at most 1 GFLOPs; level 5 needs least, 5 GFLOPs."
    assert advised("size", 1.0).text == "this cost is not known of any level."
    assert advise([ORIGINAL], Budget(name="loss", limit=1.0), None).option is None


def test_what_is_not_measured_is_said() -> None:
    found = advise([ORIGINAL, LEVELS[1], LEVELS[4]], Budget(name="loss", limit=1.0), NARROW)
    assert (found.lead, found.missing) == ("Take level 2", "Levels 1, 3 and 4 are not measured under these conditions.")


def test_options_of_results() -> None:
    half = factories.spec(None, target=Target(gflops_kept=0.4, params_kept=None))
    records = [
        *factories.series((0, 3)),
        factories.with_checkpoint(factories.record(5), b"12345", "5" * 64),
        factories.record(3, best=0.74, spec=factories.spec(3, seed=1)),
        replace(factories.record(5), level=None, spec=half, key=half.key),
    ]
    series = series_of(records)
    rivals = rivals_of(series, records, {})
    found = {
        option.name: option
        for option in options_of(series, rivals, {"5" * 64: factories.timed("5" * 64, "ab" * 32, 0.8)})
    }
    assert list(found) == ["the original", "level 3", "level 5", "the cut to 40% of the GFLOPs"]
    assert found["level 3"].accuracies == (0.684, 0.704)
    assert found["level 3"].costs == {"gflops": 1.3194, "params": 2.186438}
    # 16 ms at 0.8 of the original's time.
    assert found["the original"].costs["time"] == pytest.approx(20.0)
    assert found["level 5"].costs["time"] == pytest.approx(16.0)
    assert found["level 5"].costs["size"] == 5e-6


def test_costs_and_losses_are_compared_as_they_are_shown() -> None:
    # Both are written "7 GFLOPs".
    level = replace(LEVELS[2], costs={"gflops": 7.004})
    assert advise([ORIGINAL, level], Budget(name="gflops", limit=7.0), None).option == level
    # 1.04 points are written "1.0 point".
    level = replace(LEVELS[2], accuracies=(0.4896,))
    assert advise([ORIGINAL, level], Budget(name="loss", limit=1.0), None).option == level
    large = replace(LEVELS[2], accuracies=(0.6,), costs={"time": 1234.4})
    assert "1,234 ms" in advise([ORIGINAL, large], Budget(name="time", limit=2000.0), None).text


def test_an_original_that_was_fine_tuned_alike_is_called_so() -> None:
    tuned = replace(ORIGINAL, name="the original after the same fine-tuning", tuned=True)
    found = advise([tuned, *LEVELS], Budget(name="loss", limit=1.0), NARROW)
    assert "against 0.500 of the original after the same fine-tuning" in found.text
    assert advise([tuned, *LEVELS], Budget(name="loss", limit=0.1), NARROW).lead == (
        "Cut nothing, and fine-tune the original"
    )


def test_a_cut_that_is_slower_says_how_much_more_time_it_takes() -> None:
    slower = replace(LEVELS[0], costs={"gflops": 9.0, "params": 3.6, "time": 21.4})
    found = advise([ORIGINAL, slower], Budget(name="loss", limit=1.0), None)
    assert found.text.endswith("with 10% fewer GFLOPs, 10% fewer parameters and 7% more time.")
