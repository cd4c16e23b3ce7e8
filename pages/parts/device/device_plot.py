"""The Pareto plot of the page "On the device": measured accuracy against measured cost, one mark a combination.

Marks tell the precision, colours whether a point is of the chosen model or of a sibling, as in the other plots. What
stands on the front is labelled and joined; the line goes by steps, because nothing between two points was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from compression.catalog import TaskName
from compression.spec import PrecisionName
from pages.parts.device.combinations import CostOnDevice
from pages.parts.device.device_points import COST_TITLES, DevicePoint
from pages.parts.outcome import MetricName, metric_labels
from pages.parts.plots import ACCENT, FAINT, HOVER, NEUTRAL, layout

SYMBOLS: dict[PrecisionName, str] = {"fp32": "circle", "fp16": "square", "int8": "triangle-up"}
HEIGHT_PX = 460
# From this ratio of the largest to the smallest cost on, a linear axis presses the small ones together.
LOG_FROM = 8.0
# Room on both sides, part of what the points span.
AIR = 0.12
# Labels are so far apart at least, part of the vertical axis; further left than this they stand right of their points.
LABEL_HEIGHT, LEFT = 0.06, 0.4


def _task(points: Sequence[DevicePoint]) -> TaskName:
    """What the models predict, of which all points of a page are."""
    accuracy = points[0].combination.accuracy
    assert accuracy is not None
    return accuracy.task


def draw_device(points: Sequence[DevicePoint], cost: CostOnDevice, metric: MetricName) -> go.Figure:
    """Accuracy against a cost on the device, with the Pareto front."""
    figure = go.Figure(layout=layout(HEIGHT_PX))
    costs = [point.x for point in points]
    is_log = max(costs) >= LOG_FROM * min(costs)
    figure.update_xaxes(
        title=COST_TITLES[cost],
        type="log" if is_log else "linear",
        range=_padded(np.log10(costs) if is_log else np.array(costs)),
        showgrid=True,
        zeroline=False,
        fixedrange=True,
        # On a logarithmic axis 1, 2 and 5 of each power of ten.
        dtick="D2" if is_log else None,
    )
    figure.update_yaxes(
        title=metric_labels(_task(points))[metric],
        range=_padded(np.array([point.y for point in points])),
        showgrid=True,
        zeroline=False,
        fixedrange=True,
        tickformat=".3~f",
    )
    labelled = _labelled(points)
    _add_front(figure, [point for point in points if point.on_front])
    for on_front in (False, True):
        for is_sibling in (True, False):
            for precision in SYMBOLS:
                chosen = [
                    point
                    for point in points
                    if (point.on_front, point.combination.form.is_sibling, point.combination.precision)
                    == (on_front, is_sibling, precision)
                ]
                if chosen:
                    colour = NEUTRAL if is_sibling else ACCENT
                    _add_points(figure, chosen, precision, colour, on_front=on_front, labelled=labelled, is_log=is_log)
    return figure


def _padded(values: NDArray[np.float64]) -> list[float]:
    low, high = float(values.min()), float(values.max())
    air = AIR * (high - low) or max(abs(high), 1.0) * AIR
    return [low - air, high + air]


def _add_front(figure: go.Figure, front: Sequence[DevicePoint]) -> None:
    figure.add_scatter(
        x=[point.x for point in front],
        y=[point.y for point in front],
        mode="lines",
        name="Pareto front",
        line={"color": NEUTRAL, "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )


def _labelled(points: Sequence[DevicePoint]) -> set[str]:
    """Which points have room for a label: both ends of the front and the reference, then what is not too near."""
    front = [point for point in points if point.on_front]
    first = [front[0], front[-1], *(point for point in points if point.combination.is_reference)]
    height = max(point.y for point in points) - min(point.y for point in points)
    chosen: list[DevicePoint] = []
    for point in [*first, *front]:
        if point in first or all(abs(point.y - other.y) >= LABEL_HEIGHT * height for other in chosen):
            chosen.append(point)
    return {point.combination.label for point in chosen}


def _add_points(
    figure: go.Figure,
    points: Sequence[DevicePoint],
    precision: PrecisionName,
    colour: str,
    *,
    on_front: bool,
    labelled: set[str],
    is_log: bool,
) -> None:
    low, high = figure.layout.xaxis.range
    places = [((np.log10(point.x) if is_log else point.x) - low) / (high - low) for point in points]
    figure.add_scatter(
        x=[point.x for point in points],
        y=[point.y for point in points],
        text=[point.combination.label if point.combination.label in labelled else "" for point in points],
        hovertext=[point.hover for point in points],
        mode="markers+text",
        name=f"{precision}{', on the front' if on_front else ''}",
        marker={"color": colour, "size": 11 if on_front else 8, "symbol": SYMBOLS[precision]},
        opacity=1 if on_front else FAINT,
        # Above and left of the front there is nothing, but for the edge of the plot.
        textposition=["top left" if on_front and place > LEFT else "bottom right" for place in places],
        textfont={"color": colour, "size": 12},
        hovertemplate=HOVER,
    )
