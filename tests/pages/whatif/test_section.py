"""The section What if of Explore: layers are changed by hand, costs follow, and a run is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cache.record import RunRecord
from cache.store import Store, sheet_key
from compression.jobs import local
from compression.request import RunRequest
from compression.spec import Target
from compression.wishes import Wish
from pages.parts import access, results
from pages.parts.access import ACCESS, RESULTS
from tests import factories
from tests.compression.small_models import LEVEL_5, plan, planner
from tests.pages.test_explore import ROOT

LAYER = "model.4.cv1"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunRequest]:
    """What the page asks to be run; no process is started."""
    requests: list[RunRequest] = []
    monkeypatch.setattr(local, "start_run", requests.append)
    monkeypatch.setattr(local, "start_plan", requests.append)
    return requests


@pytest.fixture
def store(tmp_path: Path, asked: list[RunRequest], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Level 5 of a model that is here, with the sheet of its layers."""
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    st.cache_resource.clear()
    made, store = plan("yolo26n", LEVEL_5), Store()
    (tmp_path / "mine.pt").write_bytes(b"weights")
    for level in (0, 5):
        store.save(_record(level, tmp_path, costs=made.after if level else made.before, layers=made.layers))
    store.save_sheet(sheet_key("mine.pt", "ab" * 32, 10, 320), planner("yolo26n").costs)
    yield store
    st.cache_resource.clear()


def _record(level: int | None, folder: Path, **changes: Any) -> RunRecord:
    spec = changes.pop("spec", None) or factories.spec(level, model=str(folder / "mine.pt"))
    found = factories.record(5 if level is None else level, spec=spec, costs_original=plan("yolo26n", LEVEL_5).before)
    return replace(found, level=level, key=spec.key, **changes)


