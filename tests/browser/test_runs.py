"""The page Runs as a visitor meets it: a real server, a real Chromium, real runs of a second an epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from cache.record import Progress
from cache.store import Store
from compression.jobs.submit import submit
from compression.jobs.worker import ensure_worker
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector
from compression.request import RunRequest
from compression.spec import WITHOUT_IMAGES
from tests import factories
from tests.browser.conftest import IN_BROWSER, serving

pytestmark = IN_BROWSER


@pytest.fixture
def no_process_is_left(own_home: Path) -> Iterator[None]:
    yield
    for run in Store().queue.runs():
        if run.state == "running" and run.pid != os.getpid():
            psutil.Process(run.pid).kill()


def test_runs_are_followed_reordered_cancelled_and_resumed(
    own_home: Path, tmp_path: Path, tiny_shapes: Path, page: Page, no_process_is_left: None
) -> None:
    model = tmp_path / "mine.pt"
    write_checkpoint(open_detector("yolo26n.yaml", nc=10, seed=3).module, model, {})
    common = RunRequest(
        model=str(model),
        data=str(tiny_shapes),
        imgsz=64,
        batch=4,
        device="cpu",
        epochs=1,
        method=WITHOUT_IMAGES,
        level=0,
    )
    requests = [
        RunRequest(**{**vars(common), "level": level, "epochs": 400 if level == 1 else 1}) for level in (1, 2, 3)
    ]
    submit(requests)
    ensure_worker()
    with serving(own_home) as server:
        page.goto(f"{server}/runs")
        at_work = page.locator("[class*=st-key-work-]")
        expect(at_work.get_by_text("mine on tiny-shapes, level 1")).to_be_visible()
        expect(at_work.get_by_text("Fine-tuning · epoch")).to_be_visible()
        expect(at_work.get_by_text("of memory")).to_be_visible()
        # Two curves, of accuracy and of losses, once an epoch is over.
        expect(at_work.locator(".js-plotly-plot")).to_have_count(2)

        queued = page.locator("[class*=st-key-queued-]")
        expect(queued).to_have_count(2)
        expect(queued.first).to_contain_text("level 2")
        queued.last.get_by_role("button", name="Earlier").click()
        expect(queued.first).to_contain_text("level 3")

        at_work.get_by_role("button", name="Cancel").click()
        over = page.locator("[class*=st-key-over-]")
        cancelled = over.filter(has_text="level 1")
        expect(cancelled).to_contain_text("Cancelled")
        expect(over.filter(has_text="level 3")).to_contain_text("Done")
        expect(over.filter(has_text="level 2")).to_contain_text("Done")
        cancelled.get_by_role("button", name="Resume").click()
        expect(at_work.get_by_text("mine on tiny-shapes, level 1")).to_be_visible()
        # The card that was there before is gone first: what is awaited next must not be read from it.
        expect(over).to_have_count(2)
        at_work.get_by_role("button", name="Cancel").click()
        expect(over).to_have_count(3)
        expect(cancelled).to_contain_text("Cancelled")
        cancelled.get_by_role("button", name="Remove").click()
        expect(over).to_have_count(2)
    assert {run.state for run in Store().queue.runs()} == {"done"}


def test_progress_of_another_process_reaches_the_page_by_itself(own_home: Path, page: Page) -> None:
    queue, spec = Store().queue, factories.spec(3)
    with serving(own_home) as server:
        page.goto(f"{server}/runs")
        expect(page.get_by_text("No run was asked for yet.")).to_be_visible()
        queue.begin(spec, lanes="cpu", pid=os.getpid(), log_file="")
        for epoch in (1, 2):
            queue.tell(spec.key, Progress(stage="fine-tuning", epoch=epoch, epochs=20))
            expect(page.get_by_text(f"Fine-tuning · epoch {epoch} of 20")).to_be_visible()
        queue.end(spec.key, "failed", "No space is left.")
        expect(page.get_by_text("No space is left.")).to_be_visible()
        expect(page.get_by_test_id("stException")).to_have_count(0)


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_wider_than_the_window(own_home: Path, page: Page, width: int) -> None:
    queue = Store().queue
    for level, state in ((1, "running"), (2, "queued"), (3, "failed")):
        spec = factories.spec(level)
        queue.submit(spec, RunRequest(model=spec.model, data=spec.data, level=level), lanes="cpu")
        if state != "queued":
            queue.take(spec.key, pid=os.getpid())
        if state == "failed":
            queue.end(spec.key, "failed", "A sentence that is long enough to need more than one line on a phone.")
    page.set_viewport_size({"width": width, "height": 900})
    with serving(own_home) as server:
        page.goto(f"{server}/runs")
        expect(page.get_by_text("Over (1)")).to_be_visible()
        time.sleep(1)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
