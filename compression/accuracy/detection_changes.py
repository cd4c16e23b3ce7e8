"""What one model sees on an image and another does not: lost, gained, moved, and what was behind it.

Masks and key points are told apart by the boxes that come with them, rotated boxes by themselves. Importing this module
imports no torch; comparing rotated boxes does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compression.accuracy.detections import Box, Detection, LabelledBox
from compression.accuracy.forms import RotatedBox

# Boxes that overlap less are of different objects: the threshold of PASCAL VOC (Everingham et al., 2010, section 4.2)
# and of COCO's AP50, https://cocodataset.org/#detection-eval.
SAME_OBJECT_IOU = 0.5
# A box that overlaps less with its earlier place has moved: the threshold of COCO's strict metric, AP75.
MOVED_IOU = 0.75

ChangeKind = Literal["lost", "gained", "reclassified", "moved", "double", "kept"]
KINDS: tuple[ChangeKind, ...] = ("lost", "gained", "reclassified", "moved", "double", "kept")


class Match(NamedTuple):
    """A pair of boxes that stand for one object.

    Attributes:
        first: index in the first list.
        second: index in the second list.
        iou: how far they overlap.
    """

    first: int
    second: int
    iou: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of one detection.

    Attributes:
        kind: lost: nothing is seen there any more; gained: nothing was; reclassified: another class is seen there;
            moved: the same class, but the box overlaps by less than `MOVED_IOU`; double: one more box of one model on
            what both see, as end-to-end heads give them without suppression; kept: all else.
        before: what the first model sees; None where gained, or where the double is the second one's.
        after: what the second model sees; None where lost, or where the double is the first one's.
        iou: how far both boxes overlap; None where there is one only.
        moved_px: the farthest that an edge of the box moved, or a corner of a rotated one, pixels; None where there is
            one only.
        true_before: whether a labelled object is behind `before`; None without it, or without labels.
        true_after: likewise of `after`.
        faint: where lost or gained: what the other model sees there below the confidence; None if nothing.
    """

    kind: ChangeKind
    before: Detection | None = None
    after: Detection | None = None
    iou: float | None = None
    moved_px: float | None = None
    true_before: bool | None = None
    true_after: bool | None = None
    faint: Detection | None = None

    @property
    def shown(self) -> Detection:
        """What is seen, by the second model where both see it."""
        shown = self.after or self.before
        assert shown is not None, "a change of nothing"
        return shown


@dataclass(frozen=True, kw_only=True)
class ObjectFound:
    """A labelled object, and which model finds it."""

    box: LabelledBox
    before: bool
    after: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on one image.

    Attributes:
        conf: detections of a lower score count as not seen.
        changes: one for each detection, in the order of `KINDS`, then by falling score.
        objects: labelled objects; None where no labels are known.
    """

    conf: float
    changes: tuple[Change, ...]
    objects: tuple[ObjectFound, ...] | None

    def of_kind(self, *kinds: ChangeKind) -> list[Change]:
        """The changes of those kinds."""
        return [change for change in self.changes if change.kind in kinds]


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A detection, and whether a labelled object is behind it; None where no labels are known."""

    seen: Detection
    is_true: bool | None


def iou_matrix(first: Sequence[Box], second: Sequence[Box]) -> NDArray[np.float64]:
    """Intersection over union of each box with each other one.

    Args:
        first: N boxes, xyxy, pixels.
        second: M boxes likewise.

    Returns:
        [N, M], 0 to 1; 0 for boxes without an area.
    """
    a = np.asarray(first, dtype=np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, dtype=np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])  # [N, M, 2]
    shared = np.clip(sides, 0, None).prod(axis=-1)
    union = _areas(a) + _areas(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def overlaps(first: Sequence[LabelledBox], second: Sequence[LabelledBox]) -> NDArray[np.float64]:
    """How far each detection or label overlaps with each other one, by what decides its task's accuracy where it can.

    Rotated boxes are compared as Ultralytics compares them for its rotated mAP (`batch_probiou`), all others by the
    upright boxes.

    Args:
        first: N of an image.
        second: M of the same image.

    Returns:
        [N, M], 0 to 1.
    """
    rotated = [[one.form.xywhr for one in side if isinstance(one.form, RotatedBox)] for side in (first, second)]
    # Labels of a data set that knows upright boxes only are compared as such.
    if not first or not second or [len(rows) for rows in rotated] != [len(first), len(second)]:
        return iou_matrix([one.box_xyxy for one in first], [one.box_xyxy for one in second])
    from ultralytics.utils.metrics import batch_probiou

    iou: NDArray[np.float64] = batch_probiou(*(np.asarray(rows) for rows in rotated)).numpy()
    return iou


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)
    return areas


