"""The cards."""

from __future__ import annotations

from typing import Any

from cache.record import RunRecord
from cache.series import series_of
from pages.parts.outcome import Card, among_seeds, cards, deployed, on_test_images, on_the_way, outcome_of
from tests import factories

CUT = factories.metrics(5, best=0.3)
RECOVERED = factories.metrics(5, best=0.64)


def _on_the_way(epochs: int = 20, **changes: Any) -> str | None:
    record: RunRecord = factories.record(5, spec=factories.spec(5, epochs=epochs), **changes)
    return on_the_way(record)


def test_cards_of_a_measured_level() -> None:
    (series,) = series_of(factories.series())
    accuracy, loose, gflops, params, precision, recall = cards(outcome_of(5, series, None))
    assert accuracy == Card(
        name="map50_95", label="mAP50-95", value="0.620", change="-13.9%", original="0.720", lower_is_better=False
    )
    assert (loose.value, precision.value, recall.value) == ("0.790", "0.770", "0.700")
    assert gflops == Card(
        name="gflops", label="GFLOPs", value="1.19", change="-22.0%", original="1.52", lower_is_better=True
    )
    assert (params.value, params.change, params.original) == ("1.93 M", "-25.0%", "2.57 M")


def test_cards_of_a_planned_level_know_costs_and_the_original() -> None:
    (series,) = series_of(factories.series((0, 1)))
    accuracy, _, gflops, *_ = cards(outcome_of(3, series, factories.plan(3)))
    assert (accuracy.value, accuracy.change, accuracy.original) == ("not measured", None, "0.720")
    assert (gflops.value, gflops.change) == ("1.32", "-13.2%")


def test_nothing_known() -> None:
    outcome = outcome_of(3, None, None)
    assert {card.value for card in cards(outcome)} == {"not measured", "unknown"}
    assert deployed(outcome) is None


def test_deployed_costs_are_said() -> None:
    (series,) = series_of(factories.series())
    assert deployed(outcome_of(5, series, None)) == "1.35 → 1.06 GFLOPs, 2.39 M → 1.79 M parameters"


def test_the_way_from_the_original_to_the_result() -> None:
    assert _on_the_way(metrics_pruned=CUT, metrics_recovered=RECOVERED) == (
        "original 0.720 → cut 0.200 (-72.2%) → recovered, no training yet 0.540 (-25.0%) → fine-tuned 0.620 (-13.9%)"
    )
    assert _on_the_way(metrics_pruned=CUT) == "original 0.720 → cut 0.200 (-72.2%) → fine-tuned 0.620 (-13.9%)"


def test_a_result_without_training_ends_with_the_recovery() -> None:
    way = _on_the_way(0, metrics_pruned=CUT, metrics_recovered=RECOVERED, metrics=RECOVERED)
    assert way == "original 0.720 → cut 0.200 (-72.2%) → recovered, no training yet 0.540 (-25.0%)"


def test_a_way_of_which_only_the_ends_are_known_is_none() -> None:
    assert _on_the_way() is None
    assert on_the_way(factories.published()) is None


def test_on_test_images_the_original_stands_beside() -> None:
    original = factories.record(0, metrics_test=factories.metrics(0, 0.8))
    record = factories.record(5, metrics_test=factories.metrics(5, 0.7))
    assert on_test_images(record, original) == "test images 0.600, original 0.800 (-25.0%)"
    assert on_test_images(record, factories.record(0)) == on_test_images(record, None) == "test images 0.600"
    assert on_test_images(factories.record(5), original) is None


def test_seeds_stand_side_by_side() -> None:
    records = [factories.record(5, best=0.72 - 0.01 * seed, spec=factories.spec(5, seed=seed)) for seed in (2, 0, 1)]
    series = series_of([*records, *factories.series((3,))])
    assert among_seeds(5, series) == "seeds 0, 1, 2: 0.620, 0.610, 0.600"
    assert among_seeds(3, series) is None
    assert among_seeds(4, series) is None
