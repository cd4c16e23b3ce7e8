"""How boxes are drawn on an image."""

from __future__ import annotations

import io
from base64 import b64decode

import pytest
from PIL import Image

from compression.accuracy.forms import KeyPoints, Mask, RotatedBox
from pages.parts.detections.changes import BoxKind, DrawnBox
from pages.parts.detections.picture_plot import LEGEND, LONGEST_SIDE, STYLES, draw_picture, legend_html


def box(kind: BoxKind, tag: str = "", top: float = 40) -> DrawnBox:
    return DrawnBox(kind=kind, box_xyxy=(10, top, 30, top + 20), tag=tag, hover=f"about {kind}")


def test_boxes_lie_where_the_image_has_them() -> None:
    figure = draw_picture(Image.new("RGB", (200, 100)), [box("kept"), box("lost", "ring 0.31")])
    (picture,) = figure.layout.images
    assert (picture.sizex, picture.sizey, list(figure.layout.yaxis.range)) == (200, 100, [100, 0])
    halo, outline = figure.data[2:]
    assert (list(outline.x), list(outline.y)) == ([10, 30, 30, 10, 10], [40, 40, 60, 60, 40])
    assert outline.text == "about lost"
    assert outline.line.width < halo.line.width
    (tag,) = figure.layout.annotations
    assert (tag.text, tag.x, tag.y, tag.yanchor, tag.bgcolor) == ("ring 0.31", 10, 40, "bottom", STYLES["lost"][0])


def test_a_rotated_box_is_drawn_in_place_of_the_upright_one() -> None:
    turned = RotatedBox(xywhr=(60, 50, 40, 20, 0.3))
    drawn = DrawnBox(kind="lost", box_xyxy=(30, 30, 90, 70), form=turned, tag="a", hover="")
    figure = draw_picture(Image.new("RGB", (200, 100)), [drawn])
    _, outline = figure.data
    assert list(zip(outline.x, outline.y, strict=True)) == [*turned.corners, turned.corners[0]]
    (tag,) = figure.layout.annotations
    assert (tag.x, tag.y) == min(turned.corners, key=lambda corner: corner[1])


def test_masks_of_one_kind_are_one_trace_below_the_boxes() -> None:
    triangle = ((10.0, 40.0), (30.0, 40.0), (20.0, 60.0))
    masks = [
        DrawnBox(kind="kept", box_xyxy=(10, 40, 30, 60), form=Mask(outlines=(triangle, triangle)), tag="", hover="")
        for _ in range(3)
    ]
    figure = draw_picture(Image.new("RGB", (200, 100)), [*masks, box("lost")])
    assert len(figure.data) == 2 + 2 * 4
    area = figure.data[1]
    assert (area.fill, area.fillcolor, area.x.count(None)) == ("toself", "rgba(91,100,112,0.22)", 6)
    # Beside its mask a box steps back.
    assert figure.data[3].line.width < figure.data[-1].line.width


@pytest.mark.parametrize(("n_points", "n_traces"), [(17, 3), (3, 1)])
def test_key_points_lie_above_the_boxes_with_the_bones_of_people(n_points: int, n_traces: int) -> None:
    pose = KeyPoints(points=(None, *((float(place), 50.0) for place in range(1, n_points))))
    drawn = DrawnBox(kind="kept", box_xyxy=(10, 40, 30, 60), form=pose, tag="", hover="")
    figure = draw_picture(Image.new("RGB", (200, 100)), [drawn])
    assert len(figure.data) == 2 + n_traces
    assert list(figure.data[-1].x) == list(range(1, n_points))


def test_tags_stay_on_the_image_and_are_text() -> None:
    image = Image.new("RGB", (200, 100))
    high = draw_picture(image, [box("lost", "<b>x</b>", top=1)]).layout.annotations[0]
    assert (high.yanchor, high.text) == ("top", "&lt;b&gt;x&lt;/b&gt;")
    last = DrawnBox(kind="lost", box_xyxy=(150, 40, 204, 60), tag="a", hover="")
    (right,) = draw_picture(image, [last]).layout.annotations
    assert (high.x, high.xanchor, right.x, right.xanchor) == (10, "left", 200, "right")
    label, low = draw_picture(image, [box("label", "missed: a"), box("label", "missed: b", top=79)]).layout.annotations
    assert ((label.y, label.yanchor), (low.y, low.yanchor)) == ((60, "top"), (99, "bottom"))


def test_a_large_image_is_sent_small() -> None:
    figure = draw_picture(Image.new("RGB", (4000, 2000)), [])
    (picture,) = figure.layout.images
    content = b64decode(picture.source.partition("base64,")[2])
    assert Image.open(io.BytesIO(content)).size == (LONGEST_SIDE, LONGEST_SIDE // 2)
    assert picture.sizex == 4000


def _luminance(colour: str) -> float:
    """Relative luminance, https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("kind", STYLES)
def test_white_tags_can_be_read(kind: BoxKind) -> None:
    assert 1.05 / (_luminance(STYLES[kind][0]) + 0.05) >= 4.5


def test_the_legend_says_what_is_drawn_and_no_more() -> None:
    html = legend_html(["lost", "kept"])
    assert LEGEND["lost"] in html
    assert LEGEND["kept"] in html
    assert LEGEND["gained"] not in html
