from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from compression.image_size import (
    ImageSize,
    from_json,
    height_width,
    image_size,
    in_pixels,
    longer_side,
    square_side,
)


@pytest.mark.parametrize(
    ("text", "imgsz", "shown", "longer"),
    [
        ("640", 640, "640", 640),
        ("640,640", 640, "640", 640),
        ("384,640", (384, 640), "384 x 640", 640),
        ("640x384", (640, 384), "640 x 384", 640),
        ("96, 1280", (96, 1280), "96 x 1280", 1280),
    ],
)
def test_a_size_is_a_side_or_height_and_width(text: str, imgsz: ImageSize, shown: str, longer: int) -> None:
    assert image_size(text) == imgsz
    assert in_pixels(imgsz) == shown
    assert longer_side(imgsz) == longer
    assert height_width(imgsz) == (imgsz if isinstance(imgsz, tuple) else (imgsz, imgsz))


@pytest.mark.parametrize("text", ["", "0", "00", "0,640", "640x0", "big", "-640", "640.5", "1,2,3", "640,", "x640"])
def test_what_is_no_size_is_told_how_to_write_one(text: str) -> None:
    for read in (image_size, square_side):
        with pytest.raises(ArgumentTypeError, match="give pixels as in 640, or height and width as in 384,640"):
            read(text)


def test_a_training_takes_squares() -> None:
    assert square_side("320") == square_side("320,320") == 320
    with pytest.raises(ArgumentTypeError, match=r"'384x640' is no square.*give 640 here, and 384x640 to plan"):
        square_side("384x640")


def test_json_knows_no_tuples() -> None:
    assert from_json([384, 640]) == (384, 640)
    assert from_json(640) == 640
    assert from_json("640") == "640"
