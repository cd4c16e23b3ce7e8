"""What is said and drawn of two models on one image."""

from __future__ import annotations

from compression.accuracy.detection_changes import Comparison, compare
from compression.accuracy.detections import Box, Detection, LabelledBox
from compression.accuracy.forms import Mask, RotatedBox
from pages.parts.detections.changes import boxes_of, change_rows, kinds_drawn, summary, summary_of_labels

NAMES = {0: "disc", 1: "ring"}
ORIGINAL, LEVEL = "the original", "level 5"


def at(place: int, shift: int = 0) -> Box:
    """A box of 10 x 10 pixels, those of different places far apart."""
    return (100 * place + shift, 0, 100 * place + 10 + shift, 10)


def seen(box: Box, score: float = 0.9, label: int = 0) -> Detection:
    return Detection(class_index=label, name=NAMES[label], score=score, box_xyxy=box)


def everything(*, labelled: bool = True) -> Comparison:
    """One of each kind: place 0 kept, 1 moved by 3, 2 lost, 3 gained, 4 another class, 5 lost and no object."""
    before = [
        seen(at(0), 0.9),
        seen(at(1), 0.8),
        seen(at(2), 0.31, 1),
        seen(at(4), 0.7),
        seen(at(5), 0.3),
    ]
    after = [
        seen(at(0), 0.88),
        seen(at(1, 3), 0.7),
        seen(at(2), 0.2, 1),
        seen(at(3), 0.6, 1),
        seen(at(4), 0.65, 1),
    ]
    objects = [
        LabelledBox(class_index=label, name=NAMES[label], box_xyxy=at(place))
        for place, label in ((0, 0), (1, 0), (2, 1), (3, 1), (4, 0), (6, 1))
    ]
    return compare(before, after, conf=0.25, objects=objects if labelled else None)


def test_the_sentence_tells_what_was_lost_gained_renamed_and_moved() -> None:
    assert summary(everything(), ORIGINAL, LEVEL) == (
        "Level 5 finds 2 of the 5 objects that the original finds; lost: ring (score 0.31), disc (score 0.30); "
        "gained: ring (score 0.60); seen as another class: disc as ring; moved: 1, by up to 3 pixels."
    )


def test_the_sentence_of_less() -> None:
    assert summary(compare([], [], conf=0.25), ORIGINAL, LEVEL) == (
        "Neither the original nor level 5 finds anything at confidence 0.25."
    )
    same = [seen(at(0))]
    assert summary(compare(same, same, conf=0.25), ORIGINAL, LEVEL) == (
        "Level 5 finds 1 of the 1 object that the original finds; lost: none; gained: none."
    )
    assert summary(compare([], same, conf=0.25), ORIGINAL, LEVEL) == (
        "The original finds nothing; lost: none; gained: disc (score 0.90)."
    )


def test_many_are_counted_rather_than_named() -> None:
    many = [seen(at(place), 0.9) for place in range(8)]
    assert "lost: " + ", ".join(["disc (score 0.90)"] * 6) + " and 2 more;" in summary(
        compare(many, [], conf=0.25), ORIGINAL, LEVEL
    )


def test_names_are_no_markdown() -> None:
    odd = Detection(class_index=0, name="a *b*", score=0.9, box_xyxy=at(0))
    assert "a \\*b\\* (score 0.90)" in summary(compare([odd], [], conf=0.25), ORIGINAL, LEVEL)
    assert change_rows(compare([odd], [], conf=0.25).changes, labelled=False)[0]["Class"] == "a \\*b\\*"


def test_labels_tell_objects_from_false_alarms() -> None:
    assert summary_of_labels(everything(), ORIGINAL, LEVEL) == (
        "Of the 6 labelled objects the original finds 4 and level 5 finds 3 (same class, IoU 0.5); false alarms: 1 and 1. "
        "Of what was lost, 1 was no object."
    )
    assert summary_of_labels(everything(labelled=False), ORIGINAL, LEVEL) == ""
    alarm = compare([seen(at(0))], [], conf=0.25, objects=[])
    assert summary_of_labels(alarm, ORIGINAL, LEVEL) == (
        "Of the 0 labelled objects the original finds 0 and level 5 finds 0 (same class, IoU 0.5); false alarms: 1 and 0. "
        "All that was lost were false alarms."
    )
    assert "false alarms: 0 and 0." in summary_of_labels(compare([], [], conf=0.25, objects=[]), ORIGINAL, LEVEL)


