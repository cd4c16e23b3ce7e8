"""The data of the scatter plots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cache.record import Metrics, RunRecord
from cache.series import Series, series_of
from cache.siblings import Neighbours, neighbours_of
from compression.spec import Target
from pages.parts.tradeoff import focus, in_words, n_points, tradeoff
from tests import factories


def _series(levels: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Series:
    return series_of(factories.series(levels))[0]


def _recovered(level: int, best: float = 0.6, **changes: Any) -> RunRecord:
    spec = factories.spec(level, **changes)
    return factories.record(level, spec=spec, metrics_recovered=factories.metrics(level, best))


def _custom(gflops: float | None, params: float | None, **changes: Any) -> RunRecord:
    """With the figures of level 5."""
    spec = factories.spec(None, target=Target(gflops_kept=gflops, params_kept=params), **changes)
    return replace(factories.record(5), level=None, spec=spec, key=spec.key)


def _sibling(model: str, scale: float, best: float) -> RunRecord:
    spec = factories.spec(0, weights_sha256=model.encode().hex().ljust(64, "0"))
    return factories.record(0, scale=scale, best=best, spec=spec, model=model, architecture=model)


def test_levels_are_joined_in_order() -> None:
    data = tradeoff(_series(), Neighbours(), cost="gflops", metric="map50_95")
    assert [(point.text, point.x, point.y) for point in data.measured] == [
        ("0", 1.52, 0.72),
        ("1", 1.4531, 0.716),
        ("2", 1.3862, 0.704),
        ("3", 1.3194, 0.684),
        ("4", 1.2525, 0.656),
        ("5", 1.1856, 0.62),
    ]
    assert data.levels == (0, 1, 2, 3, 4, 5)
    assert data.planned_x == {}


def test_levels_before_training_stand_beside_them_from_the_original_on() -> None:
    (series,) = series_of([*factories.series((0, 2)), _recovered(5), _recovered(3)])
    data = tradeoff(series, Neighbours(), cost="gflops", metric="map50_95")
    assert [(point.x, point.y) for point in data.untrained] == [(1.52, 0.72), (1.3194, 0.564), (1.1856, 0.5)]
    assert data.untrained[2].hover.split("<br>") == [
        "<b>yolo26n, level 5</b> after recovery, before any training",
        "mAP50-95 0.500",
        "mAP50 0.670",
        "Precision 0.650",
        "Recall 0.580",
        "GFLOPs 1.19 (deployed 1.06)",
        "Parameters 1.93 M (deployed 1.79 M)",
        "320 px, e2e head, default method, 20 epochs, seed 0",
        "against the original: mAP50-95 -30.6%",
    ]
    hidden = tradeoff(series, Neighbours(), cost="gflops", metric="map50_95", untrained=False)
    assert (hidden.untrained, hidden.measured) == ((), data.measured)


def test_where_nothing_was_measured_before_training_there_is_no_line() -> None:
    data = tradeoff(_series(), Neighbours(), cost="gflops", metric="map50_95")
    assert (data.untrained, data.custom_untrained) == ((), ())
    (untrained,) = series_of([_recovered(5, epochs=0)])
    assert tradeoff(untrained, Neighbours(), cost="gflops", metric="map50").untrained == ()


def test_custom_targets_say_what_they_keep() -> None:
    recovered = replace(_custom(0.25, None), metrics_recovered=factories.metrics(5, 0.4))
    custom = [recovered, _custom(0.4, 0.5), _custom(None, 0.6), _custom(1.0, 1.0)]
    (series,) = series_of([*factories.series((0, 1)), *custom])
    data = tradeoff(series, Neighbours(), cost="params", metric="map50_95")
    assert {point.text for point in data.custom} == {"25%", "40%", "60% params", "uncut"}
    assert "<b>yolo26n, custom target (25%)</b>" in data.custom[0].hover
    assert "<b>yolo26n, original, fine-tuned alike</b>" in data.custom[3].hover
    assert [(point.x, point.y) for point in data.custom_untrained] == [(1.92921, 0.3)]
    assert data.untrained == ()


def test_other_seeds_are_points_of_their_own() -> None:
    records = [factories.record(5, best=0.72 + seed, spec=factories.spec(5, seed=seed)) for seed in (1, 2)]
    first, *others = series_of([*factories.series((0, 3, 5)), *records])
    data = tradeoff(first, Neighbours(), cost="gflops", metric="map50_95", other_seeds=others)
    assert [(point.x, point.y) for point in data.other_seeds] == [(1.1856, 1.62), (1.1856, 2.62)]
    assert [point.text for point in data.measured] == ["0", "3", "5"]


def test_the_plot_looks_at_all_that_was_measured() -> None:
    (series,) = series_of([*factories.series((0,)), _recovered(5, 0.3)])
    shown = focus(tradeoff(series, Neighbours(), cost="gflops", metric="map50_95"))
    # From 0.3 - 0.004 x 25 to 0.72, with an eighth of the span on both sides.
    assert shown is not None
    assert shown.y == pytest.approx((0.2 - 0.065, 0.72 + 0.065))


def test_test_images_are_named_as_such() -> None:
    (series,) = series_of([factories.record(5, metrics_test=factories.metrics(5, 0.7))])
    data = tradeoff(series, Neighbours(), cost="gflops", metric="map50_95")
    assert data.measured[1].hover.split("<br>")[-1] == "on test images: mAP50-95 0.600"


def test_parameters_are_in_millions() -> None:
    data = tradeoff(_series(), Neighbours(), cost="params", metric="recall")
    assert (data.measured[0].x, data.measured[0].y) == (2.57228, 0.8)


def test_hover_tells_conditions_costs_of_both_graphs_and_changes() -> None:
    data = tradeoff(_series(), Neighbours(), cost="gflops", metric="map50")
    assert data.measured[5].hover.split("<br>") == [
        "<b>yolo26n, level 5</b> (measured)",
        "mAP50-95 0.620",
        "mAP50 0.790",
        "Precision 0.770",
        "Recall 0.700",
        "GFLOPs 1.19 (deployed 1.06)",
        "Parameters 1.93 M (deployed 1.79 M)",
        "320 px, e2e head, default method, 20 epochs, seed 0",
        "against the original: mAP50-95 -13.9%, GFLOPs -22.0%, parameters -25.0%",
    ]


def test_without_a_record_of_level_0_the_original_is_what_levels_were_counted_against() -> None:
    data = tradeoff(_series((3, 5)), Neighbours(), cost="gflops", metric="map50_95")
    assert [(point.text, point.x) for point in data.measured] == [("0", 1.52), ("3", 1.3194), ("5", 1.1856)]
    assert data.levels == (0, 3, 5)


def test_an_unmeasured_level_is_a_cost_without_accuracy() -> None:
    data = tradeoff(
        _series((0, 1)),
        Neighbours(),
        cost="gflops",
        metric="map50",
        planned={3: factories.costs(3), 1: factories.costs(1)},
    )
    # Level 1 is measured.
    assert (data.levels, data.planned_x) == ((0, 1), {3: 1.3194})


def test_siblings_share_family_data_image_size_and_head() -> None:
    series = _series()
    small, large = _sibling("yolo26s", 4.0, 0.76), _sibling("yolo26m", 11.0, 0.79)
    strangers = [
        _sibling("yolo11s", 4.0, 0.75),
        factories.record(0, spec=factories.spec(0, imgsz=640), model="yolo26l", architecture="yolo26l"),
        factories.record(0, spec=factories.spec(0, head="nms"), model="yolo26l", architecture="yolo26l"),
        factories.record(0, spec=factories.spec(0, data_fingerprint="0"), model="yolo26l", architecture="yolo26l"),
    ]
    neighbours = neighbours_of("yolo26n", series, [*factories.series(), large, small, *strangers])
    assert [record.architecture for record in neighbours.siblings] == ["yolo26n", "yolo26s", "yolo26m"]
    data = tradeoff(series, neighbours, cost="gflops", metric="map50_95")
    assert [point.text for point in data.siblings] == ["", "yolo26s", "yolo26m"]


def test_published_results_stay_apart() -> None:
    family = [factories.published(0, model) for model in ("yolo26n", "yolo26s")]
    compressed = factories.published(5, "yolo26s")
    other_head = factories.published(0, "yolo26s", head="nms", key="other")
    neighbours = neighbours_of("yolo26s", None, [*family, compressed, other_head])
    assert neighbours.siblings_published == tuple(family)
    assert neighbours.published == (compressed,)
    data = tradeoff(None, neighbours, cost="gflops", metric="map50_95")
    assert (data.measured, data.siblings) == ((), ())
    assert [point.text for point in data.published] == ["level 5"]


def test_figures_that_a_source_does_not_give_are_no_points() -> None:
    silent = factories.published(0, "yolo26n", metrics=Metrics(map50=None, map50_95=0.4, precision=None, recall=None))
    neighbours = neighbours_of("yolo26n", None, [silent])
    assert tradeoff(None, neighbours, cost="gflops", metric="map50").siblings_published == ()
    assert len(tradeoff(None, neighbours, cost="gflops", metric="map50_95").siblings_published) == 1


def test_the_plot_looks_at_the_levels_and_the_line_that_crosses_there() -> None:
    series = _series((0, 5))
    neighbours = neighbours_of("yolo26n", series, [*factories.series((0, 5)), _sibling("yolo26m", 11.0, 0.92)])
    shown = focus(tradeoff(series, neighbours, cost="gflops", metric="map50_95"))
    # A span of 0.3344 GFLOPs with an eighth of it on both sides.
    assert shown is not None
    assert [round(edge, 4) for edge in shown.x] == [1.1438, 1.5618]
    # 0.62 up to the line at the right edge: 0.72 + 0.2 x 0.0418 / 15.2.
    top = 0.72 + 0.2 * 0.0418 / 15.2
    assert [round(edge, 4) for edge in shown.y] == [round(0.62 - (top - 0.62) / 8, 4), round(top + (top - 0.62) / 8, 4)]


def test_measured_time_is_a_third_axis_for_what_was_timed() -> None:
    records = [
        factories.record(0),
        *(factories.with_checkpoint(factories.record(level), b"x", f"{level}" * 64) for level in (3, 5)),
    ]
    series = series_of(records)[0]
    neighbours = neighbours_of("yolo26n", series, [*records, _sibling("yolo26s", 4.0, 0.76)])
    ratios = {"ab" * 32: 1.0, "5" * 64: 0.9}
    data = tradeoff(series, neighbours, cost="time", metric="map50_95", ratios=ratios)
    assert [(point.text, point.x, point.y) for point in data.measured] == [("0", 1.0, 0.72), ("5", 0.9, 0.62)]
    assert data.measured[1].hover.endswith("<br>time 0.900 of the original's")
    assert data.levels == (0, 5)
    assert data.planned_x == {}
    assert [point.x for point in data.siblings] == [1.0]
    whole = tradeoff(series, neighbours, cost="gflops", metric="map50_95")
    # Of original, two levels and a sibling, one level and the sibling were not timed.
    assert (n_points(whole), n_points(data)) == (4, 2)
    planned = {3: factories.costs(3)}
    assert tradeoff(series, neighbours, cost="time", metric="map50", planned=planned).planned_x == {}


def test_nothing_to_look_at() -> None:
    assert focus(tradeoff(None, Neighbours(), cost="gflops", metric="map50")) is None


def test_equal_points_still_have_a_range() -> None:
    shown = focus(tradeoff(_series((0,)), Neighbours(), cost="gflops", metric="map50_95"))
    assert shown is not None
    assert shown.x == pytest.approx((1.425, 1.615))
    assert shown.y == pytest.approx((0.7075, 0.7325))


def test_what_a_click_chooses() -> None:
    first, second = series_of([*factories.series((0, 3)), _custom(0.4, 0.5), *factories.series((3,), seed=1)])
    neighbours = Neighbours(siblings=(_sibling("yolo26n", 1.0, 0.72), _sibling("yolo26s", 4.0, 0.8)))
    data = tradeoff(first, neighbours, cost="gflops", metric="map50_95", other_seeds=[second])
    # Level 0 is not on the slider.
    assert [point.pick for point in data.measured] == ["", "level=3"]
    assert [point.pick for point in data.other_seeds] == ["seed=1&level=3"]
    assert [point.pick for point in data.custom] == [f"key={first.custom[0].key}"]
    assert [point.pick for point in data.siblings] == ["", "model=yolo26s"]


def test_another_model_is_laid_over_with_its_own_original() -> None:
    other = series_of(factories.series((2, 3), data="my cells", data_fingerprint="ef" * 32))[0]
    data = tradeoff(_series(), Neighbours(), cost="gflops", metric="map50_95", overlaid={"other": other})
    (overlay,) = data.overlays
    assert (overlay.label, overlay.comparable) == ("other", False)
    assert [(point.text, point.y) for point in overlay.points] == [("0", 0.72), ("2", 0.704), ("3", 0.684)]
    assert overlay.points[1].pick == "model=yolo26n&data=my+cells&level=2"
    # What it was cut from was not timed in turn with this model's original.
    ratios = {"ab" * 32: 1.0}
    timed = tradeoff(_series(), Neighbours(), cost="time", metric="map50_95", ratios=ratios, overlaid={"other": other})
    assert timed.overlays == ()


def test_the_pareto_front_is_of_all_that_was_measured_on_one_data_set() -> None:
    better = series_of(factories.series((4,), criterion="taylor"))[0]
    better = replace(better, levels={4: replace(better.levels[4], metrics=factories.metrics(0, 0.71))})
    elsewhere = series_of(factories.series((5,), data="cells", data_fingerprint="ef" * 32))[0]
    elsewhere = replace(elsewhere, levels={5: replace(elsewhere.levels[5], metrics=factories.metrics(0, 0.9))})
    data = tradeoff(
        _series(),
        Neighbours(),
        cost="gflops",
        metric="map50_95",
        overlaid={"better": better, "elsewhere": elsewhere},
        with_front=True,
    )
    # Level 4 of the better one beats levels 2 to 4 of the chosen one.
    assert [(point.x, point.y) for point in data.front] == [
        (1.1856, 0.62),
        (1.2525, 0.71),
        (1.4531, 0.716),
        (1.52, 0.72),
    ]
    assert tradeoff(_series(), Neighbours(), cost="gflops", metric="map50_95").front == ()


def test_the_plot_is_told_in_words() -> None:
    data = tradeoff(_series((0, 3)), Neighbours(), cost="params", metric="map50_95")
    assert in_words(data) == (
        "mAP50-95 by level (0 is the original). 0: 0.720 at 2.572 million parameters; 3: 0.684 at 2.186 million parameters."
    )


def test_sizes_of_checkpoints() -> None:
    records = [factories.with_checkpoint(factories.record(5), b"x" * 2_000_000, "5" * 64), factories.record(3)]
    data = tradeoff(series_of(records)[0], Neighbours(), cost="size", metric="map50_95")
    assert [(point.text, point.x) for point in data.measured] == [("5", 2.0)]
