"""The layers on Explore in a real Chromium: a click on a cell opens its layer, and the slider redraws none of them."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from cache.store import Store
from tests import factories
from tests.browser.conftest import IN_BROWSER, serving
from tests.browser.test_explore import DATA, VIEW, _settled

pytestmark = IN_BROWSER

# Where a cell of the plot lies on the page, by its column and its level.
PLACE = """([column, level]) => {
  const plot = document.querySelector('.st-key-heatmap .js-plotly-plot'), {xaxis, yaxis} = plot._fullLayout;
  const box = plot.getBoundingClientRect();
  return [box.x + xaxis._offset + xaxis.d2p(column), box.y + yaxis._offset + yaxis.d2p(level)];
}"""


def _click(page: Page, column: int, level: int) -> None:
    page.locator(".st-key-heatmap").scroll_into_view_if_needed()
    x, y = page.evaluate(PLACE, [column, level])
    # Plotly has to have seen the pointer there before.
    page.mouse.move(x - 1, y)
    page.mouse.move(x, y)
    page.mouse.click(x, y)


def test_a_click_on_a_cell_opens_its_layer_and_the_slider_redraws_nothing(own_home: Path, page: Page) -> None:
    store = Store()
    for record in factories.series(data=DATA):
        store.save(record)
    store.save_sensitivity(factories.sensitivity())
    store.close()
    layers = factories.layers(3)
    with serving(own_home) as server:
        page.goto(f"{server}/explore?{VIEW}&level=3")
        _settled(page)
        page.wait_for_selector(".st-key-heatmap .js-plotly-plot .scatterlayer .point", state="attached")
        _click(page, 67, 2)
        panel = page.locator(".st-key-layer-panel")
        expect(panel).to_contain_text(layers[67].name)
        expect(panel).to_contain_text("block 22 of the model, in its neck")
        page.wait_for_url(f"**layer={layers[67].name}**")
        # Beside the middle of a cell, and of a layer that was measured.
        _click(page, 0, 4)
        expect(panel).to_contain_text(f"{layers[0].name} · Conv2d")
        expect(panel).to_contain_text("mAP50-95 is 0.720 → 0.620 (-10.0 points)")
        # The same cell again takes Plotly's selection away, not the layer.
        _click(page, 0, 4)
        _settled(page)
        expect(panel).to_contain_text(f"{layers[0].name} · Conv2d")

        page.evaluate("document.querySelector('.st-key-heatmap .js-plotly-plot').dataset.drawn = 'once'")
        drawn = "document.querySelector('.st-key-heatmap .js-plotly-plot').dataset.drawn"
        top = "getComputedStyle(document.querySelector('.st-key-heatmap'), '::after').top"
        before = page.evaluate(top)
        page.get_by_role("slider").press("ArrowRight")
        expect(page.get_by_test_id("stMetric").first).to_contain_text("0.656")
        page.wait_for_function(f"{top} !== '{before}'")
        _settled(page)
        assert page.evaluate(drawn) == "once"
        expect(panel).to_contain_text("Level 4, chosen")
