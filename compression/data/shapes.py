"""The built-in dataset `shapes`: drawn on first use, the same pixels for the same seed.

Ten classes that only shape and texture tell apart (colour says nothing), at sizes from 12 to 110 pixels, rotated,
overlapping, partly hidden by unlabelled clutter, under uneven light and sensor noise. It exists so that a newcomer can
measure a compressed detector without downloading anything.

Shapes are drawn from signed distance functions (distance to the outline in pixels, negative inside), after
https://iquilezles.org/articles/distfunctions2d/, so that edges are anti-aliased at any rotation.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Sdf = Callable[[Array, Array, float], Array]
Texture = Callable[[Array, Array, float], Array]

# Raise whenever a pixel or a label of the dataset changes: results on another version do not compare.
VERSION = 1
IMAGE_SIZE = 320
SPLITS = {"train": 500, "val": 150}
SEED = 20260522
JPEG_QUALITY = 92

# A shape counts as present while this part of its area can still be seen; a newcomer that hides more is not placed.
MIN_VISIBLE = 0.45
SMALL_RADIUS = (6.0, 12.0)
LARGE_RADIUS = (12.0, 55.0)
SMALL_SHARE = 0.4


def _disc(x: Array, y: Array, r: float) -> Array:
    return np.hypot(x, y) - r


def _ring(x: Array, y: Array, r: float) -> Array:
    return np.abs(np.hypot(x, y) - 0.76 * r) - 0.24 * r


def _square(x: Array, y: Array, r: float) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - 0.84 * r


def _polygon(x: Array, y: Array, r: float, corners: list[tuple[float, float]]) -> Array:
    """Signed distance to a simple polygon whose corners are given in units of `r`."""
    points = np.asarray(corners) * r
    distance = np.full_like(x, np.inf)
    inside = np.zeros_like(x, dtype=bool)
    for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        distance = np.minimum(distance, np.hypot(x - ax - along * ex, y - ay - along * ey))
        if ey != 0.0:
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + (y - ay) * ex / ey)
    return np.where(inside, -distance, distance)


def _spokes(n_points: int, inner: float) -> list[tuple[float, float]]:
    """Corners of a regular star (or polygon, `inner` = cos(pi / n_points)) on the unit circle."""
    corners = []
    for i in range(2 * n_points):
        radius = 1.0 if i % 2 == 0 else inner
        angle = np.pi * i / n_points - np.pi / 2
        corners.append((radius * float(np.cos(angle)), radius * float(np.sin(angle))))
    return corners


_TRIANGLE = [(0.0, -1.0), (0.87, 0.5), (-0.87, 0.5)]
_STAR = _spokes(5, 0.42)


def _triangle(x: Array, y: Array, r: float) -> Array:
    return _polygon(x, y, r, _TRIANGLE)


def _star(x: Array, y: Array, r: float) -> Array:
    return _polygon(x, y, r, _STAR)


def _cross(x: Array, y: Array, r: float) -> Array:
    ax, ay = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(ax - r, ay - 0.3 * r), np.maximum(ax - 0.3 * r, ay - r))


def _crescent(x: Array, y: Array, r: float) -> Array:
    return np.maximum(np.hypot(x, y) - r, 0.8 * r - np.hypot(x - 0.5 * r, y))


def _plain(x: Array, y: Array, r: float) -> Array:
    return np.zeros_like(x)


def _stripes(x: Array, y: Array, r: float) -> Array:
    return (np.sin(x * (2.5 * np.pi / r)) > 0).astype(np.float64)


def _checks(x: Array, y: Array, r: float) -> Array:
    return ((np.sin(x * (2 * np.pi / r)) > 0) ^ (np.sin(y * (2 * np.pi / r)) > 0)).astype(np.float64)


def _dots(x: Array, y: Array, r: float) -> Array:
    return ((np.cos(x * (3 * np.pi / r)) + np.cos(y * (3 * np.pi / r))) > 0.5).astype(np.float64)


# Class name -> outline and texture. The order is the class index.
CLASSES: dict[str, tuple[Sdf, Texture]] = {
    "disc": (_disc, _plain),
    "striped disc": (_disc, _stripes),
    "ring": (_ring, _plain),
    "square": (_square, _plain),
    "checked square": (_square, _checks),
    "triangle": (_triangle, _plain),
    "dotted triangle": (_triangle, _dots),
    "cross": (_cross, _plain),
    "star": (_star, _plain),
    "crescent": (_crescent, _plain),
}
_OUTLINES = list(CLASSES.values())


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One drawn image with its labels.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        classes: class indices, one a box.
        boxes_cxcywh: centre and size of each box as parts of the image's width and height.
    """

    image: NDArray[np.uint8]
    classes: list[int]
    boxes_cxcywh: list[tuple[float, float, float, float]]


