"""The Pareto plot of the page "On the device": measured accuracy against measured cost, one mark a combination.

Marks tell the precision, colours whether a point is of the chosen model or of a sibling, as in the other plots. What
stands on the front is labelled and joined; the line goes by steps, because nothing between two points was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from compression.spec import PrecisionName
from pages.parts.combinations import CostOnDevice
from pages.parts.device_points import COST_TITLES, DevicePoint
from pages.parts.outcome import METRIC_LABELS, MetricName
from pages.parts.plots import ACCENT, FAINT, HOVER, NEUTRAL, layout

SYMBOLS: dict[PrecisionName, str] = {"fp32": "circle", "fp16": "square", "int8": "triangle-up"}
HEIGHT_PX = 460
# From this ratio of the largest to the smallest cost on, a linear axis presses the small ones together.
LOG_FROM = 8.0
# Room for labels on both sides, part of the axis.
AIR = 0.12


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
    )
    figure.update_yaxes(
        title=METRIC_LABELS[metric],
        range=_padded(np.array([point.y for point in points])),
        showgrid=True,
        zeroline=False,
        fixedrange=True,
        tickformat=".3~f",
    )
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
                _add_points(figure, chosen, precision, NEUTRAL if is_sibling else ACCENT, on_front=on_front)
    return figure


def _padded(values: np.ndarray) -> list[float]:
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


def _add_points(
    figure: go.Figure, points: Sequence[DevicePoint], precision: PrecisionName, colour: str, *, on_front: bool
) -> None:
    if not points:
        return
    labelled = [point.combination.label if on_front or point.combination.is_reference else "" for point in points]
    figure.add_scatter(
        x=[point.x for point in points],
        y=[point.y for point in points],
        text=labelled,
        hovertext=[point.hover for point in points],
        mode="markers+text",
        name=f"{precision}{', on the front' if on_front else ''}",
        marker={"color": colour, "size": 11 if on_front else 8, "symbol": SYMBOLS[precision]},
        opacity=1 if on_front else FAINT,
        textposition="top left" if on_front else "bottom right",
        textfont={"color": colour, "size": 12},
        hovertemplate=HOVER,
    )
