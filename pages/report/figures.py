"""The plots of a report: those of the dashboard, and the training curves of all levels in one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import plotly.graph_objects as go

from cache.record import EpochRow, RunRecord
from compression.catalog import n_blocks_of
from compression.levels import LEVELS, ORIGINAL
from pages.parts.device.measured_times import ratios_of
from pages.parts.jobs.run_cards import losses_of
from pages.parts.layers.heatmap import heatmap, sensitivities
from pages.parts.layers.heatmap_plot import draw_heatmap
from pages.parts.legend import legend_html, scale_html
from pages.parts.outcome import CostName
from pages.parts.plots import ACCENT_RGB, NEUTRAL, draw_tradeoff, layout
from pages.parts.tradeoff import focus, n_points, tradeoff
from pages.report.findings import Findings
from pages.report.levels import Level

# Within a title.
_COSTS: dict[CostName, str] = {"gflops": "GFLOPs", "params": "parameters"}
# No level is chosen in a report, so none is marked.
_NONE_CHOSEN = -1
# Opacity of the accent, which grows with the level, so that the order can be seen.
_FAINTEST_LINE = 0.35


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One plot as the browser draws it.

    Attributes:
        name: of its file and its place, in small letters: "accuracy-gflops".
        title: above it.
        legend: beside the title, as HTML of this program's own; empty where the plot has one of its own.
        figure: data and layout as Plotly.js takes them; colours of texts and grids are the page's.
        caption: below it.
        wide: whether it takes the whole width.
    """

    name: str
    title: str
    legend: str
    figure: dict[str, Any]
    caption: str = ""
    wide: bool = False


def tradeoff_plots(findings: Findings) -> list[Plot]:
    """Accuracy against each cost, and against each measured time."""
    series, plots = findings.series, []
    others = findings.seeds[1:]
    for cost, label in _COSTS.items():
        data = tradeoff(series, findings.neighbours, cost=cost, metric="map50_95", other_seeds=others)
        plots.append(
            Plot(
                name=f"accuracy-{cost}",
                title=f"Accuracy against {label}",
                legend=legend_html(data, _NONE_CHOSEN),
                figure=_plain(draw_tradeoff(data, focus(data), with_marks=False)),
            )
        )
        known = n_points(data)
    for number, (setting, own) in enumerate(findings.times.items(), 1):
        data = tradeoff(
            series,
            findings.neighbours,
            cost="time",
            metric="map50_95",
            other_seeds=others,
            ratios=ratios_of(series, own),
        )
        missing = known - n_points(data)
        left_out = f" {missing} of {known} measured models were not timed there, and are left out." if missing else ""
        plots.append(
            Plot(
                name=f"accuracy-time-{number}",
                title="Accuracy against measured time",
                legend=legend_html(data, _NONE_CHOSEN),
                figure=_plain(draw_tradeoff(data, focus(data), with_marks=False)),
                caption=f"{setting.label}.{left_out}",
            )
        )
    return plots


def layer_plot(findings: Findings) -> Plot | None:
    """Which layers each level cuts; None where no result tells."""
    levels = {level: record for level, record in sorted(findings.series.levels.items()) if level != ORIGINAL}
    layers_of = {level: record.layers for level, record in levels.items() if record.layers}
    if not layers_of:
        return None
    data = heatmap(layers_of, n_blocks=n_blocks_of(findings.series.any_record.architecture))
    strip = sensitivities(data, findings.sensitivity)
    return Plot(
        name="layers",
        title="Which layers are cut",
        legend=scale_html(data, strip),
        figure=_plain(draw_heatmap(data, strip)),
        wide=True,
    )


def curve_plots(levels: Sequence[Level], accuracy_name: str) -> list[Plot]:
    """Accuracy and loss by epoch of all that was trained, of the first seed of each."""
    trained = [(level, record) for level in levels for record in level.records[:1] if record.curve]
    if not trained:
        return []
    accuracy = _curves(trained, lambda row: row.map50_95, accuracy_name)
    loss = _curves(trained, lambda row: losses_of(row, "val"), "Loss")
    several = any(len(level.records) > 1 for level, _ in trained)
    caption = f"On the validation images{', of the first seed of each level' if several else ''}."
    return [
        Plot(name="curve-accuracy", title="Accuracy by epoch", legend="", figure=_plain(accuracy), caption=caption),
        Plot(name="curve-loss", title="Loss by epoch", legend="", figure=_plain(loss), caption=caption),
    ]


def _curves(trained: Sequence[tuple[Level, RunRecord]], value: Callable[[EpochRow], float], title: str) -> go.Figure:
    """Levels as lines that darken with the cut; custom targets, the uncut model among them, as broken grey ones."""
    figure = go.Figure(layout=layout(400))
    dashes = cycle(("dot", "dash", "dashdot", "longdash"))
    for level, record in trained:
        assert record.spec is not None, "a measured record without a spec"
        strength = _FAINTEST_LINE + (1 - _FAINTEST_LINE) * (level.level or 0) / LEVELS[-1]
        custom = level.level is None
        figure.add_scatter(
            x=[row.epoch for row in record.curve],
            y=[value(row) for row in record.curve],
            mode="lines" if len(record.curve) > 1 else "markers",
            name=level.name,
            line={
                "color": NEUTRAL if custom else f"rgba({ACCENT_RGB},{strength:.2f})",
                "width": 2,
                "dash": next(dashes) if custom else "solid",
            },
            hovertemplate=f"{level.name}, seed {record.spec.seed}: %{{y:.3f}} after epoch %{{x}}<extra></extra>",
        )
    figure.update_xaxes(title="Epoch", showgrid=False, zeroline=False, fixedrange=True, rangemode="nonnegative")
    figure.update_yaxes(title=title, showgrid=True, zeroline=False, fixedrange=True, tickformat=".3~f")
    figure.update_layout(showlegend=True, legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"})
    return figure


def _plain(figure: go.Figure) -> dict[str, Any]:
    """Data and layout without a template, whose place the page's own colours take."""
    found: dict[str, Any] = json.loads(figure.to_json())
    found["layout"].pop("template", None)
    return {"data": found["data"], "layout": found["layout"]}
