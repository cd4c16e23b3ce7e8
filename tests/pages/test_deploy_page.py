"""The page Deploy with results, with none, and with an error; no process is started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Caption, Code, Markdown

from cache.store import Store
from compression.deployment.exported import ExportRecord, exports_folder, save_export
from compression.home import run_folder
from compression.jobs import local
from pages.parts import results
from tests import factories
from tests.compression.deployment.test_exported import record_of
from tests.pages.jobs.test_job_views import job_of

ROOT = Path(__file__).parents[2]
SHA = "ef" * 32


@pytest.fixture(autouse=True)
def only_own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither shipped results, nor the store of an earlier test."""
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was started."""
    noted: list[dict[str, Any]] = []
    monkeypatch.setattr(
        local, "start_export", lambda path, formats, **options: noted.append({"formats": formats, **options})
    )
    return noted


def save(*levels: int) -> list[Path]:
    """Results whose checkpoints lie here; their places."""
    places = []
    for level in levels:
        record = factories.with_checkpoint(factories.record(level), b"weights", SHA)
        Store().save(record)
        place = run_folder(record.key) / "best.pt"
        place.parent.mkdir(parents=True)
        place.write_bytes(b"weights")
        places.append(place)
    return places


def page(**query: str) -> AppTest:
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    opened.query_params.update(query)
    opened = opened.switch_page("pages/deploy.py").run()
    assert not opened.exception
    return opened


def texts(opened: AppTest) -> str:
    return "\n".join(str(each.value) for each in opened.main if isinstance(each, Markdown | Caption | Code))


def keep_file(name: str = "best-e2e-320-fp32.onnx") -> ExportRecord:
    folder = exports_folder(SHA)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"a file")
    record = record_of(folder / name)
    save_export(record)
    return record


def test_without_a_checkpoint_the_page_says_how_to_get_one() -> None:
    Store().save(factories.record(3))
    assert "trimboard export best.pt" in page().info[0].value


def test_a_level_is_chosen_by_the_address() -> None:
    save(1, 3)
    opened = page(level="1")
    assert opened.selectbox(key="deploy_level").value == "1"
    assert not opened.warning
    # The deepest cut is what there is most to gain from.
    assert page().selectbox(key="deploy_level").value == "3"
    assert page(level="3", deploy_level="1").selectbox(key="deploy_level").value == "1"
    opened = page(level="5")
    assert [each.value for each in opened.warning] == [
        "This link asks for level “5”, of which no checkpoint is here; another one is shown instead."
    ]


def test_export_asks_for_what_is_chosen(started: list[dict[str, Any]]) -> None:
    save(3)
    opened = page()
    # Whatever else this machine lacks, torch is there.
    assert not opened.checkbox(key="format-torchscript").disabled
    opened.checkbox(key="format-onnx").uncheck()
    opened.checkbox(key="format-torchscript").check()
    opened.number_input(key=f"batch-{SHA[:12]}").set_value(4)
    opened.selectbox(key=f"head-{SHA[:12]}").set_value("nms")
    opened.button(key="export").click().run()
    assert not opened.exception
    assert started == [
        {
            "formats": ["torchscript"],
            "precision": "fp32",
            "imgsz": 320,
            "batch": 4,
            "head": "nms",
            "data": "shapes",
        }
    ]


def test_what_cannot_be_made_is_disabled_with_its_reason() -> None:
    save(3)
    opened = page(precision="int8")
    assert opened.checkbox(key="format-torchscript").disabled
    assert "TorchScript has no int8; choose fp32 or fp16." in texts(opened)
    opened.text_input(key=f"data-of-{SHA[:12]}").set_value("").run()
    assert opened.checkbox(key="format-onnx").disabled
    assert opened.button(key="export").disabled


def test_files_are_there_when_the_page_is_opened_again() -> None:
    save(3)
    assert "None of this checkpoint yet." in texts(page())
    record = keep_file()
    opened = page()
    shown = texts(opened)
    assert "**ONNX** · fp32 · 320 px · e2e head" in shown
    assert "398 of 400 detections on 64 validation images of shapes are found again" in shown
    assert record.exported.sha256 in shown
    assert 'YOLO("best-e2e-320-fp32.onnx"' in shown
    assert opened.get("download_button")


def test_a_job_at_work_and_a_failed_one_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(3)
    log_file = tmp_path / "export.log"
    log_file.write_text("[trimboard] 1 of 1: exporting to ONNX in fp32\n")
    monkeypatch.setattr(local, "exports_of", lambda checkpoint: [job_of(log_file, None)])
    assert "1 of 1\\: exporting to ONNX in fp32. It goes on" in page().info[0].value
    log_file.write_text("trimboard: No *space* is left.\n")
    monkeypatch.setattr(local, "exports_of", lambda checkpoint: [job_of(log_file, 2)])
    opened = page()
    assert [each.value for each in opened.error] == ["No \\*space\\* is left."]
    assert "Dismiss" in [each.label for each in opened.button]


def test_what_a_link_asks_for_is_no_markdown() -> None:
    save(3)
    (warning,) = page(model="![x](https://a.b/c.png)").warning
    assert "\\!" in warning.value or "\\[x\\]" in warning.value
    assert "![x](" not in warning.value
