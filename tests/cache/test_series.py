"""Grouping results into lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cache.record import RunRecord
from cache.series import by_label, cut_in_words, method_label, newest, series_of
from compression.levels import target_of
from compression.spec import Target
from compression.wishes import Wish
from tests import factories

OF_BEFORE = {
    "criterion": "l2",
    "allocation": "uniform",
    "recovery": "none",
    "calibration_images": 0,
    "recipe": "standard",
}


def test_levels_of_one_spec_are_one_series() -> None:
    (series,) = series_of(factories.series())
    assert (series.label, series.seed) == ("default method", 0)
    assert sorted(series.levels) == [0, 1, 2, 3, 4, 5]
    assert series.n_measured == 5


@pytest.mark.parametrize(
    "change",
    [
        {"criterion": "taylor"},
        {"allocation": "uniform"},
        {"recovery": "none"},
        {"recovery": "batchnorm"},
        {"calibration_images": 64},
        {"steps": 3},
        {"recipe": "plain"},
        {"epochs": 50},
        {"epochs": 0},
        {"imgsz": 640},
        {"head": "nms"},
        {"weights_sha256": "ef" * 32},
        {"data_fingerprint": "ef" * 32},
        {"batch": 8},
        {"patience": 5},
    ],
)
def test_other_conditions_never_share_a_line(change: dict[str, Any]) -> None:
    first, second = series_of([*factories.series((1, 2, 3)), *factories.series((1, 2), **change)])
    assert (first.n_measured, second.n_measured) == (3, 2)
    assert first.label != second.label


def test_wishes_about_layers_are_conditions() -> None:
    locked = (Wish(layer="model.0", kept=1),)
    many = tuple(Wish(layer=f"model.{number}", kept=0.5) for number in range(8))

    def wished(wishes: tuple[Wish, ...]) -> list[RunRecord]:
        return factories.series((3,), target=replace(target_of(3), layers=wishes))

    all_series = series_of([*factories.series(), *wished(locked), *wished(many), *wished(many[1:])])
    labels = [one.label for one in all_series]
    assert len(set(labels)) == 4
    assert (labels[0], "model.0 locked" in labels) == ("default method", True)
    assert {label.partition(" · ")[0] for label in labels if "as wished" in label} == {
        "8 layers as wished",
        "7 layers as wished",
    }


def test_cuts_of_layers_alone_are_told() -> None:
    wishes = (Wish(layer="model.4.cv1", kept=0.5),)
    spec = factories.spec(None, target=Target(gflops_kept=None, params_kept=None, layers=wishes), epochs=0)
    assert cut_in_words(spec) == "layers as wished"
    assert method_label(spec) == "model.4.cv1 keeps 50%, no training"


def test_seeds_share_conditions_and_no_line() -> None:
    records = [*factories.series((5,), seed=2), *factories.series((1, 5)), *factories.series((5,), seed=1)]
    labelled = by_label(series_of(records))
    assert [(one.seed, sorted(one.levels)) for one in labelled["default method"]] == [(0, [1, 5]), (1, [5]), (2, [5])]
    assert list(labelled) == ["default method"]


def test_a_label_says_what_differs_and_no_more() -> None:
    def labels(**change: Any) -> list[str]:
        return [one.label for one in series_of([*factories.series((1, 2)), *factories.series((1,), **change)])]

    assert labels(criterion="taylor") == ["default method", "criterion taylor"]
    assert labels(batch=8) == ["default method · batch 16", "default method · batch 8"]
    assert labels(epochs=1) == ["default method · 20 epochs", "default method · 1 epoch"]
    # Of other epochs everything says how many; what was not trained has none.
    assert labels(criterion="l1", epochs=50) == ["default method · 20 epochs", "criterion l1 · 50 epochs"]
    assert labels(epochs=0) == ["default method", "no training"]
    assert labels(imgsz=640, recipe="distill") == ["default method · 320 px", "recipe distill · 640 px"]
    assert labels(epochs=0, batch=8, criterion="l1") == ["default method", "criterion l1, no training"]


def test_two_untrained_results_of_other_recipes_are_told_apart() -> None:
    records = [*factories.series((1, 2), epochs=0), *factories.series((1,), epochs=0, recipe="plain")]
    assert [one.label for one in series_of(records)] == ["no training · recipe cosine", "no training · recipe plain"]


def test_the_default_method_comes_first_then_what_has_most_levels() -> None:
    records = [
        *factories.series((1, 2, 3), **OF_BEFORE),
        *factories.series((3,), criterion="taylor"),
        *factories.series((5,)),
        *factories.series((4, 5), steps=3),
    ]
    assert [one.label for one in series_of(records)] == [
        "default method",
        "criterion l2, allocation uniform, recovery none, recipe standard",
        "3 steps",
        "criterion taylor",
    ]


def test_an_original_measured_without_training_joins_every_series_on_its_weights() -> None:
    original = factories.record(0, spec=factories.spec(0, epochs=0, **OF_BEFORE))
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


def test_the_original_of_some_classes_is_known_by_the_weights_that_it_was_taken_from() -> None:
    some = {"classes": (0, 2), "data": "shapes [disc, star]"}
    # Its checkpoint lost outputs, so it has another hash than what was given.
    original = factories.with_checkpoint(factories.record(0, spec=factories.spec(0, epochs=0, **some)), b"x", "ef" * 32)
    (series,) = series_of([original, *factories.series((1, 2), **some)])
    assert sorted(series.levels) == [0, 1, 2]


def test_an_original_alone_is_a_series() -> None:
    (series,) = series_of([factories.record(0)])
    assert (series.label, series.n_measured, series.compressed) == ("original only", 0, [])


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


def test_custom_targets_alone_are_a_series_without_levels() -> None:
    spec = factories.spec(None, target=Target(gflops_kept=0.4, params_kept=None), seed=1)
    custom = replace(factories.record(3), level=None, spec=spec, key=spec.key)
    (series,) = series_of([custom])
    assert (series.label, series.seed, series.levels) == ("default method", 1, {})
    assert series.any_record is custom


def test_published_results_are_no_series() -> None:
    assert series_of([factories.published()]) == []


def test_the_newest_series_holds_the_latest_result_of_its_own() -> None:
    late = factories.record(1, spec=factories.spec(1, seed=1), created="2027-01-01T00:00:00+00:00")
    shared = factories.record(0, created="2028-01-01T00:00:00+00:00", spec=factories.spec(0, epochs=0))
    assert newest(series_of([shared, *factories.series((1, 2)), late])).levels[1] is late
