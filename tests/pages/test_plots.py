"""What tells traces apart; the data themselves are tested where they are made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cache.series import series_of
from cache.siblings import Neighbours
from compression.spec import Target
from pages.parts.legend import legend_html
from pages.parts.plots import FAINT, draw_tradeoff, mark_in_tradeoff
from pages.parts.tradeoff import Tradeoff, focus, tradeoff
from tests import factories


def _everything() -> Tradeoff:
    """Levels of two seeds, one of them also before training, a custom target, siblings and publications."""
    neighbours = Neighbours(
        siblings=(factories.record(0), factories.record(0, scale=4.0, architecture="yolo26s")),
        siblings_published=(factories.published(0, "yolo26n"), factories.published(0, "yolo26s")),
        published=(factories.published(5, "yolo26n"),),
    )
    recovered = factories.record(5, metrics_recovered=factories.metrics(5, 0.6))
    custom = factories.spec(None, target=Target(gflops_kept=0.4, params_kept=None))
    records = [
        *factories.series((0, 1, 2, 3, 4)),
        recovered,
        replace(recovered, level=None, spec=custom, key=custom.key),
        factories.record(5, spec=factories.spec(5, seed=1)),
    ]
    series, *others = series_of(records)
    return tradeoff(series, neighbours, cost="gflops", metric="map50_95", other_seeds=others)


def _traces(data: Tradeoff) -> dict[str, Any]:
    return {trace.name: trace for trace in draw_tradeoff(data, focus(data)).data}


def test_measured_and_published_share_neither_line_nor_marker() -> None:
    traces = _traces(_everything())
    measured = {(t.line.dash, t.marker.symbol) for name, t in traces.items() if "measured" in name}
    published = {(t.line.dash, t.marker.symbol) for name, t in traces.items() if name.endswith("published")}
    assert {symbol for _, symbol in measured} == {"circle", "square"}
    assert len(published) == 2
    assert not {symbol for _, symbol in measured} & {symbol for _, symbol in published}
    assert all(symbol.endswith("-open") for _, symbol in published)
    levels = traces["Levels, measured (0 = original)"]
    assert (levels.line.dash, levels.mode) == ("solid", "lines+markers+text")


def test_what_is_not_the_result_itself_is_fainter_and_smaller() -> None:
    traces = _traces(_everything())
    levels, before = traces["Levels, measured (0 = original)"], traces["Before training, measured"]
    seeds, custom = traces["Other seeds, measured"], traces["Before training, measured, custom"]
    assert (before.line.dash, before.mode, list(before.marker.size)) == ("dot", "lines+markers", [0, 7])
    assert (list(before.y), list(seeds.y), list(custom.y)) == ([0.72, 0.5], [0.62], [0.5])
    assert {before.opacity, seeds.opacity, custom.opacity} == {FAINT}
    assert max(7, seeds.marker.size, custom.marker.size) < levels.marker.size
    assert levels.opacity is None


def test_each_level_has_a_ring_that_only_a_style_sheet_shows() -> None:
    data = _everything()
    figure = draw_tradeoff(data, None)
    rings = figure.data[-1]
    assert (rings.name, list(rings.x), rings.marker.opacity) == ("Chosen level", [one.x for one in data.measured], 0)
    style = (
        "<style>.plot .scatterlayer .trace:last-child .points path:nth-of-type(4) { opacity: 1 !important; }</style>"
    )
    assert mark_in_tradeoff(data, 3, ".plot") == style


def test_a_level_without_accuracy_is_a_line_at_its_cost() -> None:
    planned = {2: factories.costs(2), 3: factories.costs(3)}
    data = tradeoff(None, Neighbours(), cost="gflops", metric="map50", planned=planned)
    figure = draw_tradeoff(data, None)
    assert [(shape.x0, shape.x1, shape.opacity) for shape in figure.layout.shapes] == [
        (1.3862, 1.3862, 0),
        (1.3194, 1.3194, 0),
    ]
    assert ".shapelayer path:nth-of-type(2)" in mark_in_tradeoff(data, 3, ".plot")
    assert mark_in_tradeoff(data, 5, ".plot") == ""


def test_the_legend_says_what_is_drawn_and_no_more() -> None:
    html = legend_html(_everything(), 3)
    for text in (
        "measured levels",
        "chosen level",
        "siblings, measured",
        "siblings, published",
        "compressed, published",
        "custom targets",
        "before any training",
        "other seeds",
    ):
        assert text in html
    (alone,) = series_of(factories.series((0, 1)))
    html = legend_html(tradeoff(alone, Neighbours(), cost="gflops", metric="map50"), 1)
    assert "measured levels" in html
    for text in ("custom targets", "before any training", "other seeds", "published"):
        assert text not in html
