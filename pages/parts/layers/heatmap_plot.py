"""Draw the heatmap of layers, with what each of them is worth above it.

The figure says nothing of the chosen level and layer: they are framed by CSS on top of it, so that moving the slider
sends and draws none of it again. For that all margins are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import plotly.graph_objects as go

from cache.sensitivity import GroupSensitivity
from pages.parts.layers.heatmap import SHOWN_LABELS, Heatmap, Sensitivities
from pages.parts.plots import ACCENT, ACCENT_RGB, FAINT, NEUTRAL, PUBLISHED_RGB, TRANSPARENT, from_faint_to, layout

# Pixels.
LEFT, RIGHT, TOP, BOTTOM = 76, 8, 24, 48
ROW, STRIP, GAP = 34, 22, 8
# A pixel of a touch screen is met within so many.
HOVER_DISTANCE = 30
# Of a column on a phone nothing would be seen of a frame as narrow as itself.
LEAST_FRAME = 5
IMPORTANCE_HEIGHT = 210

# Building a figure takes 25 ms, and a visitor turns among few.
KEPT_FIGURES = 16

# Key of the chart, by which the frames find it.
KEY = "heatmap"

_FRAME = "content: ''; position: absolute; pointer-events: none; border-radius: 3px; z-index: 1;"


@lru_cache(maxsize=KEPT_FIGURES)
def draw_heatmap(data: Heatmap, strip: Sensitivities) -> go.Figure:
    """Levels by layers, each cell to be clicked; above it a row of what each layer is worth.

    Kept, since the slider asks for the same figure again and again, and not to be changed.
    """
    cells = ROW * len(data.levels)
    inner = cells + GAP + STRIP
    figure = go.Figure(layout=layout(TOP + inner + BOTTOM))
    figure.update_layout(margin={"l": LEFT, "r": RIGHT, "t": TOP, "b": BOTTOM}, hoverdistance=HOVER_DISTANCE)
    _add_cells(figure, data)
    _add_strip(figure, strip)
    _add_markers(figure, data, strip)
    figure.update_xaxes(
        title="Layers in forward order, by block of the model",
        range=[-0.5, len(data.layers) - 0.5],
        tickvals=[column for column, _ in data.blocks],
        ticktext=[block for _, block in data.blocks],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        tickangle=0,
        automargin=False,
    )
    step = _step(data.levels)
    both = {"showgrid": False, "zeroline": False, "fixedrange": True, "automargin": False}
    figure.update_layout(
        yaxis={
            "domain": [0, cells / inner],
            "range": [data.levels[-1] + step / 2, data.levels[0] - step / 2],
            "tickvals": list(data.levels),
            "ticktext": [f"Level {level}" for level in data.levels],
            **both,
        },
        yaxis2={
            "domain": [1 - STRIP / inner, 1],
            "range": [-0.5, 0.5],
            "tickvals": [0],
            "ticktext": ["Sensitivity"],
            **both,
        },
    )
    _add_regions(figure, data)
    return figure


def _step(levels: Sequence[int]) -> int:
    return levels[1] - levels[0] if len(levels) > 1 else 1


def _add_cells(figure: go.Figure, data: Heatmap) -> None:
    figure.add_heatmap(
        z=[list(row) for row in data.values],
        y=list(data.levels),
        hoverinfo="skip",
        ygap=3,
        zmin=0,
        zmax=data.ceiling_pct,
        # From nearly the page's own background to the accent, so that it reads in both themes.
        colorscale=from_faint_to(ACCENT_RGB),
        # Drawn by `legend`, where it takes nothing from the plot.
        showscale=False,
    )


def _add_strip(figure: go.Figure, strip: Sensitivities) -> None:
    if not strip.is_measured:
        # One bar over all columns, hatched.
        figure.add_bar(
            x=[(len(strip.lost) - 1) / 2],
            y=[1],
            base=-0.5,
            width=len(strip.lost),
            yaxis="y2",
            marker={
                "color": TRANSPARENT,
                "line": {"width": 0},
                "pattern": {"shape": "/", "fgcolor": NEUTRAL, "size": 6, "solidity": 0.15},
            },
            hoverinfo="skip",
        )
        return
    figure.add_heatmap(
        z=[list(strip.lost)],
        y=[0],
        yaxis="y2",
        hoverinfo="skip",
        zmin=0,
        zmax=strip.ceiling,
        colorscale=from_faint_to(PUBLISHED_RGB),
        showscale=False,
    )


def _add_markers(figure: go.Figure, data: Heatmap, strip: Sensitivities) -> None:
    """What can be clicked, and what it tells: heatmaps themselves give no clicks."""
    columns, rows = range(len(data.layers)), range(len(data.levels))
    names = [f"{name} (stays)" if stays else name for name, stays in zip(data.layers, data.stays, strict=True)]
    noun = SHOWN_LABELS[data.shown].lower()
    value = "" if data.shown == "channels" else f"<br>%{{customdata[2]}}% of the model's {noun}"
    known = [(row, column) for row, column in product(rows, columns) if data.values[row][column] is not None]
    hidden = {"mode": "markers", "marker": {"symbol": "square", "size": 8, "opacity": 0}}
    # Neither the chosen point nor the others change.
    hidden |= {"selected": {"marker": {"opacity": 0}}, "unselected": {"marker": {"opacity": 0}}}
    figure.add_scatter(
        x=[column for _, column in known],
        y=[data.levels[row] for row, _ in known],
        text=[names[column] for _, column in known],
        customdata=[
            [data.channels[column], data.kept[row][column], *([data.values[row][column]] if value else [])]
            for row, column in known
        ],
        hovertemplate=f"<b>%{{text}}</b>, level %{{y}}<br>channels %{{customdata[0]}} → %{{customdata[1]}}{value}"
        "<extra></extra>",
        **hidden,
    )
    figure.add_scatter(
        x=list(columns),
        y=[0] * len(columns),
        yaxis="y2",
        text=list(data.layers),
        customdata=[[told] for told in strip.told],
        hovertemplate="<b>%{text}</b><br>%{customdata[0]}<extra></extra>",
        **hidden,
    )


def _add_regions(figure: go.Figure, data: Heatmap) -> None:
    for region in data.regions:
        if region.first:
            x, line = region.first - 0.5, {"color": NEUTRAL, "width": 1, "dash": "dot"}
            figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line=line)
        figure.add_annotation(
            x=region.first - 0.5,
            y=1,
            yref="paper",
            yshift=4,
            xanchor="left",
            yanchor="bottom",
            text=region.name,
            showarrow=False,
            font={"color": NEUTRAL, "size": 12},
        )


def frames_css(data: Heatmap, *, level: int, layer: str | None) -> str:
    """Frames around the row of the chosen level and, where one is chosen, the column of a layer, as a style sheet."""
    chart = f".st-key-{KEY}"
    rules = [f"{chart} {{ position: relative; }}"]
    if level in data.levels:
        top = TOP + STRIP + GAP + ROW * data.levels.index(level)
        place = f"top: {top}px; height: {ROW}px; left: 0; right: {RIGHT}px; border: 2px solid {NEUTRAL};"
        rules.append(f"{chart}::after {{ {_FRAME} {place} }}")
    if layer in data.layers:
        n_layers, column = len(data.layers), data.layers.index(layer)
        width = f"(100% - {LEFT + RIGHT}px) / {n_layers}"
        middle = f"{LEFT}px + {width} * {column + 0.5}"
        box = f"max({width}, {LEAST_FRAME}px)"
        height = STRIP + GAP + ROW * len(data.levels)
        place = f"top: {TOP}px; height: {height}px; left: calc({middle} - {box} / 2 - 2px); width: calc({box} + 4px);"
        rules.append(f"{chart}::before {{ {_FRAME} {place} border: 2px solid currentColor; }}")
    return f"<style>{' '.join(rules)}</style>"


def draw_importance(group: GroupSensitivity, cut: float) -> go.Figure:
    """Importance of a group's channels from the least to the greatest, and how many of them a level cuts.

    Args:
        group: with its importance.
        cut: part of the channels that the level removes.
    """
    figure = go.Figure(layout=layout(IMPORTANCE_HEIGHT))
    last = len(group.importance) - 1
    figure.add_scatter(
        x=[round(100 * place / last, 1) for place in range(last + 1)],
        y=list(group.importance),
        mode="lines",
        line={"color": ACCENT, "width": 2},
        fill="tozeroy",
        fillcolor=f"rgba({ACCENT_RGB},0.15)",
        hovertemplate="%{x:.0f}% of the channels are at most %{y:.3g}<extra></extra>",
    )
    if cut > 0:
        figure.add_vrect(x0=0, x1=100 * cut, fillcolor=NEUTRAL, opacity=1 - FAINT, line={"width": 0}, layer="below")
    figure.update_xaxes(
        title="Channels, the least important first", ticksuffix="%", showgrid=False, zeroline=False, fixedrange=True
    )
    figure.update_yaxes(title="Importance", rangemode="tozero", showgrid=True, zeroline=False, fixedrange=True)
    return figure
