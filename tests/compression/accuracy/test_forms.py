"""Masks, key points and rotated boxes from Ultralytics' own results, and what is made of them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ultralytics.engine.results import Results
from ultralytics.utils.metrics import batch_probiou
from ultralytics.utils.plotting import Annotator

from compression.accuracy.detection_changes import compare, match
from compression.accuracy.detections import Detection, LabelledBox
from compression.accuracy.forms import (
    OUTLINE_TOLERANCE,
    PEOPLE_BONES,
    KeyPoints,
    Mask,
    RotatedBox,
    forms_in,
    mask_of,
)

NAMES = {0: "disc"}


def result(size: tuple[int, int] = (100, 200), **found: torch.Tensor) -> Results:
    """What Ultralytics gives for an image of that height and width."""
    return Results(np.zeros((*size, 3), np.uint8), path="", names=NAMES, **found)


def boxes(number: int) -> torch.Tensor:
    return torch.tensor([[10.0, 10, 60, 60, 0.9, 0]] * number)


def filled(mask: Mask, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels within the outlines; those within a hole are within two."""
    image = np.zeros(size, np.uint8)
    cv2.fillPoly(image, [np.array(outline).round().astype(np.int32) for outline in mask.outlines], 1)
    return image


def test_boxes_have_no_form() -> None:
    assert forms_in(result(boxes=boxes(2))) == [None, None]


def test_outlines_of_a_mask_lie_where_its_pixels_are() -> None:
    # The model saw 64 x 64 pixels, of which the image fills the middle 32 rows; a disc with a hole, and a piece apart.
    down, right = np.mgrid[:64, :64]
    far = np.hypot(right - 20, down - 32)
    seen = ((far < 13) & (far > 5)) | ((right > 50) & (down > 26) & (down < 38))
    speck = np.zeros((64, 64), bool)
    speck[30, 30] = True
    pixels = torch.from_numpy(np.stack([seen, speck]).astype(np.float32))
    disc, tiny = forms_in(result((320, 640), boxes=boxes(2), masks=pixels))
    assert isinstance(disc, Mask)
    assert len(disc.outlines) == 3
    large = cv2.resize(seen[16:48].astype(np.uint8), (640, 320), interpolation=cv2.INTER_NEAREST)
    drawn = filled(disc, (320, 640))
    # An outline runs through the middle of pixels that are ten times as large on the image.
    assert (large & drawn).sum() / (large | drawn).sum() > 0.8
    assert drawn[160, 200] == 0
    # One pixel has no outline to draw.
    assert tiny == Mask(outlines=())


def test_outlines_have_no_more_points_than_can_be_seen() -> None:
    turn = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    circle = (320 + 200 * np.stack([np.cos(turn), np.sin(turn)], 1)).astype(np.float32)
    (outline,) = mask_of([circle], (640, 480)).outlines
    assert 10 < len(outline) < 100
    # Halfway between two points the chord is farthest from the circle.
    ends = np.array([*outline, outline[0]])
    middle = (ends[1:] + ends[:-1]) / 2
    assert (200 - np.hypot(*(middle - 320).T)).max() <= 1.05 * OUTLINE_TOLERANCE * 640


def test_key_points_that_are_not_seen_are_left_out() -> None:
    scored = torch.tensor([[[10.0, 20, 0.9], [30, 40, 0.2], [50, 60, 0.25]]])
    (form,) = forms_in(result(boxes=boxes(1), keypoints=scored))
    assert form == KeyPoints(points=((10, 20), None, (50, 60)))
    (plain,) = forms_in(result(boxes=boxes(1), keypoints=torch.tensor([[[10.0, 20], [0, 0]]])))
    assert plain == KeyPoints(points=((10, 20), None))
    assert form.bones == []


def test_bones_are_those_of_ultralytics() -> None:
    skeleton = Annotator(np.zeros((8, 8, 3), np.uint8)).skeleton
    assert [[first + 1, second + 1] for first, second in PEOPLE_BONES] == skeleton
    points = tuple((float(place), 0.0) for place in range(17))
    assert len(KeyPoints(points=points).bones) == len(skeleton)
    without_nose = KeyPoints(points=(None, *points[1:]))
    assert len(without_nose.bones) == len(skeleton) - 2


def rotated(*xywhr: float) -> RotatedBox:
    x, y, width, height, angle = xywhr
    return RotatedBox(xywhr=(x, y, width, height, angle))


def seen(form: RotatedBox, score: float = 0.9) -> Detection:
    across, down = zip(*form.corners, strict=True)
    box = (min(across), min(down), max(across), max(down))
    return Detection(class_index=0, name="disc", score=score, box_xyxy=box, form=form)


def test_corners_of_a_rotated_box_are_those_of_ultralytics() -> None:
    rows = torch.tensor([[100.0, 50, 40, 10, 0.5, 0.9, 0], [60, 50, 10, 30, -0.2, 0.8, 0]])
    found = result(obb=rows)
    for form, theirs in zip(forms_in(found), found.obb.xyxyxyxy.tolist(), strict=True):
        assert isinstance(form, RotatedBox)
        assert sorted(form.corners) == [pytest.approx(corner, abs=1e-4) for corner in sorted(theirs)]


def test_rotated_boxes_are_matched_by_themselves() -> None:
    # Two thin boxes across each other have nearly one upright box around them, and little in common.
    one, across = rotated(50, 50, 60, 8, math.pi / 4), rotated(50, 50, 60, 8, -math.pi / 4)
    assert match([seen(one)], [seen(across)]) == []
    assert [change.kind for change in compare([seen(one)], [seen(across)], conf=0.25).changes] == ["lost", "gained"]
    near = rotated(52, 51, 58, 9, math.pi / 4 + 0.05)
    (pair,) = match([seen(one)], [seen(near)])
    expected = batch_probiou(torch.tensor([one.xywhr]), torch.tensor([near.xywhr]))
    assert pair.iou == pytest.approx(float(expected), abs=1e-5)
    # Labels without an angle are compared by the upright boxes around.
    upright = LabelledBox(class_index=0, name="disc", box_xyxy=seen(across).box_xyxy)
    assert len(match([upright], [seen(one)])) == 1


def test_a_rotated_box_described_the_other_way_has_not_moved() -> None:
    before, after = rotated(50, 50, 60, 8, 0.3), rotated(50, 53, 8, 60, 0.3 + math.pi / 2)
    (change,) = compare([seen(before)], [seen(after)], conf=0.25).changes
    assert change.moved_px == pytest.approx(3)
