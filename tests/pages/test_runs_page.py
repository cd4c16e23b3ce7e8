"""The page Runs, without a browser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button, Caption, Header, Info, Markdown

from cache import queue
from cache.record import EpochRow, Progress
from cache.store import Store
from compression.jobs import control, ray_cluster, worker
from compression.request import RunRequest
from compression.spec import RunSpec
from tests import factories

ROOT = Path(__file__).parents[2]


def page() -> AppTest:
    opened = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).switch_page("pages/runs.py").run()
    assert not opened.exception
    return opened


def add(store: Store, *levels: int) -> list[RunSpec]:
    specs = [factories.spec(level) for level in levels]
    for spec in specs:
        request = RunRequest(model=spec.model, data=spec.data, level=spec.level)
        assert store.queue.submit(spec, request, lanes="cpu")
    return specs


def texts(opened: AppTest) -> str:
    """Everything that can be read, from the top to the bottom."""
    return "\n".join(str(each.value) for each in opened.main if isinstance(each, Markdown | Caption | Header | Info))


def button(opened: AppTest, label: str, spec: RunSpec) -> AppTest:
    return keyed(opened)[f"{label}-{spec.key[:12]}"].click().run()


def keyed(opened: AppTest) -> dict[str, Button]:
    """The page's buttons by their keys."""
    return {str(each.key): each for each in opened.button}


@pytest.fixture(autouse=True)
def a_worker(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No process is started; who asked for one is noted."""
    asked: list[str] = []
    monkeypatch.setattr(worker, "is_at_work", lambda: True)
    monkeypatch.setattr(worker, "ensure_worker", lambda: asked.append("worker"))
    monkeypatch.setattr(control, "ensure_worker", lambda: asked.append("resume"))
    return asked


def test_without_runs_the_page_says_how_to_get_some() -> None:
    assert "trimboard sweep" in texts(page())


def test_runs_stand_under_their_state() -> None:
    store = Store()
    first, _, third = add(store, 1, 2, 3)
    store.queue.take(first.key, pid=os.getpid())
    row = EpochRow(epoch=1, map50=0.5, map50_95=0.3, precision=0, recall=0, losses={"train/a": 1.0}, lr=0, seconds=1)
    store.queue.tell(first.key, Progress(stage="fine-tuning", epoch=1, epochs=4, map50_95=0.3, finished=row))
    store.queue.take(third.key, pid=os.getpid())
    store.queue.end(third.key, "failed", "No *space* is left.")
    shown = texts(page())
    assert shown.index("At work") < shown.index("level 1") < shown.index("In the queue (1)") < shown.index("level 2")
    assert shown.index("level 2") < shown.index("Over (1)") < shown.index("level 3")
    # What a program wrote is no Markdown.
    assert "No \\*space\\* is left." in shown
    assert len(page().get("plotly_chart")) == 2


def test_places_are_changed_by_a_click() -> None:
    store = Store()
    first, second = add(store, 1, 2)
    opened = page()
    disabled = {key.split("-")[0]: each.disabled for key, each in keyed(opened).items() if first.key[:12] in key}
    assert disabled == {"Earlier": True, "Later": False, "Cancel": False}
    button(opened, "Earlier", second)
    assert [run.spec.level for run in store.queue.runs()] == [2, 1]
    button(page(), "Later", second)
    assert [run.spec.level for run in store.queue.runs()] == [1, 2]


def test_a_queued_run_is_cancelled_resumed_and_removed(a_worker: list[str]) -> None:
    store = Store()
    (spec,) = add(store, 1)
    button(page(), "Cancel", spec)
    assert [run.state for run in store.queue.runs()] == ["cancelled"]
    button(page(), "Resume", spec)
    assert [run.state for run in store.queue.runs()] == ["queued"]
    assert a_worker == ["resume"]
    button(page(), "Cancel", spec)
    button(page(), "Remove", spec)
    assert store.queue.runs() == []


def test_a_click_that_came_too_late_is_told_in_a_sentence() -> None:
    store = Store()
    (spec,) = add(store, 1)
    opened = page()
    store.queue.take(spec.key, pid=os.getpid())
    store.queue.end(spec.key, "done")
    late = button(opened, "Cancel", spec)
    assert not late.exception
    assert [each.value for each in late.warning] == [
        f"Run {spec.key[:12]} is neither queued nor running; there is nothing to cancel."
    ]
    assert not page().warning


def test_a_queue_that_nobody_works_on_can_be_started(monkeypatch: pytest.MonkeyPatch, a_worker: list[str]) -> None:
    add(Store(), 1)
    monkeypatch.setattr(worker, "is_at_work", lambda: False)
    opened = page()
    assert "Nobody works on this machine's queue" in opened.warning[0].value
    keyed(opened)["ensure-worker"].click().run()
    assert a_worker == ["worker"]


def test_only_runs_of_this_machine_want_its_worker_and_a_cluster_orders_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "is_at_work", lambda: False)
    monkeypatch.setattr(ray_cluster, "settle", lambda queue: None)
    store = Store()
    sent, spec = factories.spec(1), factories.spec(2)
    store.queue.submit(sent, RunRequest(model="yolo26n.pt", data="shapes", level=1), lanes="", executor="ray")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(queue, "this_host", lambda: "another-machine")
        store.queue.submit(spec, RunRequest(model="yolo26n.pt", data="shapes", level=2), lanes="cpu")
    opened = page()
    assert "In the queue (2)" in texts(opened)
    assert not opened.warning
    offered = {key: each.disabled for key, each in keyed(opened).items() if key.startswith(("Earlier", "Later"))}
    # The one that has a place is the first and the last of its kind.
    assert offered == {f"Earlier-{spec.key[:12]}": True, f"Later-{spec.key[:12]}": True}


def test_many_runs_are_not_all_drawn_at_once() -> None:
    store = Store()
    for seed in range(23):
        spec = factories.spec(1, seed=seed)
        store.queue.begin(spec, lanes="cpu", pid=os.getpid(), log_file="")
        store.queue.end(spec.key, "done")
    opened = page()
    assert sum(key.startswith("Remove-") for key in keyed(opened)) == 20
    opened.toggle(key="all-runs").set_value(True).run()
    assert sum(key.startswith("Remove-") for key in keyed(opened)) == 23
