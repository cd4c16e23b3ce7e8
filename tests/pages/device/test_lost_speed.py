"""Where the speed-up of a level is lost: figures, words, and the section on its page."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from cache.store import Store, own_store
from compression.deployment.lost_time import REST, lost_time
from pages.parts.device.lost_speed import lost_speed
from pages.parts.plots import draw_lost_speed
from tests import factories

SHA = "ef" * 32


def section() -> AppTest:
    """The section of the only stored result."""

    def script() -> None:
        from cache.store import own_store
        from pages.parts.device.lost_speed import show_lost_speed

        store = own_store()
        (record,) = [one for one in store.records() if one.data == "shapes" and one.created.startswith("2026-05-2")]
        show_lost_speed(store, record, {"ab" * 32})

    return AppTest.from_function(script).run()


@pytest.fixture
def store() -> Store:
    """A result of level 3, whose checkpoint has the hash of the factory's times."""
    own_store().save(factories.with_checkpoint(factories.record(3), b"weights", SHA))
    return own_store()


def test_layers_are_ranked_by_the_time_that_their_gflops_do_not_explain() -> None:
    rows = lost_time(factories.layer_times())
    assert [(row.name, row.gflops_kept, row.time_kept, row.lost_ms) for row in rows] == [
        ("model.0.cv1", 0.5, 0.75, 2.0),
        ("model.1.cv1", 0.25, 0.25, 0.0),
        (REST, 1.0, 1.0, 0.0),
    ]


def test_figures_and_words() -> None:
    halved = replace(factories.costs(0), gflops_deployed=0.5 * (factories.costs(0).gflops_deployed or 0))
    data = lost_speed(factories.layer_times(), factories.record(3, costs=halved))
    assert data.labels == ("whole model", "model.0.cv1")
    assert data.rows[0].time_kept == pytest.approx(0.725)
    assert data.rows[0].gflops_kept == pytest.approx(0.5)
    assert data.hover[1].split("<br>") == [
        "<b>model.0.cv1</b>",
        "GFLOPs kept 50%, time kept 75%",
        "8.00 → 6.00 ms",
        "+2.00 ms against a time that shrinks like the GFLOPs",
    ]
    assert data.words == (
        "On onnx 1.2.3 (a processor, 2 cores, 1 thread) this level keeps 50% of the deployed GFLOPs and 72% of the "
        "time: 10.0 → 7.2 ms. If time shrank like GFLOPs, it would be 2.2 ms less. Layers that lose most: model.0.cv1 "
        "(2.00 ms)."
    )
    figure = draw_lost_speed(data.rows, data.labels, data.hover)
    assert list(figure.data[2].x) == pytest.approx([72.5, 75.0])
    assert [note.text for note in figure.layout.annotations] == ["+2.25 ms", "+2.00 ms"]
    assert "No speed-up is lost" in lost_speed(factories.layer_times(), factories.record(3)).words


def test_a_level_that_was_not_timed_says_how_to(store: Store) -> None:
    page = section()
    assert not page.exception
    (record,) = [
        one
        for one in store.records()
        if one.data == "shapes" and one.provenance == "measured" and one.artifacts and one.artifacts[0].sha256 == SHA
    ]
    assert (
        page.code[0].value
        == f"trimboard bench {record.key[:12]} --backend onnx,openvino --imgsz 320 --head e2e --layers"
    )


def test_a_timed_level_shows_its_layers_for_each_backend(store: Store) -> None:
    store.save_layer_times(factories.layer_times(SHA))
    store.save_layer_times(factories.layer_times(SHA, backend="openvino", threads=2))
    page = section()
    assert not page.exception
    assert page.button_group[0].options == ["onnx 1.2.3, fp32, 320 px", "openvino 1.2.3, fp32, 320 px, 2 threads"]
    assert page.markdown[0].value.startswith("On onnx 1.2.3")
