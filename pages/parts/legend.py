"""Legends beside the plots, so that no plot gives up room for its own."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from pages.parts.device.device_points import DevicePoint
from pages.parts.layers.heatmap import Heatmap, Sensitivities, Shown
from pages.parts.plots import ACCENT, FAINT, FAINTEST, FRONT, NEUTRAL, OTHERS, PUBLISHED
from pages.parts.tradeoff import Overlay, Tradeoff

_SHOWN: dict[Shown, str] = {
    "channels": "of a layer's output channels removed",
    "gflops": "or more of the model's GFLOPs saved by that layer",
    "params": "or more of the model's parameters saved by that layer",
}
_HATCHED = f'<path d="M2 14L10 0M11 14L19 0M20 14L28 0" stroke="{NEUTRAL}" stroke-width="1.5"/>'


def legend_html(data: Tradeoff, level: int) -> str:
    """The legend of what a plot shows, as HTML with inline drawings.

    Args:
        data: the plot's.
        level: the chosen one.
    """
    entries = [
        (data.measured, _line(ACCENT, "", _dot(ACCENT)), "measured levels, 0 = original"),
        (level in data.levels, _ring(ACCENT), "chosen level"),
        (data.untrained, _faint(_line(ACCENT, "2 3", _dot(ACCENT, 3.5))), "recovered, before any training"),
        (data.other_seeds, _faint(_dot(ACCENT, 3)), "other seeds"),
        (level in data.planned_x, _line(ACCENT, "2 3", ""), "chosen level, accuracy not measured"),
        (data.custom, _square(ACCENT), "custom targets, measured; % of GFLOPs kept"),
        *((one.points, _line(colour, "", _dot(colour)), escape(one.label)) for one, colour in _overlays(data)),
        (data.siblings, _line(NEUTRAL, "6 3", _dot(NEUTRAL)), "unpruned siblings, measured"),
        (data.siblings_published, _line(NEUTRAL, "2 3", _diamond(NEUTRAL)), "unpruned siblings, published"),
        (data.published, _diamond(PUBLISHED), "compressed, published"),
        (data.front, _band(NEUTRAL), "Pareto front of all measured"),
    ]
    items = (f"<span>{svg(drawing)}{text}</span>" for present, drawing, text in entries if present)
    return f'<div class="trimboard-legend">{"".join(items)}</div>'


def _overlays(data: Tradeoff) -> list[tuple[Overlay, str]]:
    return list(zip(data.overlays, OTHERS, strict=False))


def device_legend_html(points: Sequence[DevicePoint]) -> str:
    """The legend of accuracy against cost on the device."""
    precisions = {point.combination.precision for point in points}
    siblings = any(point.combination.form.is_sibling for point in points)
    entries = [
        ("fp32" in precisions, _dot(ACCENT), "FP32"),
        ("fp16" in precisions, _square(ACCENT), "FP16"),
        ("int8" in precisions, _triangle(ACCENT), "INT8"),
        (siblings, _dot(NEUTRAL), "unpruned siblings"),
        (True, _faint(_dot(ACCENT, 3)), "another one is better in both"),
        (True, _stair(NEUTRAL), "Pareto front"),
    ]
    items = (f"<span>{svg(drawing)}{text}</span>" for present, drawing, text in entries if present)
    return f'<div class="trimboard-legend">{"".join(items)}</div>'


def scale_html(data: Heatmap, strip: Sensitivities) -> str:
    """The colour scales of a heatmap, as HTML."""
    ends = [f"0% {_scale(ACCENT)} {data.ceiling_pct:g}% {_SHOWN[data.shown]}"]
    if strip.is_measured:
        lost = f"points of {strip.accuracy} or more lost when half of only that layer is cut"
        ends.append(f"0 {_scale(PUBLISHED)} {strip.ceiling:g} {lost}")
    else:
        ends.append(f"{svg(_HATCHED)} sensitivity of the layers not measured")
    return f'<div class="trimboard-legend">{"".join(f"<span>{text}</span>" for text in ends)}</div>'


def _scale(colour: str) -> str:
    drawing = (
        f'<linearGradient id="s"><stop stop-color="{colour}" stop-opacity="{FAINTEST}"/>'
        f'<stop offset="1" stop-color="{colour}"/></linearGradient>'
        '<rect width="90" height="14" rx="3" fill="url(#s)"/>'
    )
    return svg(drawing, 90)


def lost_speed_legend_html() -> str:
    """The legend of the plot of lost speed, as HTML."""
    entries = [
        (_ring(NEUTRAL), "GFLOPs kept"),
        (_dot(ACCENT, 5), "time kept"),
        (_line(PUBLISHED, "", ""), "speed-up lost in between, milliseconds at the right"),
    ]
    items = (f"<span>{svg(drawing)}{text}</span>" for drawing, text in entries)
    return f'<div class="trimboard-legend">{"".join(items)}</div>'


def svg(drawing: str, width: int = 30) -> str:
    """A drawing of 14 pixels' height for a legend, as HTML."""
    # As an image: Streamlit takes inline drawings out of HTML.
    size = f'width="{width}" height="14"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} 14">{drawing}</svg>'
    return f'<img alt="" {size} src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}">'


def _line(colour: str, dashes: str, marker: str) -> str:
    return f'<path d="M1 7H29" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>{marker}'


def _dot(colour: str, radius: float = 4) -> str:
    return f'<circle cx="15" cy="7" r="{radius}" fill="{colour}"/>'


def _faint(drawing: str) -> str:
    return f'<g opacity="{FAINT}">{drawing}</g>'


def _ring(colour: str) -> str:
    return f'<circle cx="15" cy="7" r="5.5" fill="none" stroke="{colour}" stroke-width="2.5"/>'


def _square(colour: str) -> str:
    return f'<rect x="11" y="3" width="8" height="8" fill="{colour}"/>'


def _triangle(colour: str) -> str:
    return f'<path d="M15 2L20 11H10Z" fill="{colour}"/>'


def _stair(colour: str) -> str:
    return f'<path d="M1 12H11V7H20V2H29" fill="none" stroke="{colour}" stroke-width="2"/>'


def _band(colour: str) -> str:
    return f'<path d="M1 11H15V4H29" fill="none" stroke="{colour}" stroke-width="5" opacity="{FRONT}"/>'


def _diamond(colour: str) -> str:
    return f'<path d="M15 2L20 7L15 12L10 7Z" fill="none" stroke="{colour}" stroke-width="2"/>'
