"""The built-in data set: the same everywhere, well labelled, hard enough, and never half there."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from compression.data import shapes
from compression.data.shapes import CLASSES, IMAGE_SIZE, SEED, SPLITS, Scene, draw_dataset, draw_scene, fingerprint


@functools.cache
def scenes() -> list[Scene]:
    return [draw_scene((SEED, 0, index)) for index in range(20)]


def boxes() -> np.ndarray:
    """All boxes of the scenes as [N, 4], cx, cy, width, height."""
    return np.array([box for scene in scenes() for box in scene.boxes_cxcywh])


# Scenes


def test_labels_are_the_known_ones() -> None:
    # Cached results hold for these labels; another hash needs another VERSION.
    text = ";".join(
        f"{label} " + " ".join(f"{part:.5f}" for part in box)
        for scene in scenes()[:4]
        for label, box in zip(scene.classes, scene.boxes_cxcywh, strict=True)
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "96bfb8de2e4dc86b"


def test_pixels_are_the_known_ones() -> None:
    # The last bit of a sine or a logarithm differs between machines, so the pixels are compared by their means.
    means = [scene.image.mean(axis=(0, 1)).round(1).tolist() for scene in scenes()[:2]]
    np.testing.assert_allclose(means, [[150.0, 121.3, 116.2], [86.0, 154.8, 105.5]], atol=0.2)


def test_same_seed_same_scene() -> None:
    again = draw_scene((SEED, 0, 3))
    assert np.array_equal(again.image, scenes()[3].image)
    assert again.boxes_cxcywh == scenes()[3].boxes_cxcywh
    assert not np.array_equal(draw_scene((SEED, 1, 3)).image, again.image)


def test_scene_form() -> None:
    for scene in scenes():
        assert scene.image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
        assert scene.image.dtype == np.uint8
        assert len(scene.classes) == len(scene.boxes_cxcywh)
        assert len(scene.classes) > 0


def test_every_class_appears() -> None:
    assert len(CLASSES) >= 8
    assert {label for scene in scenes() for label in scene.classes} == set(range(len(CLASSES)))


def test_boxes_lie_inside() -> None:
    low, high = boxes()[:, :2] - boxes()[:, 2:] / 2, boxes()[:, :2] + boxes()[:, 2:] / 2
    assert low.min() >= 0
    assert high.max() <= 1
    assert boxes()[:, 2:].min() > 0


def test_small_and_large_objects_exist() -> None:
    longest = boxes()[:, 2:].max(axis=1) * IMAGE_SIZE
    assert longest.min() < 20
    assert longest.max() > 80
    assert (longest < 32).mean() > 0.2


def test_objects_overlap() -> None:
    def overlaps(scene: Scene) -> bool:
        for i, (ax, ay, aw, ah) in enumerate(scene.boxes_cxcywh):
            for bx, by, bw, bh in scene.boxes_cxcywh[:i]:
                if abs(ax - bx) * 2 < aw + bw and abs(ay - by) * 2 < ah + bh:
                    return True
        return False

    assert sum(map(overlaps, scenes())) >= 5


# Placing


def one_shape(label: int, radius: float) -> shapes._Canvas:
    """A canvas that holds nothing but one shape."""
    canvas = shapes._Canvas(np.random.default_rng(1), IMAGE_SIZE)
    assert canvas.add_shape(label, radius)
    return canvas


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_boxes_are_tight_around_what_was_drawn(label: int) -> None:
    canvas = one_shape(label, 30.0)
    rows, columns = np.nonzero(canvas.owner == 0)
    top, bottom = rows.min() / IMAGE_SIZE, (rows.max() + 1) / IMAGE_SIZE
    left, right = columns.min() / IMAGE_SIZE, (columns.max() + 1) / IMAGE_SIZE
    cx, cy, width, height = canvas.boxes[0]
    np.testing.assert_allclose(
        [cx - width / 2, cx + width / 2, cy - height / 2, cy + height / 2], [left, right, top, bottom], atol=1e-9
    )


def test_box_counts_the_hidden_part() -> None:
    canvas = one_shape(0, 30.0)
    before = canvas.boxes[0]
    for _ in range(40):
        canvas.add_clutter()
    assert canvas.boxes[0] == before
    visible = int((canvas.owner == 0).sum())
    assert shapes.MIN_VISIBLE * canvas.areas[0] <= visible < canvas.areas[0]


def test_what_would_hide_a_shape_is_not_placed() -> None:
    canvas = one_shape(0, 30.0)
    window = (slice(0, IMAGE_SIZE), slice(0, IMAGE_SIZE))
    shape = canvas.owner == 0
    assert canvas._hides_too_much(window, shape)
    assert not canvas._hides_too_much(window, ~shape)


# The folder


def test_folder_is_ultralytics_form(tiny_shapes: Path) -> None:
    content = yaml.safe_load(tiny_shapes.read_text())
    assert list(content["names"].values()) == list(CLASSES)
    # Without `path`, Ultralytics takes the file's own folder, so the data set may be moved.
    assert "path" not in content
    for split, n_images in (("train", 12), ("val", 6)):
        images = sorted((tiny_shapes.parent / content[split]).glob("*.jpg"))
        assert len(images) == n_images
        assert Image.open(images[0]).size == (IMAGE_SIZE, IMAGE_SIZE)
        assert len(list((tiny_shapes.parent / "labels" / split).glob("*.txt"))) == n_images


def test_two_draws_are_equal(tiny_shapes: Path, tmp_path: Path) -> None:
    again = draw_dataset(tmp_path / "again", {"train": 3, "val": 2})
    drawn = sorted(file for file in again.parent.rglob("*") if file.suffix in (".jpg", ".txt"))
    assert len(drawn) == 10
    for file in drawn:
        assert file.read_bytes() == (tiny_shapes.parent / file.relative_to(again.parent)).read_bytes()


def test_labels_of_the_folder_are_those_of_the_scene(tiny_shapes: Path) -> None:
    lines = (tiny_shapes.parent / "labels" / "train" / "0002.txt").read_text().splitlines()
    scene = scenes()[2]
    assert [int(line.split()[0]) for line in lines] == scene.classes
    written = [[float(value) for value in line.split()[1:]] for line in lines]
    np.testing.assert_allclose(written, scene.boxes_cxcywh, atol=1e-5)


def test_a_second_visit_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = draw_dataset(tmp_path / "shapes", {"train": 1, "val": 1})
    monkeypatch.setattr(shapes, "draw_scene", None)
    assert draw_dataset(tmp_path / "shapes", {"train": 1, "val": 1}) == first


def test_an_interrupted_draw_leaves_no_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: tuple[int, ...], size: int = IMAGE_SIZE) -> Scene:
        if seed[1:] == (1, 1):
            raise KeyboardInterrupt
        return draw_scene(seed, size)

    with monkeypatch.context() as patch:
        patch.setattr(shapes, "draw_scene", interrupted)
        with pytest.raises(KeyboardInterrupt):
            draw_dataset(tmp_path / "shapes", {"train": 2, "val": 2})
    assert not (tmp_path / "shapes").exists()
    assert draw_dataset(tmp_path / "shapes", {"train": 2, "val": 2}).is_file()


def test_a_race_ends_with_one_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shapes"
    draw_split = shapes._draw_split

    def overtaken(draft: Path, split: str, number: int, n_images: int) -> None:
        draw_split(draft, split, number, n_images)
        monkeypatch.setattr(shapes, "_draw_split", draw_split)
        if not folder.exists():
            draw_dataset(folder, {"train": 1})

    monkeypatch.setattr(shapes, "_draw_split", overtaken)
    assert draw_dataset(folder, {"train": 1}).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


# Fingerprint


def test_fingerprint_is_stable_and_tells_splits_apart() -> None:
    assert (
        fingerprint() == fingerprint(dict(SPLITS)) == "ca4aae47c915c53db7f46cb266cbb06995e3b8142acd4d635cb34c25c05aa051"
    )
    assert fingerprint({"train": 500, "val": 100}) != fingerprint()


def test_fingerprint_tells_versions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint()
    monkeypatch.setattr(shapes, "VERSION", shapes.VERSION + 1)
    assert fingerprint() != before
