"""The page Add yours: forms, checks at work and failed, what was brought, and the way on; no process is started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Caption, Error, Info, Markdown

from cache.store import Store, plan_key
from compression.brought import add, brought
from compression.jobs import local
from compression.jobs.local import Job
from compression.request import RunRequest
from pages.parts import results
from tests import factories
from tests.compression.zips import roboflow, write_zip

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def only_own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither shipped results, nor the store of an earlier test."""
    monkeypatch.setattr(results, "Store", lambda: Store(shipped=tmp_path / "nothing"))
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Files and names whose check was asked for."""
    noted: list[tuple[str, str]] = []
    monkeypatch.setattr(local, "start_add", lambda *arguments: noted.append(arguments))
    return noted


@pytest.fixture
def cells(tmp_path: Path) -> str:
    """Path of a data set that was brought."""
    return add(str(write_zip(tmp_path / "cells.zip", roboflow()))).path


@pytest.fixture
def ours(own_home: Path) -> str:
    """Path of a model that passed for one."""
    folder = own_home / "brought" / "model-0123"
    folder.mkdir(parents=True)
    (folder / "ours.pt").write_bytes(b"weights")
    one = {"kind": "model", "name": "ours", "path": "ours.pt", "sha256": "ab" * 32, "kept": True, "added": "2026-06-01"}
    facts = {"classes": ["red", "white"], "architecture": "yolo26n", "imgsz": 96, "size_bytes": 5_000_000}
    (folder / "brought.json").write_text(json.dumps(one | facts))
    return str(folder / "ours.pt")


def job_of(file: str, log_file: Path, exit_code: int | None) -> Job:
    process: Any = SimpleNamespace(poll=lambda: exit_code)
    return Job(kind="add", arguments=("add", "--name=", "--", file), pid=1, log_file=log_file, _process=process)


def page() -> AppTest:
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30).switch_page("pages/bring.py").run()
    assert not opened.exception
    return opened


def texts(opened: AppTest) -> str:
    kinds = Markdown | Caption | Error | Info
    return "\n".join(str(each.value) for each in opened.main if isinstance(each, kinds))


def test_limits_are_stated_and_nothing_leads_on_yet() -> None:
    opened = page()
    assert [each.label for each in opened.file_uploader] == ["Your .pt, at most 500 MB", "Your .zip, at most 500 MB"]
    assert "At most 10 GB unpacked, 200,000 files and 100 times the size of the zip." in texts(opened)
    assert "it goes on from here" in texts(opened)
    assert [each.disabled for each in opened.button] == [True, True]


def test_an_upload_is_handed_over(started: list[tuple[str, str]]) -> None:
    opened = page()
    opened.file_uploader[1].set_value(("../my cells.zip", b"a zip", "application/zip")).run()
    opened.text_input(key="data-name-0").set_value(" cells ")
    opened.button(key="data-add").click().run()
    assert not opened.exception
    ((file, name),) = started
    assert (Path(file).name, Path(file).read_bytes(), name) == ("my-cells.zip", b"a zip", "cells")
    # The form is empty again.
    assert opened.button(key="data-add").disabled


def test_a_path_is_handed_over(started: list[tuple[str, str]]) -> None:
    opened = page()
    opened.segmented_control(key="model-by").set_value("By its path").run()
    opened.text_input(key="model-path-0").set_value(" /models/best.pt ").run()
    opened.button(key="model-add").click().run()
    assert started == [("/models/best.pt", "")]


def test_a_check_at_work_and_every_fault_of_a_failed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_file = tmp_path / "add.log"
    log_file.write_text("noise\ntrimboard: a.txt, line *1*: wrong.\ntrimboard: b.txt: wrong too.\n")
    jobs = [job_of("/tmp/cells.zip", log_file, None), job_of("/tmp/best.pt", log_file, 2)]
    monkeypatch.setattr(local, "jobs", lambda: jobs)
    opened = page()
    assert [each.value for each in opened.info] == ["Checking cells.zip. It goes on when you close this page."]
    assert [each.value for each in opened.error] == ["**best.pt cannot be used.**"]
    assert "- a.txt, line \\*1\\*\\: wrong.\n- b.txt\\: wrong too." in [each.value for each in opened.markdown]


def test_what_passed_is_listed_chosen_and_leads_on(
    cells: str, ours: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_file = tmp_path / "add.log"
    log_file.write_text(f"ours: yolo26n, 2 classes\n{ours}\n")
    done = job_of("/tmp/ours.pt", log_file, 0)
    monkeypatch.setitem(local._jobs, done.arguments, done)
    opened = page()
    assert "**ours** · yolo26n, 2 classes, trained at 96 px, 5.0 MB" in texts(opened)
    assert "**cells** · 2 training and 2 validation images, 2 classes" in texts(opened)
    assert [opened.selectbox(key=f"explore-{kind}").value for kind in ("model", "data")] == ["ours", "cells"]
    assert local.jobs() == []


def test_removing_takes_a_second_click(cells: str) -> None:
    opened = page()
    (button,) = [each for each in opened.button if each.label == "Remove cells"]
    button.click().run()
    assert not opened.exception
    assert brought("data") == []
    assert not Path(cells).exists()


def test_explore_plans_and_measures_it_like_any_other(cells: str, ours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[RunRequest] = []
    monkeypatch.setattr(local, "start_run", requests.append)
    store = Store()
    for level in (1, 2, 3, 4, 5):
        store.save_plan(plan_key(ours, "ab" * 32, 2, 96, level), factories.plan(level))
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    opened.query_params.update({"model": "ours", "data": "cells", "level": "4"})
    opened = opened.switch_page("pages/explore.py").run()
    assert not opened.exception
    assert not opened.warning
    assert [opened.selectbox(key=key).value for key in ("model", "data")] == ["ours", "cells"]
    assert "1.25" in [metric.value for metric in opened.metric]
    next(each for each in opened.button if "Measure level 4" in each.label).click().run()
    assert [(request.model, request.data, request.imgsz) for request in requests] == [(ours, cells, 96)]
