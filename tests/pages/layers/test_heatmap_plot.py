"""The heatmap as it is drawn: what can be clicked, and that nothing of it depends on the chosen level."""

from __future__ import annotations

import re
from dataclasses import replace

from cache.sensitivity import SensitivityRecord
from pages.parts.layers.heatmap import Shown, heatmap, sensitivities
from pages.parts.layers.heatmap_plot import GAP, ROW, STRIP, TOP, draw_heatmap, draw_importance, frames_css
from pages.parts.legend import scale_html
from tests import factories

LEVELS = {level: factories.layers(level) for level in (1, 2, 3, 4, 5)}
# Bytes that a page may spend on the figure of a hundred layers.
MOST_BYTES = 45_000


def _drawn(shown: Shown = "channels", record: SensitivityRecord | None = None) -> dict[str, object]:
    data = heatmap(LEVELS, shown, (11, factories.BLOCKS))
    figure: dict[str, object] = draw_heatmap(data, sensitivities(data, record)).to_plotly_json()
    return figure


def test_each_cell_can_be_clicked_and_tells_of_itself() -> None:
    data = heatmap(LEVELS, "gflops", (11, factories.BLOCKS))
    cells, strip, markers, of_strip = draw_heatmap(data, sensitivities(data, factories.sensitivity())).data
    assert (len(markers.x), len(of_strip.x)) == (5 * len(data.layers), len(data.layers))
    place = next(i for i, (x, y) in enumerate(zip(markers.x, markers.y, strict=True)) if (x, y) == (67, 3))
    row = LEVELS[3][67]
    assert (markers.text[place], list(markers.customdata[place])) == (
        row.name,
        [row.channels_before, row.channels_after, data.values[2][67]],
    )
    assert {markers.marker.opacity, markers.selected.marker.opacity, markers.unselected.marker.opacity} == {0}
    # Heatmaps would take the hover from what can be clicked.
    assert (cells.hoverinfo, strip.hoverinfo) == ("skip", "skip")
    assert (cells.zmax, strip.zmax) == (data.ceiling_pct, 10)
    assert of_strip.customdata[0] == ["10.0 points of mAP50-95 lost when only it is cut"]


def test_what_is_not_measured_is_hatched_and_makes_no_difference_to_the_cells() -> None:
    data = heatmap(LEVELS)
    _, strip, markers, _ = draw_heatmap(data, sensitivities(data, None)).data
    assert (strip.type, strip.marker.pattern.shape, strip.width) == ("bar", "/", len(data.layers))
    assert len(markers.x) == 5 * len(data.layers)


def test_backbone_neck_and_head_stand_on_the_plot() -> None:
    layout = _drawn()["layout"]
    assert isinstance(layout, dict)
    assert [note["text"] for note in layout["annotations"]] == ["backbone", "neck", "head"]
    assert [shape["x0"] for shape in layout["shapes"]] == [11 * 3 - 0.5, 23 * 3 - 0.5]


def test_a_figure_is_small() -> None:
    data = heatmap({level: factories.layers(level) for level in LEVELS}, "params")
    assert len(data.layers) == 72
    assert len(draw_heatmap(data, sensitivities(data, factories.sensitivity())).to_json()) < MOST_BYTES


def test_frames_stand_around_the_chosen_level_and_layer() -> None:
    data = heatmap(LEVELS)
    css = frames_css(data, level=3, layer=None)
    assert f"top: {TOP + STRIP + GAP + 2 * ROW}px; height: {ROW}px" in css
    assert "::before" not in css
    last = frames_css(data, level=3, layer=data.layers[-1])
    assert re.search(r"left: calc\(76px \+ \(100% - 84px\) / 72 \* 71\.5 - ", last)
    assert frames_css(data, level=0, layer="nowhere") == "<style>.st-key-heatmap { position: relative; }</style>"


def test_the_scale_says_what_is_shown() -> None:
    data = heatmap(LEVELS)
    html = scale_html(data, sensitivities(data, None))
    assert "60% of a layer's output channels removed" in html
    assert "sensitivity of the layers not measured" in html
    data = heatmap(LEVELS, "params")
    html = scale_html(data, sensitivities(data, factories.sensitivity()))
    assert f"{data.ceiling_pct:g}% or more of the model's parameters saved by that layer" in html
    assert "10 points of mAP50-95 or more lost when half of only that layer is cut" in html
    html = scale_html(data, sensitivities(data, replace(factories.sensitivity(), task="pose")))
    assert "10 points of pose mAP50-95 or more lost" in html


def test_importance_shades_what_a_level_cuts() -> None:
    group = factories.sensitivity().groups[0]
    figure = draw_importance(group, 0.25)
    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([0, 50, 100], [0.5, 1.0, 1.5])
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(0, 25)]
    assert not draw_importance(group, 0.0).layout.shapes
