"""Validation images of a data set with their labels in pixels, and one drawn image that no data set holds.

Importing this module imports no torch; listing images of a data set does, since Ultralytics says where they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compression.accuracy.detections import Box, LabelledBox
from compression.accuracy.forms import Form, labelled_points, mask_of, rotated_box
from compression.catalog import TaskName
from compression.data import shapes
from compression.data.dataset import find_content
from compression.data.dataset_check import ImagePair, image_pairs
from compression.errors import DatasetError


class Labels(NamedTuple):
    """What is labelled on an image.

    Attributes:
        width: of the upright image, pixels.
        height: likewise.
        objects: the labelled objects.
    """

    width: int
    height: int
    objects: list[LabelledBox]


@dataclass(frozen=True, kw_only=True)
class ValidationImages:
    """The validation images of a data set, or of some of its classes.

    Attributes:
        names: class names by index, numbered as a model of those classes predicts them.
        pairs: images and label files by name, in the order of the names.
        classes: indices, in the label files, of the only classes that count; in the order of `names`.
        n_labelled: number of classes that the label files know.
        kpt_shape: key points and values of each, where labels carry them behind the box.
        task: whose form the labels take; boxes are read from all of them.
    """

    names: dict[int, str]
    pairs: dict[str, ImagePair]
    classes: tuple[int, ...]
    n_labelled: int
    kpt_shape: tuple[int, int]
    task: TaskName = "detect"

    def file(self, name: str) -> Path:
        """The image of that name."""
        return Path(self.pairs[name].image)

    def labels(self, name: str) -> Labels:
        """What is labelled on an image, read as Ultralytics reads it for the task: the boxes, and where they hold it,
        masks, key points or rotated boxes.

        Raises:
            DatasetError: the image or its label file cannot be used.
        """
        from ultralytics.data.utils import verify_image_label

        pair = self.pairs[name]
        has_points = self.task == "pose" and all(self.kpt_shape)
        found = verify_image_label((pair.image, pair.label, "", has_points, self.n_labelled, *self.kpt_shape, False))
        # [n, 5]: class, centre x, centre y, width, height; (H, W); n outlines [N, 2]; [n, points, 3]
        rows, size, outlines, points = found[1:5]
        if rows is None:
            reason = str(found[-1]).rpartition("ignoring corrupt image/label: ")[2].split("\n", 1)[0].rstrip(".")
            raise DatasetError(f"The image {pair.image} or its label cannot be used ({reason}); correct or remove it.")
        height, width = size
        new_index = {old: new for new, old in enumerate(self.classes)}
        forms: Sequence[Form | None] = _forms(self.task, outlines, points, width, height) or [None] * len(rows)
        objects = [
            _labelled(new_index[int(row[0])], self.names, row[1:], width, height, form)
            for row, form in zip(rows.tolist(), forms, strict=True)
            if int(row[0]) in new_index
        ]
        return Labels(width, height, objects)


def validation_images(data: str, classes: tuple[int, ...] = (), task: TaskName = "detect") -> ValidationImages:
    """Find the validation images of a data set, without a download and without looking into them.

    Args:
        data: "shapes", which is drawn if need be, a known name, a data.yaml, or a folder that holds one.
        classes: indices of the only classes that count; none stands for all.
        task: whose form the labels take.

    Raises:
        DatasetError: there is no such data set, or its images are not on this machine.
    """
    yaml_file, content = find_content(data)
    places = content["val"]
    pairs = image_pairs(yaml_file, "val", places if isinstance(places, list) else [places])
    # Images of different folders may have equal names.
    times = Counter(pair.name for pair in pairs)
    kept = classes or tuple(sorted(content["names"]))
    n_points, n_values = content.get("kpt_shape") or (0, 0)
    return ValidationImages(
        names={new: str(content["names"][old]) for new, old in enumerate(kept)},
        pairs={pair.name if times[pair.name] == 1 else Path(pair.image).as_posix(): pair for pair in pairs},
        classes=kept,
        n_labelled=len(content["names"]),
        kpt_shape=(n_points, n_values),
        task=task,
    )


@lru_cache(maxsize=1)
def drawn_sample() -> tuple[Image.Image, list[LabelledBox]]:
    """An image as those of `shapes` with its labels, which is in neither of its splits; drawn in a moment."""
    number = list(shapes.SPLITS).index("val")
    scene = shapes.draw_scene((shapes.SEED, number, shapes.SPLITS["val"]))
    names = dict(enumerate(shapes.CLASSES))
    height, width, _ = scene.image.shape
    labels = [
        _labelled(label, names, box, width, height)
        for label, box in zip(scene.classes, scene.boxes_cxcywh, strict=True)
    ]
    return Image.fromarray(scene.image), labels


def _forms(
    task: TaskName,
    outlines: Sequence[NDArray[np.float32]],
    points: NDArray[np.float32] | None,
    width: int,
    height: int,
) -> list[Form]:
    """What is labelled besides boxes, as parts of the image's width and height; nothing where the task needs none."""
    if task == "pose" and points is not None:
        return [labelled_points(rows, width, height) for rows in points.tolist()]
    in_pixels = [each * np.array([width, height], dtype=np.float32) for each in outlines]
    if task == "segment":
        return [mask_of([each], (width, height)) for each in in_pixels]
    return [rotated_box(each) for each in in_pixels] if task == "obb" else []


def _labelled(
    index: int,
    names: dict[int, str],
    box_cxcywh: Sequence[float],
    width: int,
    height: int,
    form: Form | None = None,
) -> LabelledBox:
    """A label with its box in pixels; centre and size are parts of the image's width and height."""
    x, y, w, h = box_cxcywh
    box: Box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return LabelledBox(class_index=index, name=names[index], box_xyxy=box, form=form)