class _Canvas:
    """An image under construction, and which labelled shape owns each pixel."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self.pixels = _background(rng, size)
        self.owner = np.full((size, size), -1, dtype=np.int64)
        self.areas: list[int] = []
        self.classes: list[int] = []
        self.boxes: list[tuple[float, float, float, float]] = []

    def add_shape(self, label: int, radius: float) -> bool:
        """Draw a labelled shape at a random place; False if it would hide another one or itself leave the image."""
        cx, cy = self.rng.uniform(0.6 * radius, self.size - 0.6 * radius, size=2)
        outline, texture = _OUTLINES[label]
        window, x, y = self._local(cx, cy, radius)
        alpha = np.clip(0.5 - outline(x, y, radius), 0.0, 1.0)
        solid = alpha > 0.5
        if not solid.any() or self._hides_too_much(window, solid):
            return False
        self._paint(window, alpha, texture(x, y, radius))
        self.owner[window][solid] = len(self.areas)
        self.areas.append(int(solid.sum()))
        self.classes.append(label)
        self.boxes.append(self._box(window, solid))
        return True

    def add_clutter(self) -> None:
        """Draw an unlabelled bar or blob, which may hide part of a shape."""
        length = self.rng.uniform(8.0, 60.0)
        width = self.rng.uniform(1.5, 5.0) if self.rng.random() < 0.7 else 0.35 * length
        cx, cy = self.rng.uniform(0, self.size, size=2)
        window, x, y = self._local(cx, cy, length)
        if width < 6.0:
            distance = np.maximum(np.abs(x) - length, np.abs(y) - width)
        else:
            distance = (np.hypot(x / length, y / width) - 1.0) * min(length, width)
        alpha = np.clip(0.5 - distance, 0.0, 1.0)
        solid = alpha > 0.5
        if solid.any() and not self._hides_too_much(window, solid):
            self._paint(window, alpha, np.zeros_like(alpha))
            self.owner[window][solid] = -1

    def _local(self, cx: float, cy: float, radius: float) -> tuple[tuple[slice, slice], Array, Array]:
        """The pixels around a centre and their coordinates in a randomly rotated frame."""
        reach = int(np.ceil(1.45 * radius)) + 2
        left, top = max(int(cx) - reach, 0), max(int(cy) - reach, 0)
        right, bottom = min(int(cx) + reach, self.size), min(int(cy) + reach, self.size)
        dx, dy = np.arange(left, right) + 0.5 - cx, (np.arange(top, bottom) + 0.5 - cy)[:, None]
        angle = self.rng.uniform(0.0, 2 * np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        return (slice(top, bottom), slice(left, right)), cos * dx + sin * dy, cos * dy - sin * dx

    def _hides_too_much(self, window: tuple[slice, slice], solid: NDArray[np.bool_]) -> bool:
        covered = np.bincount(self.owner[window][solid] + 1, minlength=len(self.areas) + 1)[1:]
        if not covered.any():
            return False
        visible = np.bincount(self.owner.ravel() + 1, minlength=len(self.areas) + 1)[1:]
        return bool(np.any((covered > 0) & (visible - covered < MIN_VISIBLE * np.asarray(self.areas))))

    def _paint(self, window: tuple[slice, slice], alpha: Array, texture: Array) -> None:
        behind = self.pixels[window]
        colour, second = _contrasting_colours(self.rng, behind.mean(axis=(0, 1)))
        touched = alpha > 0
        opacity, below = alpha[touched, None], behind[touched]
        fill = colour + texture[touched, None] * (second - colour)
        behind[touched] = below + opacity * (fill - below)

    def _box(self, window: tuple[slice, slice], solid: NDArray[np.bool_]) -> tuple[float, float, float, float]:
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        top, bottom = window[0].start + rows[0], window[0].start + rows[-1] + 1
        left, right = window[1].start + columns[0], window[1].start + columns[-1] + 1
        return (
            float(left + right) / 2 / self.size,
            float(top + bottom) / 2 / self.size,
            float(right - left) / self.size,
            float(bottom - top) / self.size,
        )


def _background(rng: np.random.Generator, size: int) -> Array:
    """Smooth coloured clouds of several scales, float [size, size, 3] in [0, 1]."""
    # Built column by column, each contiguous in memory: several times faster than gathering pixels row by row.
    columns = np.tile(rng.uniform(0.2, 0.75, size=3), (size, size, 1))
    for cells, strength in ((3, 0.18), (8, 0.10), (32, 0.06)):
        grid = rng.uniform(-strength, strength, size=(cells + 1, cells + 1, 3))
        at = np.linspace(0, cells, size, endpoint=False)
        low = at.astype(int)
        part = at - low
        down = part[:, None, None]
        lines = (grid[low] * (1 - down) + grid[low + 1] * down).swapaxes(0, 1).copy()  # [cells + 1, size, 3]
        for column, cell, right in zip(columns, low.tolist(), part.tolist(), strict=True):
            column += lines[cell] * (1 - right) + lines[cell + 1] * right
    np.clip(columns, 0.0, 1.0, out=columns)
    return np.ascontiguousarray(columns.swapaxes(0, 1))


def _contrasting_colours(rng: np.random.Generator, behind: Array) -> tuple[Array, Array]:
    """Two colours that differ visibly from what lies behind and from each other."""
    while True:
        colour, second = rng.uniform(0.0, 1.0, size=(2, 3))
        if np.abs(colour - behind).mean() > 0.15 and np.abs(colour - second).mean() > 0.25:
            return colour, second


def _expose(rng: np.random.Generator, pixels: Array) -> NDArray[np.uint8]:
    """Uneven light, then sensor noise."""
    size = pixels.shape[0]
    along = np.arange(size) / size - 0.5
    y, x = along[:, None], along
    angle = rng.uniform(0.0, 2 * np.pi)
    slope = rng.uniform(0.0, 0.7) * (np.cos(angle) * x + np.sin(angle) * y)
    light = rng.uniform(0.7, 1.1) + slope
    noisy = pixels * np.repeat(light, 3, axis=1).reshape(pixels.shape)  # faster than to broadcast over 3 channels
    noisy += rng.normal(0.0, rng.uniform(0.01, 0.06), size=pixels.shape)
    np.clip(noisy, 0.0, 1.0, out=noisy)
    noisy *= 255
    return np.rint(noisy, out=noisy).astype(np.uint8)


def draw_scene(seed: tuple[int, ...], size: int = IMAGE_SIZE) -> Scene:
    """Draw one image.

    Args:
        seed: entropy of the random generator; the same seed gives the same scene.
        size: width and height in pixels.
    """
    rng = np.random.default_rng(seed)
    canvas = _Canvas(rng, size)
    for _ in range(int(rng.integers(3, 9))):
        canvas.add_clutter()
    for _ in range(int(rng.integers(4, 13))):
        low, high = SMALL_RADIUS if rng.random() < SMALL_SHARE else LARGE_RADIUS
        canvas.add_shape(int(rng.integers(len(CLASSES))), float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    for _ in range(int(rng.integers(2, 6))):
        canvas.add_clutter()
    return Scene(image=_expose(rng, canvas.pixels), classes=canvas.classes, boxes_cxcywh=canvas.boxes)


def fingerprint(splits: dict[str, int] = SPLITS) -> str:
    """Sha256 of what decides every pixel and label, so that it is equal on every machine."""
    identity = {"name": "shapes", "version": VERSION, "seed": SEED, "size": IMAGE_SIZE, "splits": splits}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def draw_dataset(folder: Path, splits: dict[str, int] = SPLITS) -> Path:
    """Draw the dataset into `folder` unless it is already there, and return its data.yaml.

    The folder appears whole or not at all: it is drawn under another name and renamed, so that two processes on a first
    visit cannot see half of it.

    Args:
        folder: where the dataset shall lie; its parent is created.
        splits: number of images of each split.
    """
    if (folder / "data.yaml").is_file():
        return folder / "data.yaml"
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    for number, (split, n_images) in enumerate(splits.items()):
        _draw_split(draft, split, number, n_images)
    data = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(CLASSES))}
    (draft / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    try:
        os.rename(draft, folder)
    except OSError:
        shutil.rmtree(draft)
        if not (folder / "data.yaml").is_file():
            raise
    return folder / "data.yaml"


def _draw_split(folder: Path, split: str, number: int, n_images: int) -> None:
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)

    def draw(index: int) -> None:
        scene = draw_scene((SEED, number, index))
        Image.fromarray(scene.image).save(images / f"{index:04d}.jpg", quality=JPEG_QUALITY)
        lines = [
            " ".join([str(label), *(f"{part:.5f}" for part in box)])
            for label, box in zip(scene.classes, scene.boxes_cxcywh, strict=True)
        ]
        (labels / f"{index:04d}.txt").write_text("\n".join(lines))

    with ThreadPoolExecutor() as threads:
        list(threads.map(draw, range(n_images)))
