"""Draw an image with the boxes that `changes` prepared. Nothing is computed here.

The image is the background, so the colours are the same in both themes: each outline has a light and a dark edge, and
each tag is white on a colour with a contrast of at least 4.5 to 1. Orange, blue-green, blue and grey stay apart for
colour-blind readers; outlines and words tell the same.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from PIL import Image

from pages.parts.detections.changes import BoxKind, DrawnBox
from pages.parts.legend import svg

# Outline and tag of each kind: colour, width in pixels, dash.
STYLES: dict[BoxKind, tuple[str, float, str]] = {
    "lost": ("#B54708", 3, "solid"),
    "gained": ("#0B6E63", 3, "solid"),
    "reclassified": ("#7A3E9D", 3, "solid"),
    "moved": ("#2563B8", 3, "solid"),
    "kept": ("#5B6470", 1.5, "solid"),
    "double": ("#5B6470", 2, "dash"),
    "lost place": ("#B54708", 2, "dash"),
    "gained place": ("#0B6E63", 2, "dash"),
    "label": ("#1B2430", 1.5, "dot"),
}
LEGEND: dict[BoxKind, str] = {
    "lost": "lost: only the first model sees it",
    "gained": "gained: only the second model sees it",
    "reclassified": "seen as another class",
    "moved": "moved",
    "kept": "kept",
    "double": "one more box on what both see",
    "lost place": "where something was lost",
    "gained place": "where something is gained",
    "label": "labelled object",
}
HEIGHT = 460
# A page shows no more pixels; boxes keep the image's own.
LONGEST_SIDE = 1280

_HALO = "rgba(255,255,255,0.85)"
_TRANSPARENT = "rgba(0,0,0,0)"


def draw_picture(image: Image.Image, boxes: Sequence[DrawnBox]) -> go.Figure:
    """The image with its boxes; a box says more when the pointer is on it.

    Args:
        image: RGB.
        boxes: in pixels of the image; later ones lie on top.
    """
    width, height = image.size
    figure = go.Figure(
        layout=go.Layout(
            height=HEIGHT,
            margin={"l": 0, "r": 0, "t": 0, "b": 0},
            paper_bgcolor=_TRANSPARENT,
            plot_bgcolor=_TRANSPARENT,
            showlegend=False,
            hovermode="closest",
            hoverlabel={"align": "left"},
        )
    )
    figure.update_xaxes(visible=False, fixedrange=True, range=[0, width], constrain="domain")
    figure.update_yaxes(
        visible=False, fixedrange=True, range=[height, 0], constrain="domain", scaleanchor="x", scaleratio=1
    )
    figure.add_layout_image(
        source=_data_uri(image),
        xref="x",
        yref="y",
        x=0,
        y=0,
        sizex=width,
        sizey=height,
        sizing="stretch",
        layer="below",
    )
    for box in boxes:
        _add_outline(figure, box)
    for box in boxes:
        if box.tag:
            _add_tag(figure, box, image.size)
    return figure


def legend_html(kinds: Sequence[BoxKind]) -> str:
    """The legend of the outlines that are drawn, as HTML."""
    items = "".join(f"<span>{_outline(kind)}{LEGEND[kind]}</span>" for kind in kinds)
    return f'<div class="trimboard-legend">{items}</div>'


def _add_outline(figure: go.Figure, box: DrawnBox) -> None:
    colour, width, dash = STYLES[box.kind]
    left, top, right, bottom = box.box_xyxy
    around = {"x": [left, right, right, left, left], "y": [top, top, bottom, bottom, top], "mode": "lines"}
    figure.add_scatter(**around, line={"color": _HALO, "width": width + 2.5}, hoverinfo="skip")
    figure.add_scatter(
        **around,
        line={"color": colour, "width": width, "dash": dash},
        fill="toself",
        fillcolor=_TRANSPARENT,
        hoveron="fills",
        text=box.hover,
        hoverinfo="text",
        name=box.kind,
    )


def _add_tag(figure: go.Figure, box: DrawnBox, size: tuple[int, int]) -> None:
    """Write a box's tag at the corner from which there is most room for it."""
    left, top, right, bottom = box.box_xyxy
    width, height = size
    is_right = left + right > width
    # A label's tag stands below its box, where no detection's does.
    below = box.kind == "label"
    inside = bottom > 0.95 * height if below else top < 0.05 * height
    figure.add_annotation(
        x=min(right, width) if is_right else max(left, 0),
        y=bottom if below else top,
        text=escape(box.tag),
        showarrow=False,
        xanchor="right" if is_right else "left",
        yanchor="top" if below != inside else "bottom",
        font={"color": "#FFFFFF", "size": 11},
        bgcolor=STYLES[box.kind][0],
        borderpad=1,
    )


def _outline(kind: BoxKind) -> str:
    colour, width, dash = STYLES[kind]
    dashes = {"solid": "", "dash": "5 3", "dot": "2 2"}[dash]
    shape = '<rect x="4" y="2" width="22" height="10" fill="none"'
    # The light edge makes dark outlines readable on a dark page too.
    halo = f'{shape} stroke="{_HALO}" stroke-width="{width + 2}"/>'
    return svg(f'{halo}{shape} stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"/>')


def _data_uri(image: Image.Image) -> str:
    shown = image.copy()
    shown.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
