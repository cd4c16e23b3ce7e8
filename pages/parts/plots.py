"""Draw what `tradeoff` and others prepared. Nothing is computed here.

Every colour reads on a light and on a dark background, because a figure is built before the browser's theme is known;
texts and grid lines are left to Streamlit's theme. Blue, orange and grey stay apart for colour-blind readers, and
shape tells the same: measured points are filled circles, published ones hollow diamonds. What is measured but not the
result itself, before training or with another seed, is smaller and fainter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from cache.record import EpochRow
from compression.catalog import TaskName
from compression.deployment.lost_time import LostTime
from compression.models.tasks import TASKS
from pages.parts.jobs.run_cards import losses_of
from pages.parts.outcome import metric_labels
from pages.parts.tradeoff import AxisName, Point, Range, Tradeoff

ACCENT = "#3B7DDD"
ACCENT_RGB = "59,125,221"
# Of other models in the same plot: green, purple and dark yellow, which colour-blind readers can tell from blue and
# orange in the palette of Okabe and Ito (Color Universal Design, 2008); here as they read on white and on black.
OTHERS = ("#0B9E77", "#C25C9B", "#A07D00")
PUBLISHED = "#D9730D"
PUBLISHED_RGB = "217,115,13"
NEUTRAL = "#8A93A0"

# Name of the trace of rings.
RINGS = "Chosen level"

# Opacity of points that are measured but not the result.
FAINT = 0.65

# Opacity of the Pareto front, which lies under the points.
FRONT = 0.3

# Opacity of a layer that keeps everything, in the heatmap.
FAINTEST = 0.07

# What plotly_chart passes to the browser: no logo, no zooming by accident on a touch screen. The tool bar is there, and
# hidden by the frame's style: buttons of our own, `plot_images.js`, save a plot by what lies behind its camera.
CONFIG = {"displayModeBar": True, "displaylogo": False, "scrollZoom": False, "doubleClick": "reset"}

_AXIS_TITLES: dict[AxisName, str] = {
    "gflops": "GFLOPs an image (training graph)",
    "params": "Parameters, millions (training graph)",
    "size": "Size of the checkpoint, MB",
    "time": "Measured time of a forward pass (original = 1)",
}
TRANSPARENT = "rgba(0,0,0,0)"
# A click chooses a level; Plotly's own fading of all other points would hide what it is compared with.
_AS_ELSE = {"marker": {"opacity": 1}}
HOVER = "%{hovertext}<extra></extra>"


def draw_tradeoff(data: Tradeoff, shown: Range | None, *, with_marks: bool = True) -> go.Figure:
    """Accuracy against one cost.

    Args:
        data: what is drawn.
        shown: the part to look at; None for all of it.
        with_marks: whether a level can be marked, see `mark_in_tradeoff`.
    """
    figure = go.Figure(layout=layout(440))
    if shown is not None:
        figure.update_xaxes(range=shown.x)
        figure.update_yaxes(range=shown.y)
    figure.update_xaxes(title=_AXIS_TITLES[data.cost], showgrid=True, zeroline=False, fixedrange=True)
    figure.update_yaxes(
        title=metric_labels(data.task)[data.metric],
        showgrid=True,
        zeroline=False,
        fixedrange=True,
        tickformat=".3~f",
    )
    _add_siblings(figure, "Unpruned siblings, measured", data.siblings, dash="dash", symbol="circle")
    _add_siblings(figure, "Unpruned siblings, published", data.siblings_published, dash="dot", symbol="diamond-open")
    _add_untrained(figure, data)
    _add_front(figure, data.front)
    for overlay, colour in zip(data.overlays, OTHERS, strict=False):
        _add_line(figure, overlay.label, overlay.points, colour, dash="solid", symbol="circle")
    _add_points(figure, "Other seeds, measured", data.other_seeds, ACCENT, "circle", size=6, opacity=FAINT, text="")
    _add_measured(figure, data)
    _add_points(figure, "Custom targets, measured", data.custom, ACCENT, "square", text="bottom center")
    _add_points(figure, "Compressed, published", data.published, PUBLISHED, "diamond-open", size=13)
    if with_marks:
        _add_marks(figure, data)
    return figure


def _add_siblings(figure: go.Figure, name: str, points: Sequence[Point], *, dash: str, symbol: str) -> None:
    # Under the rising line there is room for long names, but not to the right of the last one.
    labels = ["bottom right"] * (len(points) - 1) + ["top left"]
    _add_line(figure, name, points, NEUTRAL, dash=dash, symbol=symbol, labels=labels)


def _add_front(figure: go.Figure, points: Sequence[Point]) -> None:
    """As steps: at a cost in between, the best there is is the last one that costs less."""
    if points:
        figure.add_scatter(
            x=[point.x for point in points],
            y=[point.y for point in points],
            mode="lines",
            line={"color": NEUTRAL, "width": 7, "shape": "hv"},
            opacity=FRONT,
            hoverinfo="skip",
        )


def _add_untrained(figure: go.Figure, data: Tradeoff) -> None:
    name = "Before training, measured"
    if data.untrained:
        # The original is where the line starts, and has a marker of its own.
        sizes = [0, *[7] * (len(data.untrained) - 1)]
        figure.add_scatter(
            **_columns(data.untrained),
            mode="lines+markers",
            name=name,
            line={"color": ACCENT, "width": 1.5, "dash": "dot"},
            marker={"color": ACCENT, "size": sizes, "symbol": "circle"},
            opacity=FAINT,
            hovertemplate=HOVER,
        )
    _add_points(figure, f"{name}, custom", data.custom_untrained, ACCENT, "square", size=7, opacity=FAINT, text="")


def _add_measured(figure: go.Figure, data: Tradeoff) -> None:
    _add_line(figure, "Levels, measured (0 = original)", data.measured, ACCENT, dash="solid", symbol="circle", size=9)


def _add_marks(figure: go.Figure, data: Tradeoff) -> None:
    """A ring around each level, and a line at each planned one, all hidden: `mark_in_tradeoff` shows one of them.

    So the figure is the same for all levels, and the browser does not draw it again when the slider moves.
    """
    figure.add_scatter(
        x=[point.x for point in data.measured],
        y=[point.y for point in data.measured],
        mode="markers",
        marker={
            "size": 19,
            "color": TRANSPARENT,
            "line": {"color": ACCENT, "width": 3},
            "symbol": "circle",
            "opacity": 0,
        },
        name=RINGS,
        hoverinfo="skip",
        unselected={"marker": {"opacity": 0}},
    )
    for x in data.planned_x.values():
        figure.add_vline(x=x, line={"color": ACCENT, "width": 1.5, "dash": "dot"}, opacity=0)


def mark_in_tradeoff(data: Tradeoff, level: int, plot: str) -> str:
    """A style sheet that shows the mark of one level; empty where the level has none.

    Args:
        data: what was drawn.
        level: the chosen one.
        plot: CSS selector of the plot.
    """
    if level in data.levels:
        number = data.levels.index(level) + 1
        mark = f"{plot} .scatterlayer .trace:last-child .points path:nth-of-type({number})"
    elif level in data.planned_x:
        number = list(data.planned_x).index(level) + 1
        mark = f"{plot} .layer-above .shapelayer path:nth-of-type({number})"
    else:
        return ""
    # Plotly writes the opacity into the element itself.
    return f"<style>{mark} {{ opacity: 1 !important; }}</style>"


def _add_line(
    figure: go.Figure,
    name: str,
    points: Sequence[Point],
    colour: str,
    *,
    dash: str,
    symbol: str,
    size: int = 8,
    labels: list[str] | None = None,
) -> None:
    if points:
        figure.add_scatter(
            **_columns(points),
            mode="lines+markers+text",
            name=name,
            line={"color": colour, "width": 2, "dash": dash},
            marker={"color": colour, "size": size, "symbol": symbol, "line": {"width": 1.5, "color": colour}},
            textposition=labels or "top left",
            # In the colour of all texts: those of lines are too faint for words.
            textfont={"size": 13},
            hovertemplate=HOVER,
        )


def _add_points(
    figure: go.Figure,
    name: str,
    points: Sequence[Point],
    colour: str,
    symbol: str,
    *,
    size: int = 9,
    opacity: float = 1,
    text: str = "top left",
) -> None:
    if points:
        figure.add_scatter(
            **_columns(points),
            mode="markers+text" if text else "markers",
            name=name,
            opacity=opacity,
            marker={"color": colour, "size": size, "symbol": symbol, "line": {"width": 2, "color": colour}},
            textposition=text or None,
            # In the colour of all texts: those of lines are too faint for words.
            textfont={"size": 13},
            hovertemplate=HOVER,
        )


def _columns(points: Sequence[Point]) -> dict[str, Any]:
    return {
        "x": [point.x for point in points],
        "y": [point.y for point in points],
        "text": [point.text for point in points],
        "hovertext": [point.hover for point in points],
        # Numbers would come back from a click as something else, texts come as they are.
        "customdata": [point.pick for point in points],
        "unselected": _AS_ELSE,
    }


def draw_lost_speed(rows: Sequence[LostTime], labels: Sequence[str], hover: Sequence[str]) -> go.Figure:
    """Parts of GFLOPs and of time that layers keep, with what is lost between them, the first row at the top.

    Args:
        rows: the layers.
        labels: their names.
        hover: everything about each.
    """
    figure = go.Figure(layout=layout(70 + 30 * len(rows)))
    places = list(range(len(rows)))
    gflops, time = [100 * row.gflops_kept for row in rows], [100 * row.time_kept for row in rows]
    ends = [value for pair in zip(gflops, time, [None] * len(rows), strict=True) for value in pair]
    figure.add_scatter(
        x=ends,
        y=[place for place in places for _ in range(3)],
        mode="lines",
        line={"color": PUBLISHED, "width": 3},
        opacity=FAINT,
        hoverinfo="skip",
    )
    for values, colour, symbol in ((gflops, NEUTRAL, "circle-open"), (time, ACCENT, "circle")):
        figure.add_scatter(
            x=values,
            y=places,
            mode="markers",
            marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2, "color": colour}},
            hovertext=list(hover),
            hovertemplate=HOVER,
        )
    for place, row in zip(places, rows, strict=True):
        # In the margin, where no point can stand.
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", xshift=6, y=place, text=f"{row.lost_ms:+.2f} ms", showarrow=False
        )
    figure.update_xaxes(title="Kept of the original", ticksuffix="%", showgrid=True, zeroline=False, fixedrange=True)
    figure.update_yaxes(
        tickvals=places,
        ticktext=[f"<b>{label}</b>" if place == 0 else label for place, label in enumerate(labels)],
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
    )
    figure.update_layout(margin={"r": 78})
    return figure


def draw_accuracy_curve(curve: Sequence[EpochRow], task: TaskName = "detect") -> go.Figure:
    """The main and the second accuracy of a training by epoch, mAP50-95 and mAP50 of a detector."""
    known = TASKS[task]
    figure = _curves({known.main: [row.map50_95 for row in curve], known.second: [row.map50 for row in curve]}, curve)
    figure.update_yaxes(title="Accuracy on the validation images", tickformat=".3~f")
    return figure


def draw_loss_curve(curve: Sequence[EpochRow]) -> go.Figure:
    """Losses of a training by epoch, summed up over what they are of."""
    lines = {
        name: [losses_of(row, part) for row in curve] for name, part in (("training", "train"), ("validation", "val"))
    }
    figure = _curves(lines, curve)
    figure.update_yaxes(title="Loss")
    return figure


def _curves(lines: dict[str, list[float]], curve: Sequence[EpochRow]) -> go.Figure:
    figure = go.Figure(layout=layout(220))
    for (name, values), colour in zip(lines.items(), (ACCENT, NEUTRAL), strict=True):
        figure.add_scatter(
            x=[row.epoch for row in curve],
            y=values,
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 2},
            marker={"size": 5},
            hovertemplate=f"{name} %{{y:.3f}} after epoch %{{x}}<extra></extra>",
        )
        figure.add_annotation(
            x=curve[-1].epoch,
            y=values[-1],
            text=name,
            showarrow=False,
            yshift=11,
            xanchor="right",
            font={"color": colour, "size": 12},
        )
    figure.update_xaxes(title="Epoch", showgrid=False, zeroline=False, fixedrange=True, rangemode="nonnegative")
    figure.update_yaxes(showgrid=True, zeroline=False, fixedrange=True)
    return figure


def from_faint_to(rgb: str) -> list[list[float | str]]:
    """A colour scale from nearly the page's own background to a colour, so that it reads in both themes.

    Args:
        rgb: red, green and blue, "59,125,221".
    """
    return [[0, f"rgba({rgb},{FAINTEST})"], [1, f"rgba({rgb},1)"]]


def layout(height: int) -> go.Layout:
    """What all figures have in common.

    Args:
        height: pixels.
    """
    return go.Layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor=TRANSPARENT,
        plot_bgcolor=TRANSPARENT,
        colorway=[ACCENT, PUBLISHED, NEUTRAL],
        # Drawn once for both plots, by `legend`.
        showlegend=False,
        hoverlabel={"align": "left"},
        hovermode="closest",
        # The same name keeps zoom and hidden traces when only the data change.
        uirevision="same",
    )
