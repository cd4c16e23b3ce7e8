"""Layers changed by hand in a real browser: costs follow, and the view is in the address."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from compression.levels import target_of
from compression.pruning.cut import plan_all
from tests.browser.conftest import IN_BROWSER, OF_BEFORE, serving

pytestmark = IN_BROWSER

LAYER = "model.6.cv2"
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning]"


def _params(page: Page) -> str:
    row = page.get_by_role("row").filter(has_text="Parameters, deployed")
    return row.get_by_role("cell").nth(3).inner_text()


def test_a_layer_is_cut_by_the_slider_and_the_link_shows_the_same(own_home: Path, page: Page) -> None:
    # As the background does it, which takes a start of torch.
    plan_all("yolo26n.yaml", {3: target_of(3)}, imgsz=320, data="shapes")
    with serving(own_home) as address:
        page.goto(f"{address}/explore?whatif=true&level=3&{OF_BEFORE}")
        layer = page.locator(".st-key-whatif-layer").get_by_role("combobox")
        expect(layer).to_be_visible()
        expect(page.get_by_text("Take it with you")).to_be_visible()
        page.wait_for_selector(SETTLED)
        layer.click()
        layer.fill(LAYER)
        page.get_by_role("option", name=LAYER, exact=True).click()
        slider = page.get_by_role("slider").last
        expect(slider).to_have_attribute("aria-valuetext", "112")
        before = _params(page)
        slider.press("ArrowLeft")
        expect(page.get_by_text(f"{LAYER} 104 of 128 channels (level 3: 112)")).to_be_visible()
        page.wait_for_selector(SETTLED)
        # Where it stands among the other parts is not told.
        page.wait_for_url(f"**wish={LAYER}%3A104*")
        after = _params(page)
        assert float(after.split()[0]) < float(before.split()[0])
        page.goto(page.url)
        expect(page.get_by_text(f"{LAYER} 104 of 128 channels (level 3: 112)")).to_be_visible()
        page.wait_for_selector(SETTLED)
        assert _params(page) == after
