"""Labels in pixels of the images that they belong to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from compression.accuracy.forms import KeyPoints, Mask, RotatedBox
from compression.accuracy.labels import drawn_sample, validation_images
from compression.errors import DatasetError


def data_set(folder: Path, labels: dict[str, str], **keys: object) -> str:
    """A data set of images of 200 x 100 pixels with those label files."""
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for name, text in labels.items():
            Image.new("RGB", (200, 100)).save(folder / "images" / split / f"{name}.png")
            if text:
                (folder / "labels" / split / f"{name}.txt").write_text(text)
    content = {"train": "images/train", "val": "images/val", "names": ["disc", "ring", "star"], **keys}
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


def test_boxes_are_in_pixels_and_polygons_become_boxes(tmp_path: Path) -> None:
    polygon = "2 0.1 0.1 0.3 0.1 0.3 0.5 0.2 0.6"
    data = data_set(tmp_path, {"a": "1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.1 0.2\n", "b": polygon, "c": ""})
    images = validation_images(data)
    assert list(images.pairs) == ["a.png", "b.png", "c.png"]
    assert images.file("b.png") == tmp_path / "images" / "val" / "b.png"
    width, height, objects = images.labels("a.png")
    assert (width, height) == (200, 100)
    assert [(one.class_index, one.name) for one in objects] == [(1, "ring"), (0, "disc")]
    np.testing.assert_allclose([one.box_xyxy for one in objects], [[75, 25, 125, 75], [10, 10, 30, 30]], atol=1e-4)
    (star,) = images.labels("b.png").objects
    np.testing.assert_allclose(star.box_xyxy, [20, 10, 60, 60], atol=1e-4)
    assert images.labels("c.png").objects == []


def test_some_classes_are_numbered_as_their_model_predicts_them(tmp_path: Path) -> None:
    images = validation_images(data_set(tmp_path, {"a": "0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n2 .5 .5 .2 .2"}), (0, 2))
    assert images.names == {0: "disc", 1: "star"}
    assert [(one.class_index, one.name) for one in images.labels("a.png").objects] == [(0, "disc"), (1, "star")]


def test_key_points_behind_a_box_mean_nothing(tmp_path: Path) -> None:
    images = validation_images(data_set(tmp_path, {"a": "1 .5 .5 .2 .4 .5 .5 2"}, kpt_shape=[1, 3]))
    (ring,) = images.labels("a.png").objects
    np.testing.assert_allclose(ring.box_xyxy, [80, 30, 120, 70], atol=1e-4)


def test_each_task_reads_its_own_form(tmp_path: Path) -> None:
    polygon = "2 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5"
    data = data_set(tmp_path / "outlined", {"a": polygon})
    forms = {}
    for task in ("segment", "obb"):
        (star,) = validation_images(data, task=task).labels("a.png").objects
        np.testing.assert_allclose(star.box_xyxy, [20, 10, 60, 50], atol=1e-4)
        forms[task] = star.form
    assert isinstance(forms["segment"], Mask)
    assert [sorted(outline) for outline in forms["segment"].outlines] == [[(20, 10), (20, 50), (60, 10), (60, 50)]]
    assert isinstance(forms["obb"], RotatedBox)
    np.testing.assert_allclose(
        sorted(np.round(forms["obb"].corners, 3).tolist()), [[20, 10], [20, 50], [60, 10], [60, 50]], atol=1e-3
    )
    points = data_set(tmp_path / "points", {"a": "1 .5 .5 .2 .4 .5 .25 2 0 0 0"}, kpt_shape=[2, 3])
    (ring,) = validation_images(points, task="pose").labels("a.png").objects
    assert ring.form == KeyPoints(points=((100, 25), None))


def test_a_label_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    images = validation_images(data_set(tmp_path, {"a": "7 .5 .5 .2 .2"}))
    with pytest.raises(DatasetError, match=r"a\.png or its label cannot be used .*correct or remove it"):
        images.labels("a.png")


def test_images_of_a_catalog_are_not_downloaded() -> None:
    with pytest.raises(DatasetError, match=r"coco8\.yaml: the val images are missing"):
        validation_images("coco8")


def test_the_drawn_sample_is_labelled_and_always_the_same() -> None:
    image, objects = drawn_sample()
    assert image.size == (320, 320)
    assert len(objects) >= 4
    for one in objects:
        left, top, right, bottom = one.box_xyxy
        assert 0 <= left < right <= 320
        assert 0 <= top < bottom <= 320
    drawn_sample.cache_clear()
    again, same = drawn_sample()
    assert (again.tobytes(), same) == (image.tobytes(), objects)


def test_images_of_equal_names_in_two_places_are_two(tmp_path: Path) -> None:
    first, second = (data_set(tmp_path / name, {"a": text}) for name, text in (("one", "0 .5 .5 .2 .2"), ("two", "")))
    places = [str(Path(file).parent / "images" / "val") for file in (first, second)]
    Path(first).write_text(yaml.safe_dump({"train": places[0], "val": places, "names": ["disc"]}))
    images = validation_images(first)
    assert [len(images.labels(name).objects) for name in images.pairs] == [1, 0]
