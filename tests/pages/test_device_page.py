"""The page "On the device" with results, with none, and with work in the background; no process is started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Caption, Code, Markdown

from cache.store import Store
from compression.jobs import local
from compression.spec import Target
from pages.parts import results
from tests import factories
from tests.factories import accuracy, latency
from tests.pages.jobs.test_job_views import job_of

ROOT = Path(__file__).parents[2]
LEVEL_3, CUSTOM = "03" * 32, "40" * 32


@pytest.fixture(autouse=True)
def only_own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither shipped results, nor the store of an earlier test."""
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The command lines that were started."""
    noted: list[tuple[str, ...]] = []
    monkeypatch.setattr(local, "start_levers", noted.append)
    return noted


def page(**query: str) -> AppTest:
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    opened.query_params.update(query)
    opened = opened.switch_page("pages/device.py").run()
    assert not opened.exception
    return opened


def texts(opened: AppTest) -> str:
    return "\n".join(str(each.value) for each in opened.main if isinstance(each, Markdown | Caption | Code))


def save_results() -> None:
    Store().save(factories.record(0))
    Store().save(factories.with_checkpoint(factories.record(3), b"weights", LEVEL_3))


def test_without_results_the_page_says_how_to_get_some() -> None:
    assert "trimboard run yolo26n.pt --data shapes --level 3" in page().info[0].value


def test_without_times_the_page_offers_to_measure(started: list[tuple[str, ...]]) -> None:
    save_results()
    opened = page()
    assert "Nothing was timed yet." in opened.info[0].value
    # The checkpoint of level 3 is not here.
    assert "level 3" in texts(opened)
    opened.multiselect(key="backends").set_value(["openvino"])
    opened.multiselect(key="sizes").set_value([1.0, 0.5])
    opened.toggle(key="siblings").set_value(True)
    opened.run()
    key = factories.spec(3).key[:12]
    wanted = (
        *("levers", key, "--data", "shapes", "--levels", "0", "--backend", "openvino"),
        *("--precision", "fp32,int8", "--imgsz", "1,0.5", "--threads", "1", "--siblings"),
    )
    assert opened.code[0].value == f"trimboard {' '.join(wanted)}"
    opened.button(key="measure").click().run()
    assert not opened.exception
    assert started == [wanted]
    opened.multiselect(key="precisions").set_value([]).run()
    assert opened.button(key="measure").disabled


def test_what_was_measured_is_drawn_and_told() -> None:
    save_results()
    store = Store()
    store.save_accuracy(accuracy(0.7))
    store.save_latency(latency(10.0))
    store.save_accuracy(accuracy(0.68, weights_sha256=LEVEL_3, level=3))
    store.save_latency(latency(7.0, ratio=0.7, weights_sha256=LEVEL_3, level=3))
    store.save_accuracy(accuracy(0.6, weights_sha256=LEVEL_3, level=3, imgsz=256))
    opened = page()
    shown = texts(opened)
    assert "2 of 2 measured combinations stand on the front" in shown
    assert "**level 3 · FP32 · 320**, 7.0 ms, 1.43 times as fast" in shown
    assert "level 3 · FP32 · 256: time not measured" in shown
    assert "--levels 3 --backend onnx --precision fp32 --imgsz 256 --threads 1" in shown
    assert list(opened.dataframe[0].value["combination"]) == ["level 3 · FP32 · 320", "level 0 · FP32 · 320"]
    assert opened.get("download_button")
    # By file size, both are as large, and the more accurate one beats the other.
    opened = page(cost="File size")
    assert "1 of 2 measured combinations stands on the front" in texts(opened)


def test_what_is_missing_of_a_cut_of_its_own_is_measured_by_its_own_key() -> None:
    save_results()
    store = Store()
    half = factories.spec(None, target=Target(gflops_kept=0.4, params_kept=None))
    custom = replace(factories.record(5), level=None, spec=half, key=half.key)
    store.save(factories.with_checkpoint(custom, b"half", CUSTOM))
    store.save_accuracy(accuracy(0.7))
    store.save_latency(latency(10.0))
    store.save_accuracy(accuracy(0.6, weights_sha256=CUSTOM, level=None))
    shown = texts(page())
    assert "cut to 40% of the GFLOPs · FP32 · 320: time not measured" in shown
    command = f"trimboard levers {half.key[:12]} --data shapes --backend onnx --precision fp32 --imgsz 320 --threads 1"
    assert command in shown


def test_a_device_is_chosen_by_the_address() -> None:
    save_results()
    store = Store()
    for threads in (1, 2):
        store.save_accuracy(accuracy(backend="openvino"))
        store.save_latency(latency(threads=threads))
        store.save_latency(latency(5.0, threads=threads, backend="openvino"))
    opened = page(runtime="openvino 1.27.0", threads="2")
    assert opened.selectbox(key="runtime").value == "openvino 1.27.0"
    assert opened.selectbox(key="threads").value == 2
    assert list(opened.dataframe[0].value["median_ms"]) == [5.0]


def test_a_job_at_work_and_what_it_left_out_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_results()
    log_file = tmp_path / "levers.log"
    log_file.write_text("[trimboard] onnx, 2 of 9: timing on onnx\n")
    monkeypatch.setattr(local, "levers_of", lambda keys: [job_of(log_file, None)])
    assert "onnx, 2 of 9\\: timing on onnx. It goes on" in page().info[0].value
    log_file.write_text("trimboard: Backend tpu is left out.\n")
    monkeypatch.setattr(local, "levers_of", lambda keys: [job_of(log_file, 0)])
    opened = page()
    assert [each.value for each in opened.error] == ["Backend tpu is left out."]
    assert "Dismiss" in [each.label for each in opened.button]
