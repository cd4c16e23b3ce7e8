"""What a YOLO can be made for, and what its accuracies are called.

A record has the same four slots for every task. `map50_95` holds the main accuracy and `map50` the second; of a
classifier these are its top-1 and its top-5 accuracy, and it has no precision and no recall. Wherever an accuracy is
shown it is called by the names here.

Importing this module imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from compression.catalog import TaskName


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task and the names of its accuracies.

    Attributes:
        name: as Ultralytics calls it.
        noun: what a sentence calls a model of it.
        predicts: what is found in an image, in the plural.
        labels: what its label files, or folders, hold.
        suffix: of the names of architectures.
        what: what accuracies are of, "mask ", before their names.
        main: name of the main accuracy.
        second: of the second.
        results: the columns of Ultralytics' results.csv that hold main, second, precision and recall; None for none.
    """

    name: TaskName
    noun: str
    predicts: str
    labels: str
    suffix: str
    what: str
    main: str
    second: str
    results: tuple[str, str, str | None, str | None]


def _of_boxes(name: TaskName, noun: str, predicts: str, labels: str, suffix: str, what: str, letter: str) -> Task:
    main, second, precision, recall = (
        f"metrics/{each}({letter})" for each in ("mAP50-95", "mAP50", "precision", "recall")
    )
    return Task(
        name=name,
        noun=noun,
        predicts=predicts,
        labels=labels,
        suffix=suffix,
        what=what,
        main=f"{what}mAP50-95",
        second=f"{what}mAP50",
        results=(main, second, precision, recall),
    )


TASKS: dict[TaskName, Task] = {
    "detect": _of_boxes("detect", "detector", "boxes", "boxes", "", "", "B"),
    "segment": _of_boxes("segment", "segmentation model", "masks", "polygons", "-seg", "mask ", "M"),
    "pose": _of_boxes("pose", "pose model", "key points", "key points (`kpt_shape`)", "-pose", "pose ", "P"),
    "obb": _of_boxes("obb", "model of rotated boxes", "rotated boxes", "four corners", "-obb", "rotated ", "B"),
    "classify": Task(
        name="classify",
        noun="classifier",
        predicts="classes of whole images",
        labels="a folder for each class",
        suffix="-cls",
        what="",
        main="top-1",
        second="top-5",
        results=("metrics/accuracy_top1", "metrics/accuracy_top5", None, None),
    ),
}


def accuracy_names(task: TaskName) -> dict[str, str]:
    """What the slots of a record's accuracies are called, the main one first; without those it does not have."""
    known = TASKS[task]
    names = {"map50_95": known.main, "map50": known.second}
    if task != "classify":
        names |= {name: f"{known.what}{name}".capitalize() for name in ("precision", "recall")}
    return names


def head_in_words(task: TaskName, head: str) -> str:
    """ "e2e head": whose predictions were measured; a classifier has one head, and no choice."""
    return "class scores" if task == "classify" else f"{head} head"
