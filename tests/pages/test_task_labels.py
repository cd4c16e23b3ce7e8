"""What the pages call the accuracies of each task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from cache.record import EpochRow, Metrics, RunRecord
from cache.series import series_of
from cache.siblings import neighbours_of
from compression.catalog import TaskName
from pages.parts.outcome import cards, metric_help, metric_labels, outcome_of
from pages.parts.plots import draw_accuracy_curve, draw_tradeoff
from pages.parts.tradeoff import tradeoff
from tests import factories
from tests.pages.test_explore import ROOT, _cards, _open, _save, only_own_results  # noqa: F401


def results(task: TaskName, suffix: str, **changes: Any) -> list[RunRecord]:
    """Measured levels of a model of a task."""
    name = f"yolo26n{suffix}"
    found = factories.series(task=task, model=f"{name}.pt", head="nms" if task == "classify" else "e2e")
    return [replace(record, model=name, architecture=name, **changes) for record in found]


def test_cards_of_masks() -> None:
    _save(*results("segment", "-seg"))
    page = _open()
    assert not page.exception
    assert list(_cards(page)) == [
        *("mask mAP50-95", "mask mAP50", "GFLOPs", "Parameters", "Mask precision", "Mask recall"),
    ]
    (table,) = [text.value for text in page.markdown if text.value.startswith("| Metric")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[4:]] == [
        *("mask mAP50", "mask mAP50-95", "Mask precision", "Mask recall"),
    ]


def test_cards_of_a_classifier() -> None:
    measured = Metrics(map50=0.93, map50_95=0.71, precision=None, recall=None)
    _save(*results("classify", "-cls", metrics=measured, metrics_original=measured))
    page = _open()
    assert not page.exception
    assert {name: value for name, value in _cards(page).items() if name not in ("GFLOPs", "Parameters")} == {
        "top-1": "0.710",
        "top-5": "0.930",
    }
    assert any("Accuracy: class scores, 320 px" in caption.value for caption in page.caption)


def test_a_classifier_of_any_name_begins_at_its_own_size() -> None:
    _save(*(replace(record, model="best", data="cells") for record in results("classify", "-cls")))
    page = _open(model="best", data="shapes", level="3")
    assert not page.exception
    (size,) = [field.value for field in page.number_input if str(field.key).startswith("i-")]
    assert size == 224


def test_detections_says_what_a_classifier_has_in_place_of_them() -> None:
    _save(*results("classify", "-cls"))
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).switch_page("pages/detections.py").run()
    assert not page.exception
    assert "yolo26n-cls is a classifier, which finds nothing within images" in page.info[0].value
    # No checkpoint is here.
    assert "two are needed" in page.info[1].value
    assert not page.header


@pytest.mark.parametrize(
    ("task", "main"),
    [
        ("detect", "mAP50-95"),
        ("segment", "mask mAP50-95"),
        ("pose", "pose mAP50-95"),
        ("obb", "rotated mAP50-95"),
        ("classify", "top-1"),
    ],
)
def test_plots_and_help_name_what_is_measured(task: TaskName, main: str) -> None:
    (series,) = series_of(results(task, ""))
    assert metric_labels(task)["map50_95"] == main
    assert cards(outcome_of(3, series, None))[0].label == main
    data = tradeoff(series, neighbours_of("yolo26n", None, []), cost="gflops", metric="map50_95")
    assert draw_tradeoff(data, None).layout.yaxis.title.text == main
    assert f"{main} " in data.measured[0].hover
    what = {"segment": "masks", "pose": "key points", "obb": "rotated boxes", "classify": "images"}.get(task, "boxes")
    assert what in metric_help("map50_95", task)


def test_curves_name_what_is_measured() -> None:
    row = EpochRow(epoch=1, map50=1.0, map50_95=0.5, precision=None, recall=None, losses={}, lr=0.1, seconds=1.0)
    figure = draw_accuracy_curve([row], "classify")
    assert [trace.name for trace in figure.data] == ["top-1", "top-5"]
