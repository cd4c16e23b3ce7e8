"""What the page Detections says about two models on one image: sentences, rows of a table, and boxes to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cache.series import capitalized
from compression.accuracy.detection_changes import KINDS, SAME_OBJECT_IOU, Change, ChangeKind, Comparison
from compression.accuracy.detections import Box, Detection, LabelledBox
from compression.accuracy.forms import KEY_POINT_CONF, Form, RotatedBox
from compression.catalog import TaskName
from pages.parts.jobs.runs import plain

Side = Literal["before", "after"]
# Besides the changes themselves: places where only the other model sees something, and labelled objects.
BoxKind = ChangeKind | Literal["lost place", "gained place", "label"]

# A sentence names so many detections, and counts them beyond.
MOST_NAMED = 6
NONE = "none"

KIND_WORDS: dict[ChangeKind, str] = {
    "lost": "Lost",
    "gained": "Gained",
    "reclassified": "Another class",
    "moved": "Moved",
    "double": "Double",
    "kept": "Kept",
}
_PLACES: dict[ChangeKind, BoxKind] = {"lost": "lost place", "gained": "gained place"}
# What is drawn of each task, and what decides which detections of two models are of one object.
_TELL = "tell what was lost, gained and moved"
_SAME = f"from an IoU of {SAME_OBJECT_IOU:g} on two of one class are one object"
MATCHED_BY: dict[TaskName, str] = {
    "detect": f"Boxes {_TELL}: {_SAME}.",
    "segment": f"Masks are drawn, and their boxes {_TELL}: {_SAME}.",
    "pose": f"Key points of a confidence of {KEY_POINT_CONF:g} or more are drawn, and their boxes {_TELL}: {_SAME}.",
    "obb": f"Rotated boxes {_TELL}: {_SAME}, by the IoU of rotated boxes that Ultralytics measures with (ProbIoU).",
}
LABEL_WORDS = {True: "labelled object", False: "false alarm"}


@dataclass(frozen=True, kw_only=True)
class DrawnBox:
    """A box to draw on an image.

    Attributes:
        kind: decides its colour.
        box_xyxy: pixels of the image.
        form: what is drawn with the box, or in place of it where that is rotated.
        tag: what stands at the box; empty for nothing.
        hover: what is said when the pointer is on it, lines separated by <br>.
    """

    kind: BoxKind
    box_xyxy: Box
    form: Form | None = None
    tag: str
    hover: str


def summary(comparison: Comparison, before: str, after: str) -> str:
    """One sentence: how much of what one model finds the other finds too, and what was lost and gained.

    Args:
        comparison: both on one image.
        before: the first model as it is called within a sentence, as in "the original".
        after: the second one likewise.
    """
    seen_before = [change for change in comparison.changes if change.before and change.kind != "double"]
    if not comparison.changes:
        return f"Neither {before} nor {after} finds anything at confidence {comparison.conf:.2f}."
    lost, gained = comparison.of_kind("lost"), comparison.of_kind("gained")
    if seen_before:
        kept = comparison.of_kind("moved", "kept")
        parts = [f"{capitalized(after)} finds {len(kept)} of the {_objects(len(seen_before))} that {before} finds"]
    else:
        parts = [f"{capitalized(before)} finds nothing"]
    parts += [f"lost: {_named(lost)}", f"gained: {_named(gained)}"]
    renamed = comparison.of_kind("reclassified")
    if renamed:
        parts.append(f"seen as another class: {_listed([_renaming(change) for change in renamed])}")
    moved = comparison.of_kind("moved")
    if moved:
        farthest = max(change.moved_px or 0.0 for change in moved)
        parts.append(f"moved: {len(moved)}, by up to {farthest:.0f} pixels")
    doubles = comparison.of_kind("double")
    if doubles:
        by_first = sum(change.before is not None for change in doubles)
        parts.append(f"second boxes on one object: {by_first} of {before}, {len(doubles) - by_first} of {after}")
    return "; ".join(parts) + "."


def summary_of_labels(comparison: Comparison, before: str, after: str) -> str:
    """What the labels say of both models; empty where no labels are known."""
    objects = comparison.objects
    if objects is None:
        return ""
    alarms = [
        sum(is_true is False for is_true in truths)
        for truths in zip(*((change.true_before, change.true_after) for change in comparison.changes), strict=True)
    ] or [0, 0]
    lost = [change.true_before for change in comparison.of_kind("lost")]
    text = (
        f"Of the {_objects(len(objects), 'labelled ')} {before} finds {sum(one.before for one in objects)} and {after} "
        f"finds {sum(one.after for one in objects)} (same class, IoU {SAME_OBJECT_IOU:g}); false alarms: {alarms[0]} "
        f"and {alarms[1]}."
    )
    if lost and not any(lost):
        text += " All that was lost were false alarms."
    elif not all(lost):
        text += f" Of what was lost, {lost.count(False)} {'were' if lost.count(False) > 1 else 'was'} no object."
    return text


def change_rows(changes: Sequence[Change], *, labelled: bool) -> list[dict[str, str]]:
    """The rows of the table of changes; columns of what only boxes of both models have are left out where none are.

    Args:
        changes: of one image.
        labelled: its labels are known.
    """
    paired = any(change.iou is not None for change in changes)
    return [
        {
            "Change": KIND_WORDS[change.kind],
            "Class": _classes(change),
            "Score before": _score(change, "before"),
            "Score after": _score(change, "after"),
            **(_of_both(change) if paired else {}),
            **({"By the label": _by_label(change)} if labelled else {}),
        }
        for change in changes
    ]


def boxes_of(comparison: Comparison, side: Side, *, labels: bool) -> list[DrawnBox]:
    """What to draw on the image of one model, what matters most last, so that it lies on top.

    Args:
        comparison: both models on one image.
        side: whose image.
        labels: draw the labelled objects too.
    """
    boxes = [_label_box(comparison, index, side) for index in range(len(comparison.objects or ()))] if labels else []
    for change in reversed(comparison.changes):
        own = getattr(change, side)
        if own is not None:
            # A double's tag would lie on that of the box that it doubles.
            tag = "" if change.kind == "double" else _tag(own)
            boxes.append(_drawn(change.kind, own, tag=tag, hover=_hover(change)))
        elif change.kind in _PLACES:
            boxes.append(_drawn(_PLACES[change.kind], change.shown, tag="", hover=_hover(change)))
    return boxes


def kinds_drawn(*sides: Sequence[DrawnBox]) -> list[BoxKind]:
    """What a legend has to explain, each once."""
    drawn = {box.kind for boxes in sides for box in boxes}
    order: tuple[BoxKind, ...] = (*KINDS, "lost place", "gained place", "label")
    return [kind for kind in order if kind in drawn]


def _drawn(kind: BoxKind, one: LabelledBox, *, tag: str, hover: str) -> DrawnBox:
    # Where nothing is seen, a mask or key points would look as if it were; the box says where.
    form = None if kind in _PLACES.values() and not isinstance(one.form, RotatedBox) else one.form
    return DrawnBox(kind=kind, box_xyxy=one.box_xyxy, form=form, tag=tag, hover=hover)


def _objects(number: int, what: str = "") -> str:
    return f"{number} {what}object{'s' * (number != 1)}"


def _named(changes: Sequence[Change]) -> str:
    return _listed([f"{plain(change.shown.name)} (score {change.shown.score:.2f})" for change in changes])


def _renaming(change: Change) -> str:
    assert change.before is not None
    assert change.after is not None
    return f"{plain(change.before.name)} as {plain(change.after.name)}"


def _listed(texts: Sequence[str]) -> str:
    if len(texts) > MOST_NAMED:
        return f"{', '.join(texts[:MOST_NAMED])} and {len(texts) - MOST_NAMED} more"
    return ", ".join(texts) or NONE


def _classes(change: Change) -> str:
    return _renaming(change) if change.kind == "reclassified" else plain(change.shown.name)


def _score(change: Change, side: Side) -> str:
    seen: Detection | None = getattr(change, side)
    if seen:
        return f"{seen.score:.2f}"
    if change.kind == "double":
        return "seen once"
    return f"{change.faint.score:.2f}, too low" if change.faint else "not seen"


def _of_both(change: Change) -> dict[str, str]:
    return {
        "IoU of both": "" if change.iou is None else f"{change.iou:.2f}",
        "Moved by, px": "" if change.moved_px is None else f"{change.moved_px:.1f}",
    }


def _by_label(change: Change) -> str:
    truths = [is_true for is_true in (change.true_before, change.true_after) if is_true is not None]
    if len(set(truths)) == 1:
        return LABEL_WORDS[truths[0]]
    return "right only before" if change.true_before else "right only after"


def _tag(seen: Detection) -> str:
    return f"{seen.name} {seen.score:.2f}"


def _hover(change: Change) -> str:
    lines = [f"<b>{KIND_WORDS[change.kind]}</b>: {change.shown.name}"]
    if change.before and change.after:
        lines.append(f"score {change.before.score:.2f} → {change.after.score:.2f}, IoU of both {change.iou:.2f}")
        what = "corners" if isinstance(change.after.form, RotatedBox) else "edges"
        lines.append(f"{what} moved by up to {change.moved_px:.1f} pixels")
    else:
        lines.append(f"score {change.shown.score:.2f}")
    if change.faint:
        lines.append(f"the other model sees it too, at {change.faint.score:.2f}")
    if change.true_before is not None or change.true_after is not None:
        lines.append(f"by the label: {_by_label(change)}")
    return "<br>".join(lines)


def _label_box(comparison: Comparison, index: int, side: Side) -> DrawnBox:
    assert comparison.objects is not None
    one = comparison.objects[index]
    found = getattr(one, side)
    return _drawn(
        "label",
        one.box,
        tag="" if found else f"missed: {one.box.name}",
        hover=f"<b>Label</b>: {one.box.name}, {'found' if found else 'missed'}",
    )
