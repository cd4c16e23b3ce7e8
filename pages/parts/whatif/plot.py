"""The small heatmap of a plan with layers changed by hand."""

from __future__ import annotations

import plotly.graph_objects as go

from pages.parts.plots import ACCENT_RGB, HOVER, from_faint_to, layout
from pages.parts.whatif.changed_plan import Strip

# More names than these would lie over each other.
MOST_NAMES = 6


def draw_strip(data: Strip) -> go.Figure:
    """Part of the channels removed, a row for each plan; layers that something is wished of have their names below."""
    figure = go.Figure(layout=layout(84 + 34 * len(data.names)))
    figure.add_heatmap(
        z=[list(row) for row in data.removed_pct],
        y=list(data.names),
        hovertext=[list(row) for row in data.hover],
        hovertemplate=HOVER,
        ygap=3,
        zmin=0,
        zmax=data.ceiling_pct,
        colorscale=from_faint_to(ACCENT_RGB),
        showscale=False,
    )
    shown = data.marked[:MOST_NAMES]
    figure.update_xaxes(
        tickvals=[column for column, _ in shown],
        ticktext=[name.removeprefix("model.") for _, name in shown],
        ticks="outside",
        automargin=True,
        showgrid=False,
        zeroline=False,
        fixedrange=True,
        tickangle=-30,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, zeroline=False, fixedrange=True)
    return figure
