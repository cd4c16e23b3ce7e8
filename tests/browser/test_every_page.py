"""Every page as everybody meets it: no barrier that axe-core finds, no error, nothing wider than a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page

from cache.groups import weights_of
from cache.queue import RunQueue
from cache.record import Progress
from cache.shipped import load_shipped
from cache.store import Store
from compression.request import RunRequest
from pages.parts.choices import BUILT_IN_DATA
from tests import factories
from tests.browser.conftest import IN_BROWSER, PATIENCE_MS, ROOT, serving, started

pytestmark = IN_BROWSER

PAGES = ("explore", "detections", "runs", "device", "deploy", "bring")
WIDE, NARROW = 1440, 390
# A deep link may be a page's or that of a server with a path of its own. Streamlit's frontend asks at both places whether
# the server is there, and one of them answers 404, which browsers log.
STREAMLITS_OWN = ("/_stcore/health", "/_stcore/host-config")
SERIOUS = ("serious", "critical")


@dataclass
class Visit:
    """A page of the browser that goes from page to page, and what its console said."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: ConsoleMessage) -> None:
        path = urlsplit(message.location["url"]).path
        below_a_page = path.count("/") > 2 and path.endswith(STREAMLITS_OWN)
        if message.type == "error" and not below_a_page:
            self.errors.append(f"{message.text} ({path})")


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Iterator[Visit]:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield Visit(page)
    page.close()


@pytest.fixture(scope="module")
def with_results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the results that come with the program, times of them, and a run of each kind."""
    home = tmp_path_factory.mktemp("with-results")
    store = Store(f"sqlite:///{home / 'trimboard.db'}")
    save_times(store)
    save_runs(store.queue)
    store.close()
    with serving(home) as address:
        yield address


def save_times(store: Store) -> None:
    """Times and accuracies on a device, of the original and of level 5 on the built-in data set."""
    shipped = (item.record for item in load_shipped().by_key.values())
    levels = {record.level: record for record in shipped if record.data == BUILT_IN_DATA}
    reference = weights_of(levels[0])
    for level, weights, ratio in ((0, reference, 1.0), (5, levels[5].checkpoint_sha256, 0.7)):
        record = levels[level]
        assert record.spec is not None
        model: dict[str, Any] = {"weights_sha256": weights, "imgsz": record.imgsz, "head": record.head}
        data_fingerprint = record.spec.data_fingerprint
        store.save_accuracy(factories.accuracy(level=level, data_fingerprint=data_fingerprint, **model))
        store.save_latency(factories.latency(10 * ratio, level=level, ratio=ratio, reference_sha256=reference, **model))
    store.save_layer_times(factories.layer_times(str(levels[5].checkpoint_sha256), reference=reference))


def save_runs(queue: RunQueue) -> None:
    """One at work, one in the queue and one that failed."""
    for level in (1, 2, 3):
        spec = factories.spec(level)
        queue.submit(spec, RunRequest(model=spec.model, data=spec.data, level=level), lanes="cpu")
    at_work, failed = factories.spec(1), factories.spec(2)
    queue.take(at_work.key, pid=os.getpid())
    queue.tell(at_work.key, Progress(stage="fine-tuning", epoch=2, epochs=4, map50=0.5, map50_95=0.3))
    queue.take(failed.key, pid=os.getpid())
    queue.end(failed.key, "failed", "No space is left.")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that nothing was measured on: the program without the results that come with it."""
    copy = tmp_path_factory.mktemp("program")
    for name in ("app.py", ".streamlit", "cache", "compression", "pages"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("shipped"))
        else:
            shutil.copy(source, copy)
    with started(tmp_path_factory.mktemp("empty"), app=copy / "app.py") as (address, _):
        yield address


def open_page(visit: Visit, address: str, name: str) -> None:
    visit.errors.clear()
    visit.page.goto(f"{address}/{name}")
    settle(visit.page)


def settle(page: Page) -> None:
    """Wait for all that the script sends to be drawn."""
    page.wait_for_selector("h1")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function(
        """() => !document.querySelector('[data-testid=stSkeleton]')
          && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(plot => plot.querySelector('.main-svg'))"""
    )


def barriers(page: Page) -> list[str]:
    """What axe-core finds that counts, a line for each element."""
    # Of the rules that are off by default: what is touched has room for a finger (WCAG 2.2, 24 px).
    options = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]


def check(visit: Visit, *, width: int, dark: bool) -> None:
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if dark else "light")
    # The theme follows the system's.
    page.wait_for_function(
        f"getComputedStyle(document.querySelector('.stApp')).colorScheme === '{'dark' if dark else 'light'}'"
    )
    settle(page)
    assert page.get_by_test_id("stException").count() == 0
    assert page.locator("h1").count() == 1
    assert barriers(page) == []
    assert visit.errors == []
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width


@pytest.mark.parametrize("name", PAGES)
def test_with_results(visit: Visit, with_results: str, name: str) -> None:
    open_page(visit, with_results, name)
    for dark, width in ((False, WIDE), (True, WIDE), (True, NARROW), (False, NARROW)):
        check(visit, width=width, dark=dark)


@pytest.mark.parametrize("name", PAGES)
def test_without_results(visit: Visit, empty: str, name: str) -> None:
    open_page(visit, empty, name)
    check(visit, width=WIDE, dark=False)
