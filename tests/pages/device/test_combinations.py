"""Measured combinations of level, precision, size and sibling: what belongs together, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cache.accuracy import AccuracyRecord
from cache.latency import LatencyRecord
from cache.record import RunRecord
from cache.series import Series, series_of
from pages.parts.device.combinations import Combination, Device, combinations_of, devices_of, forms_of, missing_of
from pages.parts.device.device_plot import draw_device
from pages.parts.device.device_points import combination_rows, device_points, front_in_words
from pages.parts.legend import device_legend_html
from tests import factories
from tests.factories import accuracy, latency

ORIGINAL, LEVEL_3, SIBLING = "ab" * 32, "03" * 32, "5e" * 32
DEVICE = Device(backend="onnx", version="1.27.0", machine="a processor, 2 cores", threads=1)
FULL: dict[str, Any] = {"reference_precision": "fp32", "reference_imgsz": 320}


def records() -> list[RunRecord]:
    sibling = factories.spec(0, weights_sha256=SIBLING)
    return [
        factories.record(0),
        factories.with_checkpoint(factories.record(3), b"weights", LEVEL_3),
        factories.record(0, scale=0.2, spec=sibling, model="yolo26s", architecture="yolo26s"),
    ]


def series() -> Series:
    return next(one for one in series_of(records()[:2]) if 3 in one.levels)


def combinations(
    accuracies: list[AccuracyRecord], latencies: list[LatencyRecord], device: Device = DEVICE
) -> list[Combination]:
    return combinations_of(
        forms_of(series(), records()),
        accuracies,
        latencies,
        device,
        imgsz=320,
        head="e2e",
        data_fingerprint="cd" * 32,
    )


def measured() -> list[Combination]:
    """Level 0 in full precision; level 3 so, in int8, and in int8 at a smaller size; a sibling."""
    int8: dict[str, Any] = {"weights_sha256": LEVEL_3, "precision": "int8", "calibration": "cd" * 32}
    small: dict[str, Any] = {**int8, "imgsz": 256}
    return combinations(
        [
            accuracy(0.70),
            accuracy(0.69, weights_sha256=LEVEL_3),
            accuracy(0.695, **int8),
            accuracy(0.60, **small),
            accuracy(0.55, weights_sha256=SIBLING, model="yolo26s"),
        ],
        [
            latency(10.0),
            latency(8.0, ratio=0.8, weights_sha256=LEVEL_3),
            latency(4.0, ratio=0.4, **int8, reference_precision="fp32"),
            latency(1.0, ratio=0.1, **small, **FULL),
            latency(6.0, ratio=0.6, weights_sha256=SIBLING, model="yolo26s"),
        ],
    )


def test_accuracy_and_time_of_one_form_are_one_combination() -> None:
    found = measured()
    assert [one.label for one in found] == [
        "level 0 · FP32 · 320",
        "level 3 · FP32 · 320",
        "level 3 · INT8 · 320",
        "level 3 · INT8 · 256",
        "yolo26s · FP32 · 320",
    ]
    assert [one.is_reference for one in found] == [True, False, False, False, False]
    assert [one.cost("ratio") for one in found] == [1.0, 0.8, 0.4, 0.1, 0.6]
    assert [one.cost("size_mb") for one in found] == [5.4] * 5


def test_only_what_ran_alike_on_this_data_counts() -> None:
    """Another machine, version, head, batch, number of threads, data set or calibration is another question."""
    others: list[dict[str, Any]] = [{"machine": "another"}, {"backend_version": "1.26.0"}, {"head": "nms"}]
    accuracies = [accuracy(0.1, **other) for other in [*others, {"data_fingerprint": "00" * 32}]]
    latencies = [latency(1.0, **other) for other in [*others, {"batch": 8}, {"threads": 2}]]
    latencies.append(latency(1.0, precision="int8", calibration="00" * 32))
    assert combinations(accuracies, latencies) == []
    assert {one.threads for one in devices_of(latencies)} == {1, 2}
    assert combinations([accuracy(weights_sha256="99" * 32)], []) == []


def test_a_ratio_against_something_else_is_none() -> None:
    """The time itself counts, and one in turn with level 0 in full precision is preferred to it."""
    alone = replace(latency(9.0, reference_sha256=None, ratio=None), created="2026-06-01T10:00:00+00:00")
    (one,) = combinations([accuracy()], [alone])
    assert (one.cost("median_ms"), one.cost("ratio")) == (9.0, None)
    (one,) = combinations([accuracy()], [alone, latency(10.0)])
    assert (one.cost("median_ms"), one.cost("ratio")) == (10.0, 1.0)
    # Both in int8, as `bench` times them.
    (one,) = combinations([], [latency(4.0, ratio=0.9, precision="int8", calibration="cd" * 32)])
    assert one.cost("ratio") is None
    both = combinations([accuracy()], [alone])
    assert missing_of(both) == ["level 0 · FP32 · 320: time not measured in turn with level 0 in FP32"]


def test_what_lacks_a_half_is_listed_and_not_drawn() -> None:
    found = combinations([accuracy(imgsz=256)], [latency()])
    assert device_points(found, "median_ms", "map50_95") == []
    assert missing_of(found) == [
        "level 0 · FP32 · 320: accuracy not measured",
        "level 0 · FP32 · 256: time not measured",
    ]


def test_the_front_comes_first_by_rising_cost() -> None:
    points = device_points(measured(), "median_ms", "map50_95")
    assert [(point.combination.label, point.on_front) for point in points] == [
        ("level 3 · INT8 · 256", True),
        ("level 3 · INT8 · 320", True),
        ("level 0 · FP32 · 320", True),
        ("level 3 · FP32 · 320", False),
        ("yolo26s · FP32 · 320", False),
    ]
    hover = points[1].hover
    assert "mAP50-95 0.695" in hover
    assert "median 4.00 ms, 95% of the passes below 4.40 ms" in hover
    assert "time against level 0: 0.400 (0.392 to 0.408)" in hover
    assert "memory 120 MB, file 5.4 MB" in hover


def test_the_front_in_words() -> None:
    points = device_points(measured(), "median_ms", "map50_95")
    assert front_in_words(points, "median_ms", "map50_95") == [
        "3 of 5 measured combinations stand on the front: nothing measured is better in both.",
        "Fastest: **level 3 · INT8 · 256**, 1.0 ms, 10.00 times as fast as level 0 in FP32, mAP50-95 0.600 (-14.3%).",
        "Fastest of those that lose at most 0.01 against level 0 in FP32: **level 3 · INT8 · 320**, 4.0 ms, 2.50 times "
        "as fast as level 0 in FP32, mAP50-95 0.695 (-0.7%).",
        "Most accurate: **level 0 · FP32 · 320**, 10.0 ms, mAP50-95 0.700 (0.0%).",
        "Not on the front in any form: yolo26s.",
    ]
    alone = [point for point in points if point.combination.is_reference]
    assert front_in_words(alone, "median_ms", "map50_95") == []


def test_marks_tell_precisions_and_colours_tell_siblings() -> None:
    points = device_points(measured(), "median_ms", "map50_95")
    figure = draw_device(points, "median_ms", "map50_95")
    front, *others = figure.data
    assert (front.line.shape, list(front.x)) == ("hv", [1.0, 4.0, 10.0])
    assert figure.layout.xaxis.type == "log"
    marks = {(trace.marker.symbol, trace.marker.color) for trace in others}
    assert len(marks) == 3
    labels = {label for trace in others for label in trace.text if label}
    # Both ends of the front; between them there is no room.
    assert labels == {"level 3 · INT8 · 256", "level 0 · FP32 · 320"}
    html = device_legend_html(points)
    assert "INT8" in html
    assert "unpruned siblings" in html
    assert "FP16" not in html
    # One point alone has a range too.
    assert draw_device(points[:1], "size_mb", "map50").layout.xaxis.type == "linear"


def test_the_table_has_a_row_for_each_point() -> None:
    points = device_points(measured(), "median_ms", "map50_95")
    rows = combination_rows(points)
    assert [row["on_front"] for row in rows] == ["yes", "yes", "yes", "", ""]
    assert (rows[1]["level"], rows[1]["data_type"], rows[1]["ratio_low"]) == (3, "int8", 0.392)
