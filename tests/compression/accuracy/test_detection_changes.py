"""Which detections of one model belong to which of another, with truth worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from compression.accuracy.detection_changes import MOVED_IOU, SAME_OBJECT_IOU, compare, found_by, iou_matrix, match
from compression.accuracy.detections import Box, Detection, LabelledBox

NAMES = {0: "disc", 1: "ring"}
# 10 x 10 pixels; shifted by 2 pixels it shares 80 of 120, by 1 pixel 90 of 110, by 5 pixels 50 of 150.
SQUARE: Box = (0, 0, 10, 10)
SHIFTED_1: Box = (1, 0, 11, 10)
SHIFTED_2: Box = (2, 0, 12, 10)
SHIFTED_5: Box = (5, 0, 15, 10)
FAR: Box = (50, 50, 60, 60)


def seen(box: Box, score: float = 0.9, label: int = 0) -> Detection:
    return Detection(class_index=label, name=NAMES[label], score=score, box_xyxy=box)


def labelled(box: Box, label: int = 0) -> LabelledBox:
    return LabelledBox(class_index=label, name=NAMES[label], box_xyxy=box)


def test_overlaps() -> None:
    found = iou_matrix([SQUARE, FAR], [SQUARE, SHIFTED_2, SHIFTED_5])
    np.testing.assert_allclose(found, np.array([[1, 80 / 120, 50 / 150], [0, 0, 0]]))


@pytest.mark.parametrize(
    ("first", "second", "shape"), [([], [SQUARE], (0, 1)), ([SQUARE], [], (1, 0)), ([], [], (0, 0))]
)
def test_overlaps_of_nothing(first: list[Box], second: list[Box], shape: tuple[int, int]) -> None:
    assert iou_matrix(first, second).shape == shape


def test_boxes_without_an_area_overlap_with_nothing() -> None:
    assert iou_matrix([(3, 3, 3, 3)], [(3, 3, 3, 3), SQUARE]).tolist() == [[0, 0]]


def test_no_pair_overlaps_too_little_or_is_of_two_classes() -> None:
    assert match([seen(SQUARE)], [seen(SHIFTED_5)]) == []
    assert match([seen(SQUARE)], [seen(SQUARE, label=1)]) == []
    assert match([seen(SQUARE)], [seen(SQUARE, label=1)], same_class=False) == [(0, 0, 1.0)]
    # Half of it: exactly the threshold counts.
    assert match([seen(SQUARE)], [seen((0, 0, 10, 5))]) == [(0, 0, SAME_OBJECT_IOU)]
    assert match([], [seen(SQUARE)]) == match([seen(SQUARE)], []) == []


def test_two_boxes_do_not_share_a_partner() -> None:
    # The last one fits both partners alike, so that the first one gets what it fits best.
    first = [seen(SHIFTED_1), seen(SHIFTED_2)]
    second = [seen((3, 0, 13, 10)), seen(SHIFTED_1)]
    assert [(pair.first, pair.second) for pair in match(first, second)] == [(0, 1), (1, 0)]
    assert [(pair.first, pair.second) for pair in match(first, second[:1])] == [(1, 0)]


def test_kinds_of_changes() -> None:
    before = [seen(SQUARE, 0.9), seen(FAR, 0.8), seen((100, 0, 110, 10), 0.7), seen((200, 0, 210, 10), 0.6)]
    after = [
        seen(SHIFTED_1, 0.85),
        seen((53, 50, 63, 60), 0.75),
        seen((100, 0, 110, 10), 0.65, label=1),
        seen((300, 0, 310, 10), 0.55),
    ]
    changes = compare(before, after, conf=0.25).changes
    assert [change.kind for change in changes] == ["lost", "gained", "reclassified", "moved", "kept"]
    lost, gained, renamed, moved, kept = changes
    assert (lost.before, lost.after, lost.iou, lost.moved_px) == (before[3], None, None, None)
    assert (gained.before, gained.after) == (None, after[3])
    assert (renamed.before, renamed.after, renamed.iou) == (before[2], after[2], 1)
    # 70 of 130 square pixels are shared.
    assert (moved.before, moved.after, moved.moved_px) == (before[1], after[1], 3)
    assert moved.iou == pytest.approx(70 / 130)
    assert kept.iou == pytest.approx(90 / 110)
    assert kept.iou is not None
    assert kept.iou > MOVED_IOU
    assert {change.true_before for change in changes} | {change.true_after for change in changes} == {None}


def test_what_is_seen_below_the_confidence_tells_how_nearly_it_was_lost() -> None:
    before, after = [seen(SQUARE, 0.5)], [seen(SHIFTED_1, 0.2), seen(FAR, 0.1)]
    (lost,) = compare(before, after, conf=0.25).changes
    assert (lost.kind, lost.before, lost.faint) == ("lost", before[0], after[0])
    (kept,) = compare(before, after, conf=0.2).changes
    assert (kept.kind, kept.faint) == ("kept", None)
    (gained,) = compare(after, before, conf=0.25).changes
    assert (gained.kind, gained.after, gained.faint) == ("gained", before[0], after[0])


def test_labels_tell_what_was_an_object() -> None:
    objects = [labelled(SQUARE), labelled(FAR), labelled((200, 0, 210, 10), 1)]
    # The second one sees the first object no more; neither sees the third, where the first model sees another class.
    before = [seen(SQUARE, 0.9), seen(FAR, 0.8), seen((200, 0, 210, 10), 0.7), seen((300, 0, 310, 10), 0.6)]
    after = [seen(FAR, 0.8), seen((200, 0, 210, 10), 0.7, label=1)]
    comparison = compare(before, after, conf=0.25, objects=objects)
    assert [(one.before, one.after) for one in comparison.objects or ()] == [(True, False), (True, True), (False, True)]
    told = [(change.kind, change.true_before, change.true_after) for change in comparison.changes]
    assert told == [
        ("lost", True, None),
        ("lost", False, None),
        ("reclassified", False, True),
        ("kept", True, True),
    ]


def test_an_object_is_found_once() -> None:
    objects, twice = [labelled(SQUARE)], [seen(SHIFTED_1, 0.9), seen(SQUARE, 0.8)]
    assert found_by(objects, twice) == [True]
    comparison = compare(twice, [], conf=0.25, objects=objects)
    # The better box finds it; the other one is a false alarm, though its score is higher.
    assert [change.true_before for change in comparison.changes] == [False, True]


def test_one_more_box_on_what_both_see_is_a_double() -> None:
    objects, once, twice = [labelled(SQUARE)], [seen(SQUARE, 0.8)], [seen(SHIFTED_1, 0.9), seen(SQUARE, 0.7)]
    told = [(change.kind, change.before, change.after) for change in compare(once, twice, conf=0.25).changes]
    assert told == [("double", None, twice[0]), ("kept", once[0], twice[1])]
    double, _ = compare(twice, once, conf=0.25, objects=objects).changes
    assert (double.kind, double.before, double.after, double.true_before) == ("double", twice[0], None, False)


def test_nothing_seen() -> None:
    assert compare([], [], conf=0.25).changes == ()
    assert compare([], [], conf=0.25).objects is None
    assert compare([], [], conf=0.25, objects=[]).objects == ()
    (missed,) = compare([], [], conf=0.25, objects=[labelled(SQUARE)]).objects or ()
    assert (missed.before, missed.after) == (False, False)
    assert found_by([], [seen(SQUARE)]) == []


def test_a_model_against_itself_keeps_everything() -> None:
    detections = [seen((20 * place, 0, 20 * place + 10, 10), 0.3 + place / 20, place % 2) for place in range(10)]
    changes = compare(detections, detections[::-1], conf=0.25).changes
    assert {change.kind for change in changes} == {"kept"}
    assert len(changes) == 10
