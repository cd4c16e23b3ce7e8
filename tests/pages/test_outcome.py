"""The cards."""

from __future__ import annotations

from pages.parts.outcome import Card, cards, deployed, outcome_of
from pages.parts.series import series_of
from tests import factories


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
