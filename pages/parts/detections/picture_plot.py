"""Draw an image with the boxes, masks and key points that `changes` prepared. Nothing is computed here.

The image is the background, so the colours are the same in both themes: each outline has a light and a dark edge, and
each tag is white on a colour with a contrast of at least 4.5 to 1. Orange, blue-green, blue and grey stay apart for
colour-blind readers; outlines and words tell the same.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

import plotly.graph_objects as go
from PIL import Image
from plotly.colors import hex_to_rgb

from compression.accuracy.forms import KeyPoints, Mask, Point, Polygon, RotatedBox
from pages.parts.detections.changes import BoxKind, DrawnBox
from pages.parts.legend import svg
from pages.parts.plots import TRANSPARENT

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
# The edge of a box beside that of its mask or its skeleton, pixels.
BESIDE_WIDTH = 1.5
# Of the inside of a mask: the image stays visible through several of them.
MASK_OPACITY = 0.22
POINT_SIZE = 6
# A page shows no more pixels; boxes keep the image's own.
LONGEST_SIDE = 1280

_HALO = "rgba(255,255,255,0.85)"


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
            paper_bgcolor=TRANSPARENT,
            plot_bgcolor=TRANSPARENT,
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
    # Those of one kind are one trace: each trace costs the browser more than its points do.
    kinds = list(dict.fromkeys(box.kind for box in boxes))
    for kind in kinds:
        _add_masks(figure, kind, [box.form for box in boxes if box.kind == kind and isinstance(box.form, Mask)])
    for box in boxes:
        _add_outline(figure, box)
    for kind in kinds:
        _add_key_points(
            figure, kind, [box.form for box in boxes if box.kind == kind and isinstance(box.form, KeyPoints)]
        )
    for box in boxes:
        if box.tag:
            _add_tag(figure, box, image.size)
    return figure


def legend_html(kinds: Sequence[BoxKind]) -> str:
    """The legend of the outlines that are drawn, as HTML."""
    items = "".join(f"<span>{_outline(kind)}{LEGEND[kind]}</span>" for kind in kinds)
    return f'<div class="trimboard-legend">{items}</div>'


def _add_masks(figure: go.Figure, kind: BoxKind, masks: Sequence[Mask]) -> None:
    if not masks:
        return
    colour, width, dash = STYLES[kind]
    edges = _path(_closed(outline) for mask in masks for outline in mask.outlines)
    figure.add_scatter(**edges, mode="lines", line={"color": _HALO, "width": width + 2.5}, hoverinfo="skip")
    figure.add_scatter(
        **edges,
        mode="lines",
        line={"color": colour, "width": width, "dash": dash},
        fill="toself",
        # What is labelled is an edge only, so that it hides nothing of what is seen.
        fillcolor=TRANSPARENT if kind == "label" else _see_through(colour, MASK_OPACITY),
        hoverinfo="skip",
    )


def _add_key_points(figure: go.Figure, kind: BoxKind, poses: Sequence[KeyPoints]) -> None:
    if not poses:
        return
    colour, _, dash = STYLES[kind]
    bones = _path(bone for pose in poses for bone in pose.bones)
    if bones["x"]:
        figure.add_scatter(**bones, mode="lines", line={"color": _HALO, "width": 4.5}, hoverinfo="skip")
        figure.add_scatter(**bones, mode="lines", line={"color": colour, "width": 2, "dash": dash}, hoverinfo="skip")
    # What is labelled is a ring around nothing.
    inside, edge = ("#FFFFFF", colour) if kind == "label" else (colour, "#FFFFFF")
    seen = [point for pose in poses for point in pose.points if point]
    figure.add_scatter(
        x=[x for x, _ in seen],
        y=[y for _, y in seen],
        mode="markers",
        marker={"color": inside, "size": POINT_SIZE, "line": {"color": edge, "width": 1.5}},
        hoverinfo="skip",
    )


def _path(lines: Iterable[Sequence[Point]]) -> dict[str, list[float | None]]:
    """Lines as one trace has them: with a gap behind each."""
    places: list[tuple[float | None, float | None]] = [place for line in lines for place in (*line, (None, None))]
    return {"x": [x for x, _ in places], "y": [y for _, y in places]}


def _closed(outline: Polygon) -> Polygon:
    return (*outline, outline[0])


def _see_through(colour: str, opacity: float) -> str:
    red, green, blue = hex_to_rgb(colour)
    return f"rgba({red},{green},{blue},{opacity})"


def _corners(box: DrawnBox) -> Polygon:
    if isinstance(box.form, RotatedBox):
        return box.form.corners
    left, top, right, bottom = box.box_xyxy
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def _add_outline(figure: go.Figure, box: DrawnBox) -> None:
    colour, width, dash = STYLES[box.kind]
    width = min(width, BESIDE_WIDTH) if isinstance(box.form, Mask | KeyPoints) else width
    edges = _closed(_corners(box))
    around = {"x": [x for x, _ in edges], "y": [y for _, y in edges], "mode": "lines"}
    figure.add_scatter(**around, line={"color": _HALO, "width": width + 2.5}, hoverinfo="skip")
    figure.add_scatter(
        **around,
        line={"color": colour, "width": width, "dash": dash},
        fill="toself",
        fillcolor=TRANSPARENT,
        hoveron="fills",
        text=box.hover,
        hoverinfo="text",
        name=box.kind,
    )


def _add_tag(figure: go.Figure, box: DrawnBox, size: tuple[int, int]) -> None:
    """Write a box's tag at the corner from which there is most room for it."""
    width, height = size
    corners = _corners(box)
    is_right = corners[0][0] + corners[2][0] > width
    # A label's tag stands below its box, where no detection's does.
    below = box.kind == "label"
    # Of the highest corners, or the lowest, the one to that side.
    x, y = min(corners, key=lambda corner: (-corner[1] if below else corner[1], -corner[0] if is_right else corner[0]))
    inside = y > 0.95 * height if below else y < 0.05 * height
    figure.add_annotation(
        x=min(max(x, 0), width),
        y=y,
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
