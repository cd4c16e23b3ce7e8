"""The page Explore with results, with none, and with an error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cache.record import RunRecord
from cache.store import Store, plan_key
from compression.jobs import local
from pages.parts import results
from tests import factories

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def only_own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither shipped results, nor the store of an earlier test, nor processes."""
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no processes in this test")

    monkeypatch.setattr(local, "start_plan", refuse)
    monkeypatch.setattr(local, "start_run", refuse)
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def _open(**query: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    page.query_params.update(query)
    return page.switch_page("pages/explore.py").run()


def _cards(page: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def _save(*records: RunRecord) -> Store:
    store = Store()
    for record in records:
        store.save(record)
    return store


def test_with_results() -> None:
    _save(*factories.series())
    page = _open()
    assert not page.exception
    assert _cards(page) == {
        "mAP50-95": "0.684",
        "mAP50": "0.854",
        "GFLOPs": "1.32",
        "Parameters": "2.19 M",
        "Precision": "0.834",
        "Recall": "0.764",
    }
    assert [metric.delta for metric in page.metric][:3] == ["-5.0%", "-4.0%", "-13.2%"]
    page.slider(key="level").set_value(5).run()
    assert _cards(page)["mAP50-95"] == "0.620"
    assert page.table[0].value["Compressed"].tolist() == ["1.19", "1,929,210", "0.790", "0.620", "0.770", "0.700"]


def test_the_view_is_in_the_address() -> None:
    _save(*factories.series(), *factories.series((1, 2), seed=1))
    page = _open(level="2", conditions="320 px · standard · 20 epochs · seed 1 · e2e")
    assert page.slider(key="level").value == 2
    assert page.selectbox(key="conditions").value == "320 px · standard · 20 epochs · seed 1 · e2e"


def test_a_link_names_model_and_data_set() -> None:
    _save(*factories.series(), factories.record(1, best=0.5, spec=factories.spec(1, data="cells")))
    page = _open(data="cells", level="1")
    assert page.selectbox(key="data").value == "cells"
    assert _cards(page)["mAP50-95"] == "0.496"


def test_a_link_to_what_is_not_here_is_said() -> None:
    _save(*factories.series())
    page = _open(model="yolo99z", data="nowhere", level="77")
    assert not page.exception
    assert ["yolo99z" in warning.value or "nowhere" in warning.value for warning in page.warning] == [True, True]
    assert (page.selectbox(key="model").value, page.selectbox(key="data").value) == ("yolo26n", "shapes")


def test_warnings_of_a_result_are_shown() -> None:
    _save(factories.record(3, warnings=("The target was missed by a point.",)))
    assert [warning.value for warning in _open().warning] == ["The target was missed by a point."]


def test_a_level_that_was_not_measured_shows_its_plan() -> None:
    store = _save(*factories.series((0, 1)))
    for level in (2, 3, 4, 5):
        store.save_plan(plan_key("yolo26n.yaml", None, 10, 320, level), factories.plan(level))
    page = _open(level="4")
    assert not page.exception
    assert not page.error
    cards = _cards(page)
    assert (cards["mAP50-95"], cards["GFLOPs"], cards["Parameters"]) == ("not measured", "1.25", "2.06 M")
    assert page.metric[0].delta == "original 0.720"
    assert any("Measure level 4" in button.label for button in page.button)


def test_with_no_results() -> None:
    page = _open()
    assert not page.exception
    assert "Nothing has been measured yet" in page.info[0].value
    assert set(_cards(page).values()) == {"not measured", "unknown"}


def test_a_data_set_that_is_not_here_asks_for_its_path(tmp_path: Path) -> None:
    _save(factories.record(1, spec=factories.spec(1, data="cells")))
    page = _open(level="3")
    assert "'cells' is not on this machine" in page.warning[0].value
    file = tmp_path / "cells.yaml"
    file.write_text("train: a\nval: b\nnames: [red, white]\n", encoding="utf-8")
    page.text_input(key="path-of-cells").set_value(str(file)).run()
    assert not page.exception
    assert not page.warning
    assert any("Measure level 3" in button.label for button in page.button)


def test_a_process_that_cannot_start_is_said() -> None:
    page = _open(level="3")
    assert "The planner cannot be started: no processes in this test." in page.error[0].value
    next(button for button in page.button if "Measure level 3" in button.label).click().run()
    assert not page.exception
    assert any("The run cannot be started" in error.value for error in page.error)


def test_with_a_broken_store(own_home: Path) -> None:
    (own_home / "trimboard.db").write_bytes(b"this is no database" * 100)
    page = _open()
    assert not page.exception
    assert "The results cannot be read." in page.error[0].value
    assert not page.metric


def test_opening_the_page_imports_no_torch() -> None:
    # It opens on the shipped results, of which every level is measured, so that there is no plan to start.
    program = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        "page = AppTest.from_file('app.py', default_timeout=60).switch_page('pages/explore.py').run()\n"
        "assert not page.exception, page.exception\n"
        "assert 0 < float(page.metric[0].value) < 1\n"
        "found = {name.split('.')[0] for name in sys.modules} & {'torch', 'ultralytics', 'torchvision'}\n"
        "assert not found, found\n"
        "assert 'plotly.express' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
