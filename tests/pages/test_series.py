"""Grouping results into lines."""

from __future__ import annotations

from dataclasses import replace

from compression.spec import Target
from pages.parts.series import newest, series_of
from tests import factories


def test_levels_of_one_spec_are_one_series() -> None:
    (series,) = series_of(factories.series())
    assert series.label == "320 px · standard · 20 epochs · seed 0 · e2e"
    assert sorted(series.levels) == [0, 1, 2, 3, 4, 5]
    assert series.n_measured == 5


def test_other_conditions_never_share_a_line() -> None:
    changes = (
        {"epochs": 50},
        {"seed": 1},
        {"recipe": "plain"},
        {"imgsz": 640},
        {"head": "nms"},
        {"weights_sha256": "ef" * 32},
        {"data_fingerprint": "ef" * 32},
        {"batch": 8},
        {"patience": 5},
    )
    for change in changes:
        records = [*factories.series((1, 2, 3)), *factories.series((1, 2), **change)]
        first, second = series_of(records)
        assert (first.n_measured, second.n_measured) == (3, 2), change
        assert first.label != second.label, change


def test_a_label_says_what_differs_and_no_more() -> None:
    labels = {series.label for series in series_of([*factories.series((1,)), *factories.series((1,), batch=8)])}
    assert labels == {
        "320 px · standard · 20 epochs · seed 0 · e2e · batch 16",
        "320 px · standard · 20 epochs · seed 0 · e2e · batch 8",
    }


def test_an_original_measured_without_training_joins_every_series_on_its_weights() -> None:
    original = factories.record(0, spec=factories.spec(0, epochs=0))
    records = [original, *factories.series((1, 2)), *factories.series((3,), epochs=50)]
    first, second = series_of(records)
    assert first.levels == {0: original, 1: records[1], 2: records[2]}
    assert second.levels == {0: original, 3: records[3]}


def test_an_original_trained_from_random_weights_is_that_of_what_was_cut_from_its_checkpoint() -> None:
    trained = factories.with_checkpoint(
        factories.record(0, spec=factories.spec(0, weights_sha256=None)), b"x", "ab" * 32
    )
    (series,) = series_of([trained, *factories.series((1, 2))])
    assert series.levels[0] is trained


def test_an_original_alone_is_a_series() -> None:
    (series,) = series_of([factories.record(0)])
    assert (series.label, series.n_measured) == ("320 px · original only · e2e", 0)


def test_the_newest_of_equal_levels_counts() -> None:
    old, new = factories.record(2, created="2026-01-01"), factories.record(2, created="2026-02-01")
    (series,) = series_of([new, old])
    assert series.levels[2] is new


def test_custom_targets_have_no_place_on_the_slider() -> None:
    spec = factories.spec(None, target=Target(gflops_kept=0.5, params_kept=None))
    custom = replace(factories.record(3), level=None, spec=spec, key=spec.key)
    (series,) = series_of([*factories.series((1,)), custom])
    assert sorted(series.levels) == [1]
    assert series.custom == (custom,)


def test_published_results_are_no_series() -> None:
    assert series_of([factories.published()]) == []


def test_the_newest_series_holds_the_latest_result() -> None:
    late = factories.record(1, spec=factories.spec(1, seed=1), created="2027-01-01T00:00:00+00:00")
    assert newest(series_of([*factories.series(), late])).levels[1] is late