def _open(**query: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    page.query_params.update({"level": "5", **query})
    page = page.switch_page("pages/explore.py").run()
    assert not page.exception
    return page


def _totals(page: AppTest) -> Any:
    return next(table.value for table in page.table if "What if" in table.value.columns)


def _texts(page: AppTest) -> list[str]:
    return [text.value.replace("\\", "") for text in (*page.markdown, *page.caption)]


def test_it_is_shut_at_first_and_a_link_opens_it(store: Store) -> None:
    page = _open()
    assert not page.toggle(key="whatif").value
    assert all("What if" not in table.value.columns for table in page.table)
    page = _open(wish=f"{LAYER}:16,model.0:1")
    assert page.toggle(key="whatif").value
    assert any(f"`{LAYER}` 16 of 64 channels (level 5: " in text for text in _texts(page))
    assert any("`model.0` locked, 16 channels" in text for text in _texts(page))


def test_costs_follow_a_wish_and_it_can_be_removed(store: Store) -> None:
    page = _open(whatif="true")
    before = _totals(page)
    assert before["What if"].tolist() == before["Level 5"].tolist()
    page.selectbox(key="whatif-layer").set_value(LAYER).run()
    page.select_slider(key=f"whatif-kept-{LAYER}").set_value(16).run()
    assert not page.exception
    assert page.query_params["wish"] == f"{LAYER}:16"
    after = _totals(page)
    assert after["What if"].tolist() != before["What if"].tolist()
    assert after["Level 5"].tolist() == before["Level 5"].tolist()
    page.button(key="whatif-lock").click().run()
    assert page.query_params["wish"] == f"{LAYER}:1"
    assert page.select_slider(key=f"whatif-kept-{LAYER}").value == 64
    page.button(key=f"whatif-remove-{LAYER}").click().run()
    assert "wish" not in page.query_params
    assert _totals(page)["What if"].tolist() == before["What if"].tolist()


def test_the_accuracy_without_training_is_a_run_without_epochs(store: Store, asked: list[RunRequest]) -> None:
    page = _open(**{"wish": f"{LAYER}:16", "whatif-from": "Original"})
    page.button(key="whatif-measure").click().run()
    assert not page.exception
    (request,) = asked
    assert (request.level, request.target, request.epochs) == (None, None, 0)
    assert request.layers == (Wish(layer=LAYER, kept=16),)
    assert Path(request.model).name == "mine.pt"


def test_a_level_that_was_changed_is_asked_for_whole(store: Store, asked: list[RunRequest]) -> None:
    page = _open(wish=f"{LAYER}:16")
    page.button(key="whatif-measure").click().run()
    (request,) = asked
    made = planner("yolo26n").plan(Target(gflops_kept=None, params_kept=None, layers=request.layers))
    kept = {row.name: row.channels_after for row in made.layers}
    assert kept[LAYER] == 16
    others = {row.name: row.channels_after for row in plan("yolo26n", LEVEL_5).layers}
    assert {name for name in kept if kept[name] != others[name]} == {LAYER, "model.4.m.0.cv2"}


def test_it_is_kept_as_a_custom_run(store: Store, asked: list[RunRequest]) -> None:
    page = _open(wish=f"{LAYER}:16")
    page.number_input(key="whatif-epochs").set_value(7).run()
    assert any("trimboard run" in code.value and "--epochs=7" in code.value for code in page.code)
    page.selectbox(key="whatif-rest").set_value("are planned anew for the level's target").run()
    page.button(key="whatif-keep").click().run()
    (request,) = asked
    assert (request.level, request.epochs, request.layers) == (5, 7, (Wish(layer=LAYER, kept=16),))


def test_what_was_measured_is_shown(store: Store, tmp_path: Path) -> None:
    target = Target(gflops_kept=None, params_kept=None, layers=(Wish(layer=LAYER, kept=16),))
    spec = factories.spec(None, model=str(tmp_path / "mine.pt"), target=target, epochs=0)
    store.save(_record(None, tmp_path, spec=spec, metrics=factories.metrics(4), seconds={"pruning": 12.0}))
    page = _open(**{"wish": f"{LAYER}:16", "whatif-from": "Original"})
    (metric,) = (metric for metric in page.metric if metric.label == "mAP50-95 without training")
    assert (metric.value, metric.delta) == ("0.656", "-8.9%")
    assert "Cut, recovered and measured in 12 s." in _texts(page)
    assert page.selectbox(key="conditions").value == "default method"


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ("model.4.cv9:0.5", "This model has no layer 'model.4.cv9'; there is"),
        ("model.23.cv2.0.2:0.5", "keeps all of its channels"),
    ],
)
def test_a_link_to_what_cannot_be_is_said_and_can_be_left(store: Store, wish: str, says: str) -> None:
    page = _open(wish=wish)
    assert says in page.error[0].value
    page.button(key="whatif-clear").click().run()
    assert not page.error
    assert "wish" not in page.query_params


def test_a_link_that_cannot_be_read_is_said(store: Store) -> None:
    page = _open(wish="half of it", whatif="true")
    assert "What this link wishes of layers cannot be read." in page.warning[0].value
    assert not page.exception


def test_who_may_not_act_sees_costs_and_starts_nothing(
    store: Store, asked: list[RunRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ACCESS, RESULTS)
    assert not access.access().acts
    page = _open(wish=f"{LAYER}:16")
    assert _totals(page)["What if"].tolist() != _totals(page)["Level 5"].tolist()
    assert not {"whatif-measure", "whatif-keep"} & {button.key for button in page.button}
    assert not page.code
    assert asked == []


def test_a_sheet_of_another_model_is_not_taken(store: Store, asked: list[RunRequest]) -> None:
    store.save_sheet(sheet_key("mine.pt", "ab" * 32, 10, 320), planner("yolov8n").costs)
    page = _open(whatif="true")
    assert any("cannot be changed" in info.value for info in page.info)


def test_a_sheet_that_is_missing_is_counted_in_the_background(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []

    def start(model: str, data: str | None, *, imgsz: int) -> None:
        started.append((Path(model).name, data or "", str(imgsz)))

    monkeypatch.setattr(local, "start_plan", start)
    store.save_plan(sheet_key("mine.pt", "ab" * 32, 10, 320), factories.plan(5))
    page = _open(whatif="true")
    assert started == [("mine.pt", "shapes", "320")]
    assert any("Counting what each layer costs" in info.value for info in page.info)
