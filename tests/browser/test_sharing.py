"""What is handed on, in a real Chromium: the report, opened from the disk without a network, and plots as images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Download, Locator, Page, expect

from cache.record import EpochRow
from cache.store import Store
from pages.report.findings import findings_of
from pages.report.page import report_html
from tests import factories
from tests.browser.conftest import IN_BROWSER, serving

pytestmark = IN_BROWSER

EPOCHS = tuple(
    EpochRow(epoch=n, map50=0.5, map50_95=0.3, precision=0.6, recall=0.4, losses={"val/box": 1.0}, lr=0.1, seconds=1.0)
    for n in (1, 2)
)
WHITE = (255, 255, 255)
# Of texts on paper, as an image of vectors writes it.
DARK_TEXT = "rgb(27, 36, 48)"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    records = [replace(record, curve=EPOCHS) for record in factories.series((0, 3, 5))]
    records.append(factories.original("yolo26s", 4.0, 0.8))
    file = tmp_path / "report.html"
    findings = findings_of(records, [], model="yolo26n", data="shapes")
    file.write_bytes(report_html(findings, made=datetime(2026, 6, 2, tzinfo=UTC)))
    return file


@pytest.fixture
def server(own_home: Path) -> Iterator[str]:
    store = Store()
    for record in factories.series(data="orchard"):
        store.save(record)
    store.close()
    with serving(own_home) as address:
        yield address


def _saved(page: Page, button: Locator) -> tuple[str, bytes]:
    with page.expect_download() as started:
        button.click()
    download: Download = started.value
    return download.suggested_filename, Path(download.path()).read_bytes()


def _check_images(page: Page, buttons: Locator, name: str, width: int) -> None:
    """Both formats of one plot, readable on white although the page is dark."""
    file, content = _saved(page, buttons.get_by_text("PNG", exact=True))
    image = Image.open(io.BytesIO(content)).convert("RGB")
    assert file == f"{name}.png"
    assert (image.width, image.getpixel((2, 2))) == (width, WHITE)
    file, content = _saved(page, buttons.get_by_text("SVG", exact=True))
    text = content.decode()
    assert (file, text[:4]) == (f"{name}.svg", "<svg")
    assert DARK_TEXT in text
    # The legend stands beside the plot on the page, and in the image itself.
    assert "Levels, measured (0 = original)" in text


def test_the_report_opens_from_the_disk_without_a_network(report: Path, browser: Browser) -> None:
    context = browser.new_context(offline=True, color_scheme="dark", viewport={"width": 1440, "height": 900})
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    plots = page.locator(".js-plotly-plot")
    expect(plots).to_have_count(5)
    expect(page.locator("#plot-accuracy-gflops .scatterlayer .point")).not_to_have_count(0)
    page.locator("#plot-accuracy-gflops .scatterlayer .point").first.hover(force=True)
    expect(page.locator("#plot-accuracy-gflops .hoverlayer .hovertext")).to_contain_text("mAP50-95")
    _check_images(page, page.locator("[data-plot=accuracy-gflops]"), "trimboard-yolo26n-shapes-accuracy-gflops", 1800)

    # It follows the theme, and fits a phone.
    tick = page.locator("#plot-accuracy-gflops .xtick text").first
    colour = "element => getComputedStyle(element).fill"
    dark = tick.evaluate(colour)
    page.emulate_media(color_scheme="light")
    page.wait_for_function("() => getComputedStyle(document.querySelector('.xtick text')).fill === 'rgb(27, 36, 48)'")
    assert dark != tick.evaluate(colour) == DARK_TEXT
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => document.querySelector('.main-svg').getBoundingClientRect().width < 390")
    assert page.evaluate("document.documentElement.scrollWidth") == 390

    # On paper nothing is folded away.
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == 3
    # A plot that is saved is handed to the browser's downloads as a blob of the page's own.
    assert ([url for url in asked if not url.startswith("blob:null/")], said) == ([report.as_uri()], [])
    context.close()


def test_any_plot_of_the_dashboard_is_saved_as_an_image(server: str, browser: Browser) -> None:
    context = browser.new_context(color_scheme="dark", viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{server}/explore?model=yolo26n&data=orchard")
    chart = page.locator(".st-key-tradeoff")
    chart.locator(".trimboard-save").wait_for(state="attached")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    expect(page.locator(".trimboard-save")).to_have_count(page.locator(".js-plotly-plot").count())
    # By the keyboard, the buttons show themselves.
    chart.get_by_role("button", name="Save this plot as PNG").focus()
    expect(chart.locator(".trimboard-save")).to_have_css("opacity", "1")
    _check_images(page, chart.locator(".trimboard-save"), "trimboard-tradeoff", 2800)
    context.close()
