"""The section of layers on Explore: the opened layer, and measuring what layers are worth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cache.series import series_of
from cache.store import Store
from compression.home import run_folder
from compression.jobs import local
from pages.parts import access, results
from pages.parts.layers.layer_panel import coupled_in_words, level_rows, sensitivity_in_words
from pages.parts.layers.sensitivity_job import sensitivity_of
from tests import factories

ROOT = Path(__file__).parents[3]
LAYER = "model.0.cv1.conv"


@pytest.fixture(autouse=True)
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, ...]]]:
    """Command lines of what would have been started; no shipped results."""
    noted: list[tuple[str, ...]] = []

    def note(kind: str, arguments: tuple[str, ...], request: object) -> None:
        noted.append(arguments)
        raise OSError("no processes in this test")

    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    monkeypatch.setattr(local, "_start", note)
    st.cache_resource.clear()
    yield noted
    st.cache_resource.clear()


def _measured_levels(**changes: Any) -> Store:
    """All levels, and the original's checkpoint on this machine."""
    store = Store(shipped=run_folder("nothing"))
    for record in factories.series(**changes):
        store.save(factories.with_checkpoint(record, b"weights", "ab" * 32) if record.level == 0 else record)
        if record.level == 0:
            place = run_folder(record.key) / "best.pt"
            place.parent.mkdir(parents=True)
            place.write_bytes(b"weights")
    return store


