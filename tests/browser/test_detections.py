"""The page Detections as a visitor meets it: a real server, a real Chromium, the shipped models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from compression.data import shapes
from tests.browser.conftest import IN_BROWSER, OF_BEFORE, serving

VIEW = f"model=yolo26n&data=shapes&{OF_BEFORE}"

pytestmark = IN_BROWSER


@pytest.fixture
def server(own_home: Path) -> Iterator[str]:
    # Three images of the built-in data set are ranked in a moment.
    shapes.draw_dataset(own_home / "datasets" / f"shapes-{shapes.VERSION}", {"train": 2, "val": 3})
    with serving(own_home) as address:
        yield address


def _settled(page: Page) -> None:
    page.wait_for_selector(".st-key-picture-after .js-plotly-plot")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


def test_from_the_sample_to_what_loses_most(server: str, page: Page) -> None:
    page.goto(f"{server}/detections?{VIEW}")
    _settled(page)
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    expect(page.get_by_text("objects that the original finds; lost:")).to_be_visible()
    page.get_by_role("slider", name="Confidence").press("End")
    expect(page.get_by_text("Level 5 finds 0 of the 1 object that")).to_be_visible()
    page.wait_for_url("**conf=0.95**")

    page.get_by_role("button", name="Rank the validation images").click()
    total = page.get_by_text("On the 3 validation images the original finds")
    expect(total).to_be_visible()
    page.reload()
    _settled(page)
    expect(total).to_be_visible()
    assert "stException" not in page.evaluate("window.seen")
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)
        assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width