def test_rows() -> None:
    rows = change_rows(everything().changes, labelled=True)
    assert [list(row.values()) for row in rows] == [
        ["Lost", "ring", "0.31", "0.20, too low", "", "", "labelled object"],
        ["Lost", "disc", "0.30", "not seen", "", "", "false alarm"],
        ["Gained", "ring", "not seen", "0.60", "", "", "labelled object"],
        ["Another class", "disc as ring", "0.70", "0.65", "1.00", "0.0", "right only before"],
        ["Moved", "disc", "0.80", "0.70", "0.54", "3.0", "labelled object"],
        ["Kept", "disc", "0.90", "0.88", "1.00", "0.0", "labelled object"],
    ]
    assert "By the label" not in change_rows(everything(labelled=False).changes, labelled=False)[0]
    lost_alone = change_rows(everything().of_kind("lost"), labelled=True)
    assert list(lost_alone[0]) == ["Change", "Class", "Score before", "Score after", "By the label"]
    assert change_rows([], labelled=True) == []


def test_boxes_of_each_side() -> None:
    before = boxes_of(everything(), "before", labels=False)
    after = boxes_of(everything(), "after", labels=False)
    # What matters most is drawn last.
    assert [box.kind for box in before] == ["kept", "moved", "reclassified", "gained place", "lost", "lost"]
    assert [box.kind for box in after] == ["kept", "moved", "reclassified", "gained", "lost place", "lost place"]
    assert (before[1].box_xyxy, after[1].box_xyxy) == (at(1), at(1, 3))
    assert (before[-1].tag, after[-1].tag, after[-1].box_xyxy) == ("ring 0.31", "", at(2))
    assert after[-1].hover.split("<br>") == [
        "<b>Lost</b>: ring",
        "score 0.31",
        "the other model sees it too, at 0.20",
        "by the label: labelled object",
    ]


def test_forms_are_drawn_where_they_are_seen() -> None:
    mask = Mask(outlines=(((0, 0), (9, 0), (9, 9)),))
    turned = RotatedBox(xywhr=(5, 5, 8, 4, 0.5))
    for form, in_its_place in ((mask, None), (turned, turned)):
        lost = Detection(class_index=0, name="disc", score=0.9, box_xyxy=at(0), form=form)
        label = LabelledBox(class_index=0, name="disc", box_xyxy=at(0), form=form)
        comparison = compare([lost], [], conf=0.25, objects=[label])
        assert [box.form for box in boxes_of(comparison, "before", labels=True)] == [form, form]
        # Where it is lost, only its place is shown.
        assert [box.form for box in boxes_of(comparison, "after", labels=True)] == [form, in_its_place]
    moved = [
        Detection(class_index=0, name="disc", score=0.9, box_xyxy=at(0), form=RotatedBox(xywhr=(5, y, 8, 4, 0.5)))
        for y in (5, 5.5)
    ]
    (box,) = boxes_of(compare(moved[:1], moved[1:], conf=0.25), "after", labels=False)
    assert "corners moved by up to 0.5 pixels" in box.hover


def test_a_second_box_is_neither_lost_nor_gained() -> None:
    doubled = compare([seen(at(0))], [seen(at(0), 0.8), seen(at(0, 1), 0.7)], conf=0.25)
    assert summary(doubled, ORIGINAL, LEVEL) == (
        "Level 5 finds 1 of the 1 object that the original finds; lost: none; gained: none; "
        "second boxes on one object: 0 of the original, 1 of level 5."
    )
    assert change_rows(doubled.of_kind("double"), labelled=False) == [
        {"Change": "Double", "Class": "disc", "Score before": "seen once", "Score after": "0.70"}
    ]
    sides = [[box.kind for box in boxes_of(doubled, side, labels=False)] for side in ("before", "after")]
    assert sides == [["kept"], ["kept", "double"]]
    assert [box.tag for box in boxes_of(doubled, "after", labels=False)] == ["disc 0.80", ""]


def test_labels_lie_below_and_what_is_missed_is_named() -> None:
    boxes = boxes_of(everything(), "after", labels=True)
    labels = [box for box in boxes if box.kind == "label"]
    assert boxes[: len(labels)] == labels
    assert [box.tag for box in labels] == ["", "", "missed: ring", "", "missed: disc", "missed: ring"]
    assert not [box for box in boxes_of(everything(labelled=False), "after", labels=True) if box.kind == "label"]


def test_the_legend_explains_what_is_drawn_once() -> None:
    comparison = everything()
    drawn = [boxes_of(comparison, side, labels=True) for side in ("before", "after")]
    assert kinds_drawn(*drawn) == [
        *("lost", "gained", "reclassified", "moved", "kept", "lost place", "gained place", "label")
    ]
    assert kinds_drawn([], []) == []