def match(first: Sequence[LabelledBox], second: Sequence[LabelledBox], *, same_class: bool = True) -> list[Match]:
    """Pair boxes one to one so that they overlap most in total; no pair overlaps by less than `SAME_OBJECT_IOU`.

    COCO pairs greedily by falling score instead, which only matters where boxes compete for an object; at one fixed
    confidence the best assignment is the fairer one.

    Args:
        first: N boxes.
        second: M boxes.
        same_class: pair only boxes of one class.

    Returns:
        At most min(N, M) pairs, by their index in `first`.
    """
    if not first or not second:
        return []
    # Takes longer to import than a page to draw.
    from scipy.optimize import linear_sum_assignment

    iou = overlaps(first, second)
    admitted = iou >= SAME_OBJECT_IOU
    if same_class:
        classes = [np.array([one.class_index for one in boxes]) for boxes in (first, second)]
        admitted &= classes[0][:, None] == classes[1][None, :]
    rows, columns = linear_sum_assignment(np.where(admitted, iou, 0.0), maximize=True)
    return [
        Match(int(row), int(column), float(iou[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if admitted[row, column]
    ]


def found_by(objects: Sequence[LabelledBox], detections: Sequence[Detection]) -> list[bool]:
    """Which labelled objects a model finds: those with a detection of their class at an IoU of `SAME_OBJECT_IOU`.

    Args:
        objects: of one image.
        detections: on that image, each of which finds one object at most.
    """
    found = {pair.first for pair in match(objects, detections)}
    return [index in found for index in range(len(objects))]


def compare(
    before: Sequence[Detection],
    after: Sequence[Detection],
    *,
    conf: float,
    objects: Sequence[LabelledBox] | None = None,
) -> Comparison:
    """Compare what two models see on one image.

    Args:
        before: detections of the first model, also below the confidence, which tell how nearly something was lost.
        after: detections of the second model likewise.
        conf: detections of a lower score count as not seen.
        objects: the labelled objects of the image; None where no labels are known.
    """
    old, new = _judged(before, objects, conf), _judged(after, objects, conf)
    same = match(_boxes(old), _boxes(new))
    rest_old, double_old = _split_doubles(_others(old, [pair.first for pair in same]), _boxes(new))
    rest_new, double_new = _split_doubles(_others(new, [pair.second for pair in same]), _boxes(old))
    renamed = match(_boxes(rest_old), _boxes(rest_new), same_class=False)
    lost = _others(rest_old, [pair.first for pair in renamed])
    gained = _others(rest_new, [pair.second for pair in renamed])
    changes = [
        *_single("lost", lost, [one for one in after if one.score < conf]),
        *_single("gained", gained, [one for one in before if one.score < conf]),
        *(Change(kind="double", before=one.seen, true_before=one.is_true) for one in double_old),
        *(Change(kind="double", after=one.seen, true_after=one.is_true) for one in double_new),
        *(_paired("reclassified", rest_old[pair.first], rest_new[pair.second], pair.iou) for pair in renamed),
        *(_paired(_kind(pair.iou), old[pair.first], new[pair.second], pair.iou) for pair in same),
    ]
    return Comparison(
        conf=conf,
        changes=tuple(sorted(changes, key=lambda change: (KINDS.index(change.kind), -change.shown.score))),
        objects=None if objects is None else _found(objects, _boxes(old), _boxes(new)),
    )


def _kind(iou: float) -> ChangeKind:
    return "moved" if iou < MOVED_IOU else "kept"


def _judged(detections: Sequence[Detection], objects: Sequence[LabelledBox] | None, conf: float) -> list[_Judged]:
    seen = [one for one in detections if one.score >= conf]
    if objects is None:
        return [_Judged(seen=one, is_true=None) for one in seen]
    true = {pair.second for pair in match(objects, seen)}
    return [_Judged(seen=one, is_true=index in true) for index, one in enumerate(seen)]


def _boxes(judged: Iterable[_Judged]) -> list[Detection]:
    return [one.seen for one in judged]


def _others(judged: Sequence[_Judged], paired: Iterable[int]) -> list[_Judged]:
    taken = set(paired)
    return [one for index, one in enumerate(judged) if index not in taken]


def _split_doubles(unpaired: Sequence[_Judged], others: Sequence[Detection]) -> tuple[list[_Judged], list[_Judged]]:
    """Boxes without a partner that lie on nothing the other model sees, and those on what it sees by another box."""
    doubles = [one for one in unpaired if match([one.seen], others)]
    return [one for one in unpaired if not any(one is double for double in doubles)], doubles


def _single(kind: Literal["lost", "gained"], judged: Sequence[_Judged], faint: Sequence[Detection]) -> list[Change]:
    """Changes that one model alone sees, with what the other one sees there below the confidence."""
    below = {pair.first: faint[pair.second] for pair in match(_boxes(judged), faint)}
    if kind == "lost":
        return [
            Change(kind=kind, before=one.seen, true_before=one.is_true, faint=below.get(index))
            for index, one in enumerate(judged)
        ]
    return [
        Change(kind=kind, after=one.seen, true_after=one.is_true, faint=below.get(index))
        for index, one in enumerate(judged)
    ]


def _paired(kind: ChangeKind, before: _Judged, after: _Judged, iou: float) -> Change:
    return Change(
        kind=kind,
        before=before.seen,
        after=after.seen,
        iou=iou,
        moved_px=_moved_px(before.seen, after.seen),
        true_before=before.is_true,
        true_after=after.is_true,
    )


def _moved_px(before: Detection, after: Detection) -> float:
    """How far an edge moved, or a corner of a rotated box; which corner a box begins with says nothing."""
    if isinstance(before.form, RotatedBox) and isinstance(after.form, RotatedBox):
        old, new = before.form.corners, after.form.corners
        turns = [new[first:] + new[:first] for first in range(len(new))]
        return min(max(map(math.dist, old, turned)) for turned in turns)
    return max(abs(old - new) for old, new in zip(before.box_xyxy, after.box_xyxy, strict=True))


def _found(
    objects: Sequence[LabelledBox], before: Sequence[Detection], after: Sequence[Detection]
) -> tuple[ObjectFound, ...]:
    found = zip(objects, found_by(objects, before), found_by(objects, after), strict=True)
    return tuple(ObjectFound(box=box, before=old, after=new) for box, old, new in found)
