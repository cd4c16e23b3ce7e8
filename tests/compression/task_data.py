"""Tiny drawn data sets of each task: bright rectangles on dark noise, with labels worked out from where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from compression.catalog import TaskName

SIZE = 64
CLASSES = ("wide", "tall")
SPLITS = {"train": 6, "val": 4}
# Of a rectangle: two opposite corners and the middle, each with its visibility.
KPT_SHAPE = (3, 3)

# The smallest model of each task: two convolutions and the head that YOLO26 has, or YOLOv8 where it has no other.
HEADS: dict[TaskName, list[Any]] = {
    "detect": ["Detect", ["nc"]],
    "segment": ["Segment26", ["nc", 8, 16]],
    "pose": ["Pose26", ["nc", "kpt_shape"]],
    "obb": ["OBB26", ["nc", 1]],
    "classify": ["Classify", ["nc"]],
}

Points = NDArray[np.float64]


def draw(folder: Path, task: TaskName) -> Path:
    """Draw a data set of a task; gives what `--data` takes."""
    random = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for number in range(count):
            kind = number % len(CLASSES)
            image, corners = _scene(random, kind)
            if task == "classify":
                place = folder / split / CLASSES[kind]
                place.mkdir(parents=True, exist_ok=True)
                image.save(place / f"{number}.png")
                continue
            for name in ("images", "labels"):
                (folder / name / split).mkdir(parents=True, exist_ok=True)
            image.save(folder / "images" / split / f"{number}.png")
            values = " ".join(f"{value:.5f}" for value in label(corners, task))
            (folder / "labels" / split / f"{number}.txt").write_text(f"{kind} {values}\n")
    if task == "classify":
        return folder
    content: dict[str, Any] = {"train": "images/train", "val": "images/val", "names": list(CLASSES)}
    if task == "pose":
        content |= {"kpt_shape": list(KPT_SHAPE), "flip_idx": list(range(KPT_SHAPE[0]))}
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def architecture(folder: Path, task: TaskName) -> Path:
    """The yaml of that model."""
    name, arguments = HEADS[task]
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    head = [[-1] if task != "classify" else -1, 1, name, arguments]
    levels = {} if task == "classify" else {"end2end": True, "reg_max": 1}
    content = {"nc": 80, "kpt_shape": [17, 3], **levels, "backbone": rows, "head": [head]}
    file = folder / f"tiny-{task}.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def label(corners: Points, task: TaskName) -> list[float]:
    """What stands behind the class in a label file, of corners [4, 2] as parts of the image."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    box = [*(low + high) / 2, *(high - low)]
    if task in ("segment", "obb"):
        return corners.ravel().tolist()
    points = [corners[0], corners[2], (low + high) / 2]
    return [*box, *(value for point in points for value in (*point, 2.0))] if task == "pose" else box


def _scene(random: np.random.Generator, kind: int) -> tuple[Image.Image, Points]:
    """An image of one rectangle, and its corners [4, 2] as parts of the image."""
    noise = random.integers(0, 60, (SIZE, SIZE, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    half = np.array([18.0, 9.0] if kind == 0 else [9.0, 18.0])
    angle = random.uniform(-0.3, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    corners = square @ turn.T + random.uniform(26, 38, 2)
    ImageDraw.Draw(image).polygon([tuple(point) for point in corners], fill=(220, 200, 40))
    return image, corners / SIZE
