"""What a model predicts besides upright boxes, as plain data: masks, key points, rotated boxes.

Importing this module imports no torch; reading what Ultralytics found does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor
    from ultralytics.engine.results import Masks, Results

# Outlines lie off by at most this part of the image's longer side. A page shows that side on some 640 pixels, so it is
# one pixel there, less than half the width of a drawn line.
OUTLINE_TOLERANCE = 1 / 640
# Key points of a lower confidence are not there, as where Ultralytics draws them: `Annotator.kpts`, utils/plotting.py.
KEY_POINT_CONF = 0.25
# Which of the 17 key points of people a bone joins, from 0: `Annotator.skeleton`, utils/plotting.py, counts from 1. The
# order of the points is that of COCO, https://cocodataset.org/#keypoints-2017.
N_PEOPLE_POINTS = 17
PEOPLE_BONES: tuple[tuple[int, int], ...] = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8)),
    *((7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
# Thousands of points travel to the browser; nobody sees less than this part of a pixel.
_DECIMALS = 2

Point = tuple[float, float]
Polygon = tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Mask:
    """The pixels of an object.

    Attributes:
        outlines: of each piece, and of each hole the other way round; pixels of the upright image.
    """

    outlines: tuple[Polygon, ...]


@dataclass(frozen=True, kw_only=True)
class KeyPoints:
    """Named places of an object.

    Attributes:
        points: in the order of the data set, pixels of the upright image; None where a point is not seen or labelled.
    """

    points: tuple[Point | None, ...]

    @property
    def bones(self) -> list[tuple[Point, Point]]:
        """The lines of the skeleton that have both ends; only of people it is known which they are."""
        if len(self.points) != N_PEOPLE_POINTS:
            return []
        ends = ((self.points[first], self.points[second]) for first, second in PEOPLE_BONES)
        return [(first, second) for first, second in ends if first and second]


@dataclass(frozen=True, kw_only=True)
class RotatedBox:
    """A rectangle at any angle.

    Attributes:
        xywhr: centre, both sides in pixels of the upright image, and the turn of the first side in radians.
    """

    xywhr: tuple[float, float, float, float, float]

    @property
    def corners(self) -> Polygon:
        """The four corners, one beside the other; which comes first follows the turn."""
        x, y, width, height, angle = self.xywhr
        across = math.cos(angle) * width / 2, math.sin(angle) * width / 2
        down = -math.sin(angle) * height / 2, math.cos(angle) * height / 2
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return tuple((x + a * across[0] + d * down[0], y + a * across[1] + d * down[1]) for a, d in signs)


Form = Mask | KeyPoints | RotatedBox


def forms_in(result: Results) -> list[Form | None]:
    """The form of each thing that Ultralytics found on an image, in its order; None where a box is all there is."""
    if result.obb is not None:
        return [RotatedBox(xywhr=tuple(row)) for row in result.obb.xywhr.tolist()]
    if result.masks is not None:
        return [_mask(pixels, result.masks) for pixels in result.masks.data]
    if result.keypoints is not None:
        return [_key_points(rows, result.keypoints.has_visible) for rows in result.keypoints.data.tolist()]
    return [None] * len(result.boxes)


def mask_of(outlines: Iterable[NDArray[np.float32]], size: tuple[int, int]) -> Mask:
    """A mask of outlines, simplified to `OUTLINE_TOLERANCE`; what is too small to be seen is left out.

    Args:
        outlines: each [N, 2], pixels of the image.
        size: of the image, pixels; the order does not matter.
    """
    import cv2

    tolerance = OUTLINE_TOLERANCE * max(size)
    simple = (cv2.approxPolyDP(np.ascontiguousarray(each[:, None]), tolerance, True)[:, 0] for each in outlines)
    return Mask(outlines=tuple(_points(each.tolist()) for each in simple if len(each) > 2))


def labelled_points(rows: Sequence[Sequence[float]], width: int, height: int) -> KeyPoints:
    """Key points of a label.

    Args:
        rows: of each point x and y as parts of the image, and whether it is labelled: 0 if not.
        width: of the image, pixels.
        height: likewise.
    """
    return KeyPoints(points=tuple((x * width, y * height) if labelled else None for x, y, labelled in rows))


def rotated_box(outline: NDArray[np.float32]) -> RotatedBox:
    """The least rectangle around a labelled outline, which is what Ultralytics trains on.

    Args:
        outline: [N, 2], pixels; four corners or more.
    """
    from ultralytics.utils.ops import xyxyxyxy2xywhr

    (row,) = xyxyxyxy2xywhr(outline[None]).tolist()
    return RotatedBox(xywhr=tuple(row))


def _mask(pixels: Tensor, masks: Masks) -> Mask:
    """The outlines of a mask [h, w] in the shape that the model saw.

    Ultralytics' own `Masks.xy` joins the pieces of a mask by lines that are no edges.
    """
    import cv2
    from ultralytics.utils.ops import scale_coords

    found, _ = cv2.findContours(pixels.byte().cpu().numpy(), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    # A contour is given by the indices of pixels; their centres lie half a pixel further.
    centres = (each[:, 0].astype(np.float32) + 0.5 for each in found)
    return mask_of((scale_coords(masks.data.shape[1:], each, masks.orig_shape) for each in centres), masks.orig_shape)


def _key_points(rows: Sequence[Sequence[float]], scored: bool) -> KeyPoints:
    # Without scores, Ultralytics takes the corner of the image for a point that is missing.
    return KeyPoints(
        points=tuple((row[0], row[1]) if (row[2] >= KEY_POINT_CONF if scored else any(row)) else None for row in rows)
    )


def _points(rows: Iterable[Sequence[float]]) -> Polygon:
    return tuple((round(x, _DECIMALS), round(y, _DECIMALS)) for x, y in rows)
