"""The page Explore as a visitor meets it: a real server, a real Chromium, made-up results."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cache.store import Store
from compression.data.shapes import draw_dataset
from pages.parts.layers.heatmap_plot import GAP, ROW, STRIP, TOP
from tests import factories
from tests.browser.conftest import IN_BROWSER, serving

# A data set that no shipped result is measured on.
DATA = "orchard"
# Of the training graph with the ten classes of the built-in data set, which the test draws anew under another name.
YOLO26N_PARAMS = 2_507_700
VIEW = f"model=yolo26n&data={DATA}"

pytestmark = IN_BROWSER


@pytest.fixture
def server(own_home: Path) -> Iterator[str]:
    store = Store()
    for record in (
        *factories.series(data=DATA),
        *factories.series((3, 5), data=DATA, criterion="taylor"),
        *factories.series((5,), data=DATA, criterion="taylor", seed=1),
        *factories.series(data="vineyard", epochs=5),
    ):
        store.save(record)
    store.close()
    with serving(own_home) as address:
        yield address


def _settled(page: Page) -> None:
    page.wait_for_selector("[data-testid=stSlider]")
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


def _card(page: Page, label: str) -> str:
    card = page.get_by_test_id("stMetric").filter(has=page.get_by_text(label, exact=True))
    return card.get_by_test_id("stMetricValue").inner_text().strip()


def _await_ring(page: Page, x: float, y: float) -> None:
    """Until the only ring that is seen is around the point of these GFLOPs and this accuracy."""
    page.wait_for_function(
        """([x, y]) => {
          const plot = document.querySelector('.st-key-tradeoff .js-plotly-plot');
          const trace = plot?._fullData?.find(trace => trace.name === 'Chosen level');
          const rings = [...plot?.querySelectorAll('.scatterlayer .trace:last-child .points path') ?? []];
          const seen = rings.map((ring, place) => [getComputedStyle(ring).opacity, place]).filter(([o]) => o === '1');
          return trace && seen.length === 1 && trace.x[seen[0][1]] === x && trace.y[seen[0][1]] === y;
        }""",
        arg=[x, y],
    )


def _seen(page: Page) -> set[str]:
    return set(page.evaluate("window.seen"))


def test_from_the_first_visit_to_the_csv(server: str, page: Page) -> None:
    page.goto(f"{server}/?{VIEW}")
    _settled(page)
    assert page.url.split("?")[0] == f"{server}/explore"
    assert _seen(page) == {"How far can you compress this detector?"}
    # It opens on the answer: the smallest level that loses at most a point.
    expect(page.get_by_role("heading", name="Take level 1")).to_be_visible()
    assert (_card(page, "mAP50-95"), _card(page, "GFLOPs"), _card(page, "Parameters")) == ("0.716", "1.45", "2.44 M")
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    _await_ring(page, 1.4531, 0.716)

    for _ in range(4):
        page.get_by_role("slider").press("ArrowRight")
    card = page.get_by_test_id("stMetric").first
    expect(card).to_contain_text("0.620")
    expect(card).to_contain_text("-13.9%")
    _await_ring(page, 1.1856, 0.62)
    page.wait_for_function(
        f"getComputedStyle(document.querySelector('.st-key-heatmap'), '::after').top === '{TOP + STRIP + GAP + 4 * ROW}px'"
    )
    assert "level=5" in page.url

    with page.expect_download() as download:
        page.get_by_role("button", name="Export comparison CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text(encoding="utf-8"))))
    assert sorted((row["level"], row["criterion"], row["seed"]) for row in rows) == [
        *((level, "obs", "0") for level in "012"),
        *(("3", "obs", "0"), ("3", "taylor", "0"), ("4", "obs", "0")),
        *(("5", "obs", "0"), ("5", "taylor", "0"), ("5", "taylor", "1")),
    ]
    assert {(row["provenance"], row["allocation"], row["steps"]) for row in rows} == {("measured", "budget", "1")}
    (last,) = [row for row in rows if (row["level"], row["criterion"]) == ("5", "obs")]
    assert f"{float(last['map50_95']):.3f}" == _card(page, "mAP50-95")
    assert f"{float(last['gflops']):.2f}" == _card(page, "GFLOPs")
    assert f"{int(last['params']) / 1e6:.2f} M" == _card(page, "Parameters")
    assert f"{float(last['precision']):.3f}" == _card(page, "Precision")
    assert f"{float(last['recall']):.3f}" == _card(page, "Recall")
    assert f"{float(last['map50_95_change_pct']):.1f}%" == "-13.9%"


def _click_point(page: Page, trace: str, number: int) -> None:
    """Click on a point of the trade-off plot, where Plotly has drawn it."""
    place = page.evaluate(
        """([name, number]) => {
          const plot = document.querySelector('.st-key-tradeoff .js-plotly-plot');
          plot.scrollIntoView({block: 'center'});
          const {xaxis, yaxis} = plot._fullLayout, trace = plot._fullData.find(one => one.name === name);
          const box = plot.getBoundingClientRect();
          return [
            box.left + xaxis._offset + xaxis.d2p(trace.x[number]), box.top + yaxis._offset + yaxis.d2p(trace.y[number])
          ];
        }""",
        [trace, number],
    )
    page.mouse.move(*place)
    page.mouse.click(*place)


def test_a_click_on_a_point_chooses_it_and_the_address_keeps_the_view(server: str, page: Page) -> None:
    page.goto(f"{server}/explore?{VIEW}&level=2")
    _settled(page)
    _await_ring(page, 1.3862, 0.704)
    _click_point(page, "Levels, measured (0 = original)", 4)
    expect(page.get_by_test_id("stMetric").first).to_contain_text("0.656")
    expect(page.get_by_role("slider")).to_have_value("4")

    page.get_by_role("radio", name="Parameters", exact=True).last.click()
    page.get_by_text("Pareto front", exact=True).click()
    page.get_by_role("combobox", name="Compare with").click()
    page.get_by_role("option", name="yolo26n on vineyard").click()
    page.wait_for_url("**vineyard**")
    _settled(page)
    page.reload()
    _settled(page)
    page.wait_for_function(
        """() => {
          const plot = document.querySelector('.st-key-tradeoff .js-plotly-plot');
          const names = plot?._fullData?.map(trace => trace.name) ?? [];
          return names.includes('yolo26n on vineyard') && plot._fullLayout.xaxis.title.text.startsWith('Parameters');
        }"""
    )
    expect(page.get_by_text("Pareto front of all measured")).to_be_visible()
    # A point of another data set turns the page to it.
    _click_point(page, "yolo26n on vineyard", 3)
    page.wait_for_url("**data=vineyard**")
    _settled(page)
    expect(page.get_by_role("slider")).to_have_value("3")
    assert _shown(page, "Data set") == "vineyard"
    assert "stException" not in _seen(page)


def test_a_deep_link_on_a_fresh_server_and_its_reload(server: str, page: Page) -> None:
    page.goto(f"{server}/explore?{VIEW}&level=2&metric=Recall")
    _settled(page)
    assert _card(page, "mAP50-95") == "0.704"
    _await_ring(page, 1.3862, 0.784)
    assert _seen(page) == {"How far can you compress this detector?"}

    page.get_by_role("slider").press("ArrowLeft")
    expect(page.get_by_test_id("stMetric").first).to_contain_text("0.716")
    page.reload()
    _settled(page)
    assert _card(page, "mAP50-95") == "0.716"
    assert page.get_by_role("slider").input_value() == "1"
    assert _seen(page) == {"How far can you compress this detector?"}


def _choose(page: Page, box: str, option: str) -> None:
    page.get_by_role("combobox", name=box).click()
    page.get_by_role("option", name=option, exact=True).click()


def _shown(page: Page, box: str) -> str:
    return page.get_by_role("combobox", name=box).input_value()


def test_conditions_and_seed_are_chosen_and_in_the_address(server: str, page: Page) -> None:
    page.goto(f"{server}/explore?{VIEW}&level=5")
    _settled(page)
    assert (_shown(page, "Conditions"), _shown(page, "Seed")) == ("default method", "0")
    _choose(page, "Conditions", "criterion taylor")
    page.wait_for_url("**conditions=criterion+taylor**")
    _settled(page)
    _choose(page, "Seed", "1")
    page.wait_for_url("**seed=1**")
    _settled(page)
    page.reload()
    _settled(page)
    assert (_shown(page, "Conditions"), _shown(page, "Seed")) == ("criterion taylor", "1")
    # Another data set has conditions of its own, and coming back begins anew.
    _choose(page, "Data set", "vineyard")
    page.wait_for_url("**data=vineyard**")
    _settled(page)
    _choose(page, "Data set", DATA)
    page.wait_for_url(f"**data={DATA}**")
    _settled(page)
    assert (_shown(page, "Conditions"), _shown(page, "Seed")) == ("default method", "0")
    assert "stException" not in _seen(page)


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_wider_than_the_window(server: str, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{server}/explore?{VIEW}")
    _settled(page)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width


def test_a_run_is_started_survives_a_reload_and_shows_its_result(own_home: Path, tmp_path: Path, page: Page) -> None:
    data_yaml = draw_dataset(tmp_path / DATA, {"train": 4, "val": 2})
    conditions = {"data": DATA, "data_source": str(data_yaml), "imgsz": 64, "epochs": 1, "batch": 2}
    store = Store()
    for record in factories.series((0, 1), **conditions):
        # A plan counts only for a model of as many parameters as the measured one.
        store.save(replace(record, costs_original=replace(record.costs_original, params=YOLO26N_PARAMS)))
    with serving(own_home) as server:
        page.goto(f"{server}/explore?{VIEW}&level=3")
        _settled(page)
        # The costs come from a plan, computed in the background.
        page.wait_for_selector("text=Planned without looking at images")
        assert _card(page, "mAP50-95") == "not measured"
        assert float(_card(page, "GFLOPs")) > 0

        # While the page is drawn anew, what was there before stands beside it; and a list closes when the page scrolls.
        _settled(page)
        expect(page.get_by_role("combobox", name="Start from")).to_have_count(1)
        page.get_by_role("combobox", name="Start from").scroll_into_view_if_needed()
        page.get_by_role("combobox", name="Start from").click()
        page.get_by_role("option", name="yolo26n.yaml").click()
        page.get_by_role("textbox", name="Device").fill("cpu")
        button = page.get_by_role("button", name="Measure level 3")
        button.dblclick()
        expect(page.get_by_text("Level 3 is being measured.")).to_have_count(1)
        page.wait_for_function("!document.body.innerText.includes('Checking what was asked')")
        page.reload()
        _settled(page)
        expect(page.get_by_text("Level 3 is being measured.")).to_have_count(1)

        expect(page.get_by_test_id("stMetric").first).not_to_contain_text("not measured")
        # The result is stored a moment before the run is noted as done.
        for _ in range(100):
            if [status.state for status in store.queue.runs()] == ["done"]:
                break
            page.wait_for_timeout(100)
        assert [status.state for status in store.queue.runs()] == ["done"]
        (record,) = [one for one in store.records(data=DATA) if one.level == 3]
        assert record.metrics.map50_95 is not None
        assert _card(page, "mAP50-95") == f"{record.metrics.map50_95:.3f}"
        assert record.spec is not None
        assert (record.spec.recipe, record.spec.criterion, record.spec.steps) == ("cosine", "obs", 1)
        expect(page.get_by_text("mAP50-95 on the way")).to_have_count(1)
        expect(page.get_by_text("Planned without")).to_have_count(0)
    store.close()