def _open(**query: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    page.query_params.update(query)
    page = page.switch_page("pages/explore.py").run()
    assert not page.exception
    return page


def _text(page: AppTest) -> str:
    return "\n".join(each.value for each in (*page.markdown, *page.caption, *page.error))


def test_the_levels_of_a_layer() -> None:
    layers = {level: factories.layers(level) for level in (3, 5)}
    name = layers[3][67].name
    rows = level_rows(name, layers, 3)
    assert [(row[""], row["Channels"], row["Parameters"]) for row in rows] == [
        ("Original", "112", "10,080"),
        ("Level 3, chosen", "76", "6,840"),
        ("Level 5", "51", "4,590"),
    ]
    assert rows[0]["saved of all"] == ""
    saved = 100 * (112 - 51) * 90 / sum(row.params_before for row in layers[5])
    assert rows[2]["saved of all "] == f"{saved:.2f}%"


def test_what_a_layer_is_worth_in_words() -> None:
    record = factories.sensitivity()
    first, second, locked = record.groups
    assert sensitivity_in_words(record, first) == (
        "With 16 → 8 channels and nothing else cut, mAP50-95 is 0.720 → 0.620 (-10.0 points) on the 150 validation "
        "images, and the model has 1.25% fewer GFLOPs and 2.00% fewer parameters. Nothing was recovered or trained, so "
        "a run loses far less."
    )
    assert "nothing else cut, top-1 is 0.720" in sensitivity_in_words(replace(record, task="classify"), first)
    assert "(+0.5 points)" in sensitivity_in_words(record, second)
    assert sensitivity_in_words(record, second).endswith("this layer can give up channels.")
    assert sensitivity_in_words(factories.sensitivity(n_images=100), first).count("on 100 of 150 validation images")
    assert sensitivity_in_words(record, locked) == "All 16 channels stay: the outputs of the head."
    assert sensitivity_in_words(record, replace(first, predicts=False)).startswith(
        "These channels only train the model: its predictions come from the other head (e2e), so nothing is lost"
    )
    assert coupled_in_words(first, LAYER).startswith("The same channels go in `model.1.cv2.conv`: ")
    assert coupled_in_words(replace(first, layers=(LAYER,)), LAYER).startswith("No other layer gives these channels")


def test_only_what_was_measured_alike_is_shown() -> None:
    store = _measured_levels()
    (series,) = series_of(store.records())
    for other in ({"imgsz": 64}, {"head": "nms"}, {"data_fingerprint": "00" * 32}, {"weights_sha256": "00" * 32}):
        store.save_sensitivity(factories.sensitivity(**other))
    assert sensitivity_of(store, series) is None
    store.save_sensitivity(factories.sensitivity())
    assert sensitivity_of(store, series) == factories.sensitivity()
    assert sensitivity_of(store, None) is None


def test_a_layer_is_opened_by_the_select_box_and_by_the_address() -> None:
    _measured_levels().save_sensitivity(factories.sensitivity())
    page = _open(level="3")
    assert "Sensitivity." not in _text(page)
    page.selectbox(key="layer").set_value(LAYER).run()
    assert not page.exception
    assert f"**`{LAYER}`** · Conv2d, block 0 of the model, in its backbone" in _text(page)
    assert "**Sensitivity.** With 16 → 8 channels" in _text(page)
    assert "Importance of the 16 channels by l2" in _text(page)
    assert "**Coupled layers.** The same channels go in `model.1.cv2.conv`" in _text(page)
    page = _open(level="3", layer="model.2.cv1.conv")
    assert ":material/lock: All 48 channels stay: the outputs of the head." in _text(page)
    # The layer of another model is forgotten.
    page = _open(level="3", layer="model.99.cv1")
    assert page.selectbox(key="layer").value is None


def test_what_is_not_measured_says_so_and_can_be_measured(started: list[tuple[str, ...]]) -> None:
    store = _measured_levels()
    page = _open(level="3", layer=LAYER)
    assert "Sensitivity, importance of the channels and coupled layers: not measured." in _text(page)
    page.button(key="measure-sensitivity").click().run()
    (original,) = [record for record in store.records() if record.level == 0]
    checkpoint = str(run_folder(original.key) / "best.pt")
    assert started == [("sensitivity", checkpoint, "--data", "shapes", "--imgsz", "320", "--head", "e2e", "--json")]
    assert "The measurement cannot be started: no processes in this test" in _text(page)
    store.save_sensitivity(factories.sensitivity())
    page = _open(level="3")
    assert not [button for button in page.button if button.key == "measure-sensitivity"]


def test_a_classifier_is_measured_by_its_top_1(started: list[tuple[str, ...]]) -> None:
    _measured_levels(model="yolo26n-cls.pt", task="classify", head="nms")
    button = _open(level="3").button(key="measure-sensitivity")
    assert "measures top-1 on at most 200 validation images" in button.help
    button.click().run()
    assert started[0][-3:] == ("--head", "nms", "--json")


def test_without_the_weights_nothing_can_be_measured_and_it_says_why() -> None:
    store = Store()
    for record in factories.series():
        store.save(record)
    page = _open(level="3")
    assert not [button for button in page.button if button.key == "measure-sensitivity"]
    assert "the original's weights and the data set have to be on this machine" in _text(page)


def test_a_visitor_of_a_network_sees_what_was_measured_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, started: list[tuple[str, ...]]
) -> None:
    store = _measured_levels()
    monkeypatch.setattr(access, "is_for_this_machine_only", lambda *arguments: False)
    page = _open(level="3", layer=LAYER)
    assert "Nobody has measured the sensitivity of these layers yet." in _text(page)
    assert [button.key for button in page.button] == ["show"]
    store.save_sensitivity(factories.sensitivity())
    page = _open(level="3", layer=LAYER)
    assert "**Sensitivity.** With 16 → 8 channels" in _text(page)
    assert str(os.environ["TRIMBOARD_HOME"]) not in _text(page)
    assert started == []


def test_a_measurement_at_work_tells_how_far_it_is_and_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _measured_levels()
    log_file = tmp_path / "sensitivity.log"
    log_file.write_text("[trimboard] cutting only model.4.cv1, 12 of 80, 95 s left\n")
    at_work: list[local.Job] = []
    cancelled: list[local.Job] = []

    class Process:
        def poll(self) -> None:
            return None

    def cancel(job: local.Job) -> None:
        cancelled.append(job)
        at_work.clear()

    process: Any = Process()
    at_work.append(
        local.Job(kind="sensitivity", arguments=("sensitivity",), pid=1, log_file=log_file, _process=process)
    )
    monkeypatch.setattr(local, "find_job", lambda arguments: at_work[0] if at_work else None)
    monkeypatch.setattr(local, "cancel", cancel)
    (job,) = at_work
    page = _open(level="3")
    line = "cutting only model.4.cv1, 12 of 80, 95 s left. It goes on when you close this page."
    assert line in [info.value for info in page.info]
    assert not [button for button in page.button if button.key == "measure-sensitivity"]
    page.button(key="cancel-job-0").click().run()
    assert cancelled == [job]
    assert page.button(key="measure-sensitivity").label == "Measure the layers' sensitivity"
