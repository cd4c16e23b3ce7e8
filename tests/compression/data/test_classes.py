"""A run on some classes: what a user may type, the view of the data, and the head that predicts only them."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from ultralytics import YOLO
from ultralytics.data import YOLODataset
from ultralytics.data.utils import check_det_dataset
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG

from compression.accuracy.evaluation import evaluate
from compression.data import classes as classes_module
from compression.data.classes import class_subset, keep_classes, parse_classes
from compression.data.dataset import Dataset, open_dataset
from compression.errors import DatasetError, ModelError, SpecError
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import needs_training, open_detector, with_classes
from compression.pruning.planner import Planner
from compression.spec import Target
from tests.compression.small_models import FAMILIES, LEVEL_5, build, equal, original, outputs, pruned

families = pytest.mark.parametrize("name", FAMILIES)

ANIMALS = {0: "cat", 1: "dog", 2: "guinea pig", 3: "fox"}
MANY = {index: f"class {index}" for index in range(80)}


def test_import_is_free_of_torch() -> None:
    code = (
        "import sys; from compression.data.classes import parse_classes;"
        "parse_classes('1', {0: 'a', 1: 'b'}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# What a user types


@pytest.mark.parametrize(
    ("text", "names", "chosen"),
    [
        ("dog", ANIMALS, (1,)),
        ("guinea pig,cat", ANIMALS, (0, 2)),
        ("2,0", ANIMALS, (0, 2)),
        (" 3 , dog ", ANIMALS, (1, 3)),
        ("dog,1,dog", ANIMALS, (1,)),
        ("dog,,cat,", ANIMALS, (0, 1)),
        ("fox,dog,guinea pig,cat", ANIMALS, (0, 1, 2, 3)),
        # A name wins over an index: this is the class called "0".
        ("0", {0: "1", 1: "0", 2: "2"}, (1,)),
        ("0,2", {0: "1", 1: "0", 2: "x"}, (1, 2)),
        ("cup, mug", {0: "pan", 1: "cup, mug"}, (1,)),
        ("pan,cup,mug,0", {0: "pan", 1: "cup, mug"}, (0, 1)),
        ("cup,mug", {0: "cup", 1: "mug", 2: "cup, mug"}, (2,)),
        ("mug,cup", {0: "cup", 1: "mug", 2: "cup, mug"}, (0, 1)),
        ("cup,pan", {0: "cup", 1: "mug", 2: "cup, mug", 3: "pan"}, (0, 3)),
        # Two classes may have one name; the index tells them apart.
        ("car", {0: "car", 1: "bus", 2: "car"}, (0, 2)),
        ("2", {0: "car", 1: "bus", 2: "car"}, (2,)),
        ("Straße", {0: " Straße ", 1: "Weg"}, (0,)),
    ],
)
def test_classes_by_name_and_index(text: str, names: dict[int, str], chosen: tuple[int, ...]) -> None:
    assert parse_classes(text, names) == chosen


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' names no class; give names or indices of the 4 classes: 0 cat, 1 dog, 2 guinea pig, 3 fox."),
        (" , ,", "' , ,' names no class;"),
        ("dgo", "no class 'dgo' (did you mean 'dog'?); give names or indices of the 4 classes: 0 cat, 1 dog,"),
        ("DOG", "no class 'DOG' (did you mean 'dog'?);"),
        ("cat,guineapig", "no class 'guineapig' (did you mean 'guinea pig'?);"),
        ("elephant", "no class 'elephant'; give names"),
        ("4", "no class 4; give names or indices"),
        ("0,-1", "no class -1;"),
        ("1.0", "no class '1.0';"),
        ("9" * 5000, "no class '999"),
    ],
)
def test_classes_that_are_not_there(text: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_classes(text, ANIMALS)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_classes_are_not_all_listed() -> None:
    with pytest.raises(SpecError) as caught:
        parse_classes("80", MANY)
    assert str(caught.value) == (
        "There is no class 80; give names or indices of the 80 classes: 0 class 0, 1 class 1, 2 class 2, ..., "
        "79 class 79."
    )


# The view of the data


@pytest.fixture
def write_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Writes a data set of small images from label texts, and opens it."""

    def write(labels: dict[str, str | None], folder: str = "own", **content: Any) -> Dataset:
        root = tmp_path / folder
        for number, (place, text) in enumerate(labels.items()):
            image = root / place
            image.parent.mkdir(parents=True, exist_ok=True)
            # No two images are alike, nor of one size.
            noise = np.random.default_rng(number).integers(0, 256, (32 + number, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).save(image, quality=50)
            label = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                label.write_text(text, encoding="utf-8")
        keys = {"train": "images/train", "val": "images/val", "names": ANIMALS} | content
        (root / "data.yaml").write_text(yaml.safe_dump(keys))
        return open_dataset(str(root))

    return write


BOX = "0.5 0.5 0.25 0.25"
PLAIN: dict[str, str | None] = {
    "images/train/a.jpg": f"0 {BOX}\n1 {BOX}",
    "images/train/b.jpg": f"2 {BOX}",
    "images/val/c.jpg": f"1 {BOX}\n3 {BOX}",
    "images/val/d.jpg": None,
}


@pytest.fixture
def plain(write_dataset: Callable[..., Dataset]) -> Dataset:
    return write_dataset(PLAIN)


def read(data: Dataset, split: str = "train") -> list[tuple[bytes, list[int], NDArray[np.float32]]]:
    """What Ultralytics reads of a split: the content of each image, its classes and its boxes, in its own order."""
    content = check_det_dataset(str(data.yaml_file), autodownload=False)
    found = YOLODataset(
        img_path=content[split], data=content, task="detect", imgsz=32, augment=False, prefix="", hyp=DEFAULT_CFG
    )
    return [
        (Path(label["im_file"]).read_bytes(), label["cls"].ravel().astype(int).tolist(), label["bboxes"])
        for label in found.labels
    ]


def rows(data: Dataset, split: str) -> list[str | None]:
    """The label text of each image of a view; None where it has no label file."""
    folder = data.yaml_file.parent
    files = [folder / "labels" / split / f"{image.stem}.txt" for image in sorted((folder / "images" / split).iterdir())]
    return [file.read_text() if file.exists() else None for file in files]


def beside(data: Dataset) -> list[str]:
    """What lies in the folder of the views."""
    folder = data.yaml_file.parent.parent
    return sorted(path.name for path in folder.iterdir())


def test_a_view_shows_the_boxes_of_its_classes(tiny_shapes: Path) -> None:
    whole = open_dataset(str(tiny_shapes))
    view = class_subset(whole, (2, 5, 9))
    assert (view.n_train, view.n_val) == (12, 6)
    assert view.names == {0: "ring", 1: "triangle", 2: "crescent"}
    for split in ("train", "val"):
        before, after = read(whole, split), read(view, split)
        assert len(after) == len(before)
        n_boxes = 0
        for (image, indices, boxes), (same_image, new_indices, same_boxes) in zip(before, after, strict=True):
            assert same_image == image
            wanted = [place for place, index in enumerate(indices) if index in (2, 5, 9)]
            assert new_indices == [{2: 0, 5: 1, 9: 2}[indices[place]] for place in wanted]
            assert np.array_equal(same_boxes, boxes[wanted])
            n_boxes += len(wanted)
        assert 0 < n_boxes < sum(len(indices) for _, indices, _ in before)


def test_a_view_can_be_opened_as_a_dataset(tiny_shapes: Path) -> None:
    view = class_subset(open_dataset(str(tiny_shapes)), (0, 7))
    opened = open_dataset(str(view.yaml_file))
    assert (opened.names, opened.n_train, opened.n_val) == (view.names, view.n_train, view.n_val)


def test_images_without_the_classes_stay_as_background(plain: Dataset) -> None:
    view = class_subset(plain, (1,))
    assert rows(view, "train") == [f"0 {BOX}\n", ""]
    assert rows(view, "val") == [f"0 {BOX}\n", None]
    assert [indices for _, indices, _ in read(view, "val")] == [[0], []]


def test_rows_of_every_kind_survive(write_dataset: Callable[..., Dataset]) -> None:
    polygon = "0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.45"
    data = write_dataset(
        {
            "images/train/a.jpg": f"3 {polygon}\n1 {polygon}\n\n3 {polygon}\n",
            "images/train/b.jpg": f"\ufeff3.0\t{BOX}\n1 {BOX}\n3 {BOX}\n3 {BOX}",
            "images/val/a.jpg": f"3 {BOX}",
        }
    )
    view = class_subset(data, (0, 3))
    assert rows(view, "train") == [f"1 {polygon}\n" * 2, f"1 {BOX}\n" * 3]
    assert rows(view, "val") == [f"1 {BOX}\n"]
    (_, indices, boxes), _ = read(view)
    assert indices == [1]
    assert boxes == pytest.approx(np.array([[0.25, 0.275, 0.3, 0.35]]), abs=1e-6)


def test_key_points_survive(write_dataset: Callable[..., Dataset]) -> None:
    row = f"{BOX} 0.3 0.3 0.6 0.6"
    labels: dict[str, str | None] = {"images/train/a.jpg": f"0 {row}\n2 {row}", "images/val/b.jpg": f"2 {row}"}
    view = class_subset(write_dataset(labels, kpt_shape=[2, 2]), (2,))
    assert rows(view, "train") == [f"0 {row}\n"]
    # Not taken for a polygon, whose box would be that of all points.
    assert [(indices, boxes.tolist()) for _, indices, boxes in read(view)] == [([0], [[0.5, 0.5, 0.25, 0.25]])]


def test_folders_lists_and_equal_names(write_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    elsewhere = tmp_path / "own" / "images" / "more" / "images" / "a.png"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "some.txt").write_text(f"./images/c/a.jpg\n{elsewhere}\n./images/c/a.jpg\n./notes.md\n")
    labels: dict[str, str | None] = {
        "images/a/a.jpg": f"1 {BOX}",
        "images/a/deeper/images/a.JPG": f"2 {BOX}\n1 {BOX}",
        "images/b/a.jpg": f"2 {BOX}",
        "images/b/a.png": f"2 {BOX}",
        "images/c/a.jpg": f"1 {BOX}\n1 0.5 0.5 0.5 0.5",
        "images/val/a.jpg": f"1 {BOX}",
    }
    # Ultralytics replaces the last of several /images/ only.
    for name, text in (("images/a/deeper/labels/a.txt", f"2 {BOX}\n1 {BOX}"), ("images/more/labels/a.txt", f"1 {BOX}")):
        file = tmp_path / "own" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    elsewhere.parent.mkdir()
    Image.new("RGB", (40, 48)).save(elsewhere)
    whole = write_dataset(labels, train=["images/a", "images/b", "some.txt"], val="images/val")
    view = class_subset(whole, (1,))
    assert view.n_train == 7

    def by_image(data: Dataset, kept: dict[int, int]) -> list[tuple[bytes, list[int]]]:
        return sorted((image, [kept[index] for index in indices if index in kept]) for image, indices, _ in read(data))

    after = by_image(view, {0: 0})
    assert after == by_image(whole, {1: 0})
    assert sorted(indices for _, indices in after) == [[], [], [0], [0], [0], [0, 0], [0, 0]]


def test_an_image_folder_above_and_blanks_in_paths(
    write_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMBOARD_HOME", str(tmp_path / "my images" / "images" / "home ü"))
    labels: dict[str, str | None] = {"images/train/a ü.jpg": f"1 {BOX}", "images/val/b.jpg": f"1 {BOX}"}
    view = class_subset(write_dataset(labels, folder="own data"), (1,))
    assert [indices for _, indices, _ in read(view)] == [[0]]


def test_names_that_yaml_would_misread(write_dataset: Callable[..., Dataset]) -> None:
    names = {0: "no", 1: "1.5", 2: "größe: 3", 3: "x"}
    data = write_dataset(PLAIN, names=names)
    view = class_subset(data, (0, 1, 2))
    assert view.names == {0: "no", 1: "1.5", 2: "größe: 3"}
    assert open_dataset(str(view.yaml_file)).names == view.names


def test_all_classes_are_the_dataset_itself(plain: Dataset, own_home: Path) -> None:
    assert class_subset(plain, (0, 1, 2, 3)) == plain
    assert not (own_home / "datasets").exists()


def test_a_view_of_a_view(plain: Dataset) -> None:
    view = class_subset(class_subset(plain, (1, 2, 3)), (0, 2))
    assert view.names == {0: "dog", 1: "fox"}
    assert rows(view, "train") == [f"0 {BOX}\n", ""]
    assert rows(view, "val") == [f"0 {BOX}\n1 {BOX}\n", None]


# How it is called


def test_name_and_fingerprint(plain: Dataset, write_dataset: Callable[..., Dataset]) -> None:
    view = class_subset(plain, (1, 2))
    assert view.name == "own [dog, guinea pig]"
    assert len(view.fingerprint) == 64
    assert class_subset(plain, (1, 2)) == view
    # The same data elsewhere are the same data.
    moved = class_subset(write_dataset(PLAIN, folder="moved/own"), (1, 2))
    assert moved == view
    others = [class_subset(plain, classes) for classes in ((1,), (0, 1), (1, 2, 3))]
    changed = class_subset(write_dataset(PLAIN | {"images/val/d.jpg": f"0 {BOX}"}, folder="changed/own"), (1, 2))
    assert len({one.fingerprint for one in (plain, view, *others, changed)}) == 6
    assert len({one.yaml_file for one in (plain, view, *others, changed)}) == 6


def test_many_classes_are_counted_in_the_name(write_dataset: Callable[..., Dataset]) -> None:
    labels: dict[str, str | None] = {"images/train/a.jpg": f"5 {BOX}", "images/val/b.jpg": f"5 {BOX}"}
    whole = write_dataset(labels, names=MANY)
    first, second = class_subset(whole, tuple(range(12))), class_subset(whole, tuple(range(1, 13)))
    assert first.name == f"own [12 of 80 classes, {first.fingerprint[:6]}]"
    assert second.name != first.name


# Written once, and never half


def mark(view: Dataset) -> Path:
    """Leaves a file in a view, which tells whether it was written anew."""
    file = view.yaml_file.with_name("mark")
    file.touch()
    return file


def test_a_view_is_found_again(plain: Dataset) -> None:
    marked = mark(class_subset(plain, (1,)))
    class_subset(plain, (1,))
    assert marked.exists()
    class_subset(plain, (1, 2))
    assert len(beside(class_subset(plain, (1,)))) == 2


def test_a_view_whose_images_moved_is_written_anew(plain: Dataset, tmp_path: Path) -> None:
    view = class_subset(plain, (1,))
    before = read(view)
    marked = mark(view)
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(plain.yaml_file.parent, tmp_path / "elsewhere" / "own"))
    assert class_subset(open_dataset(str(moved)), (1,)) == view
    assert not marked.exists()
    after = read(view)
    assert [(image, indices) for image, indices, _ in after] == [(image, indices) for image, indices, _ in before]
    assert beside(view) == [view.yaml_file.parent.name]


def test_a_view_whose_images_were_replaced_is_written_anew(
    write_dataset: Callable[..., Dataset], plain: Dataset, tmp_path: Path
) -> None:
    """The view leads to one copy of the data, and that copy changes; the other copy is asked about."""
    copied = write_dataset(PLAIN, folder="copied/own")
    view = class_subset(plain, (1,))
    image = plain.yaml_file.parent / "images" / "train" / "a.jpg"
    Image.new("RGB", (64, 64)).save(image)
    assert class_subset(copied, (1,)) == view
    assert [image for image, _, _ in read(view)] == [image for image, _, _ in read(copied)]


def test_an_interrupted_view_leaves_nothing(plain: Dataset, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = classes_module._write_split

    def interrupt(folder: Path, split: str, *arguments: Any) -> int:
        if split == "val":
            raise KeyboardInterrupt
        return write(folder, split, *arguments)

    monkeypatch.setattr(classes_module, "_write_split", interrupt)
    with pytest.raises(KeyboardInterrupt):
        class_subset(plain, (1,))
    assert list((own_home / "datasets").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv("TRIMBOARD_HOME", str(own_home))
    assert rows(class_subset(plain, (1,)), "val") == [f"0 {BOX}\n", None]


@pytest.mark.parametrize("gone", ["images/train/*", "images/val/000001.jpg", "labels/train/*", "data.yaml"])
def test_a_half_view_is_not_taken_for_whole(plain: Dataset, gone: str) -> None:
    """As a cleaned-up disk leaves one."""
    view = class_subset(plain, (1,))
    folder = view.yaml_file.parent
    files = sorted(folder.rglob("*"))
    for file in folder.glob(gone):
        file.unlink()
    assert sorted(folder.rglob("*")) != files
    class_subset(plain, (1,))
    assert sorted(folder.rglob("*")) == files


def test_another_process_may_be_faster(plain: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = None
    write = classes_module._write_view

    def be_overtaken(*arguments: Any) -> None:
        nonlocal marked
        monkeypatch.setattr(classes_module, "_write_view", write)
        marked = mark(class_subset(plain, (1,)))
        write(*arguments)

    monkeypatch.setattr(classes_module, "_write_view", be_overtaken)
    view = class_subset(plain, (1,))
    assert marked is not None
    assert marked.exists()
    assert beside(view) == [view.yaml_file.parent.name]


def refuse(*arguments: Any, **keywords: Any) -> None:
    raise OSError(1, "Operation not permitted")


@pytest.mark.parametrize("refused", [("symlink",), ("symlink", "link")])
def test_file_systems_without_links(plain: Dataset, refused: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in refused:
        monkeypatch.setattr(os, name, refuse)
    view = class_subset(plain, (1,))
    link = view.yaml_file.parent / "images" / "train" / "000000.jpg"
    image = plain.yaml_file.parent / "images" / "train" / "a.jpg"
    assert not link.is_symlink()
    assert os.path.samefile(link, image) == (len(refused) == 1)
    assert link.read_bytes() == image.read_bytes()
    marked = mark(view)
    class_subset(plain, (1,))
    assert marked.exists()


def test_label_caches_are_not_shared(plain: Dataset) -> None:
    one, two = class_subset(plain, (0, 1)), class_subset(plain, (1, 2))
    expected = [(plain, [[0, 1], [2]]), (one, [[0, 1], []]), (two, [[0], [1]])]
    # The second time from the caches.
    for _ in range(2):
        for data, indices in expected:
            assert [found for _, found, _ in read(data)] == indices
            assert (data.yaml_file.parent / "labels" / "train.cache").is_file()


# The test split


def test_the_test_split_is_taken_along(write_dataset: Callable[..., Dataset]) -> None:
    # Nothing of the chosen class is in it, which is nobody's fault.
    labels = PLAIN | {"images/test/e.jpg": f"1 {BOX}", "images/test/f.jpg": None}
    view = class_subset(write_dataset(labels, test="images/test"), (2, 3))
    assert rows(view, "test") == ["", None]
    assert len(read(view, "test")) == 2


def test_changed_test_labels_give_another_view(write_dataset: Callable[..., Dataset]) -> None:
    """The fingerprint covers training and validation only."""
    labels = PLAIN | {"images/test/e.jpg": f"1 {BOX}"}
    before = class_subset(write_dataset(labels, test="images/test"), (1,))
    labels["images/test/e.jpg"] = f"1 {BOX}\n1 0.5 0.5 0.5 0.5"
    after = class_subset(write_dataset(labels, test="images/test"), (1,))
    assert after.fingerprint == before.fingerprint
    assert rows(before, "test") == [f"0 {BOX}\n"]
    assert rows(after, "test") == [f"0 {BOX}\n0 0.5 0.5 0.5 0.5\n"]


@pytest.mark.parametrize("place", ["images/test", "test.txt"])
def test_test_images_that_nobody_has_are_left_out(
    place: str, write_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "test.txt").write_text("./images/train/a.jpg\n./images/test/gone.jpg\n")
    view = class_subset(write_dataset(PLAIN, test=place), (1,))
    assert set(yaml.safe_load(view.yaml_file.read_text())) == {"train", "val", "names"}
    assert sorted(path.name for path in (view.yaml_file.parent / "images").iterdir()) == ["train", "val"]


def test_test_images_that_came_later(write_dataset: Callable[..., Dataset]) -> None:
    assert "test" not in yaml.safe_load(
        class_subset(write_dataset(PLAIN, test="images/test"), (1,)).yaml_file.read_text()
    )
    later = class_subset(write_dataset(PLAIN | {"images/test/e.jpg": f"1 {BOX}"}, test="images/test"), (1,))
    assert rows(later, "test") == [f"0 {BOX}\n"]


@pytest.mark.parametrize("content", [b"dog 0.5 0.5 0.1 0.1", b"\xff\xfe\x00"])
def test_test_labels_that_cannot_be_read(
    content: bytes, write_dataset: Callable[..., Dataset], own_home: Path, tmp_path: Path
) -> None:
    data = write_dataset(PLAIN | {"images/test/e.jpg": ""}, test="images/test")
    label = tmp_path / "own" / "labels" / "test" / "e.txt"
    label.write_bytes(content)
    with pytest.raises(DatasetError, match=f"The label file {label} cannot be used .*; correct or remove it"):
        class_subset(data, (1,))
    assert list((own_home / "datasets").iterdir()) == []


# Nothing to see


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ((3,), "None of the 2 train images of {} shows fox; choose other classes, or label them there."),
        ((0, 2), "None of the 2 val images of {} shows cat or guinea pig;"),
    ],
)
def test_a_split_without_objects(classes: tuple[int, ...], says: str, plain: Dataset, own_home: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        class_subset(plain, classes)
    assert says.format(plain.yaml_file) in str(caught.value)
    assert list((own_home / "datasets").iterdir()) == []


# The head

CHOSEN = (3, 17, 40, 79)


def finals(model: DetectionModel) -> dict[str, torch.nn.Conv2d]:
    """The last convolution of every class branch, by name."""
    head = model.model[-1]
    found = {
        f"{part}.{level}": branch[-1]
        for part in ("cv3", "one2one_cv3")
        for level, branch in enumerate(getattr(head, part, None) or ())
    }
    assert len(found) == 3 * len(heads(model))
    return found


def heads(model: DetectionModel) -> tuple[str, ...]:
    """The one-to-many head, and the one-to-one head of an end-to-end model."""
    return ("nms", "e2e") if Path(model.yaml["yaml_file"]).stem.startswith("yolo26") else ("nms",)


@families
@pytest.mark.parametrize("make", [original, lambda name: pruned(name, LEVEL_5)], ids=["whole", "pruned"])
def test_outputs_that_stay_are_the_originals(name: str, make: Callable[[str], DetectionModel]) -> None:
    model = make(name)
    few = keep_classes(model, CHOSEN)
    for conv, before in zip(finals(few).values(), finals(model).values(), strict=True):
        assert conv.out_channels == 4
        assert before.bias is not None
        assert conv.bias is not None
        assert torch.equal(conv.weight, before.weight[list(CHOSEN)])
        assert torch.equal(conv.bias, before.bias[list(CHOSEN)])
    last = tuple(f".{part}.2.{kind}" for part in finals(model) for kind in ("weight", "bias"))
    ours, theirs = few.state_dict(), model.state_dict()
    assert list(ours) == list(theirs)
    rest = [key for key in theirs if not key.endswith(last)]
    assert len(rest) == len(theirs) - 2 * len(finals(model))
    assert equal([ours[key] for key in rest], [theirs[key] for key in rest])


@families
@pytest.mark.parametrize("make", [original, lambda name: pruned(name, LEVEL_5)], ids=["whole", "pruned"])
@pytest.mark.parametrize("classes", [(0,), (0, 79), CHOSEN], ids=str)
def test_scores_that_stay_are_the_originals(
    name: str, make: Callable[[str], DetectionModel], classes: tuple[int, ...]
) -> None:
    # In double precision, since a kernel for fewer outputs may add up the same products in another order.
    model = copy.deepcopy(make(name)).double()
    few = keep_classes(model, classes)
    torch.set_default_dtype(torch.float64)
    try:
        before, after = outputs(model), outputs(few)
    finally:
        torch.set_default_dtype(torch.float32)
    assert len(after) == 2 * len(heads(model))
    for boxes, same in zip(before[::2], after[::2], strict=True):
        assert torch.equal(same, boxes)
    for scores, same in zip(before[1::2], after[1::2], strict=True):
        assert same.shape[1] == len(classes)
        torch.testing.assert_close(same, scores[:, classes], rtol=0, atol=1e-12)


@families
def test_all_that_tells_of_classes_agrees(name: str) -> None:
    model = copy.deepcopy(original(name))
    model.names = {index: f"class {index}" for index in range(80)}
    model.nc = 80
    few = keep_classes(model, CHOSEN)
    head = few.model[-1]
    assert few.names == {0: "class 3", 1: "class 17", 2: "class 40", 3: "class 79"}
    assert few.nc == head.nc == few.yaml["nc"] == 4
    assert head.no == 4 + 4 * head.reg_max
    # The model itself is left alone.
    assert len(model.names) == model.nc == model.model[-1].nc == model.yaml["nc"] == 80
    assert model.model[-1].no == 80 + 4 * head.reg_max
    assert equal(list(model.state_dict().values()), list(original(name).state_dict().values()))


@families
def test_all_classes_change_nothing(name: str) -> None:
    same = keep_classes(original(name), tuple(range(80)))
    assert same is not original(name)
    assert same.names == original(name).names
    assert equal(outputs(same), outputs(original(name)))


def batch(indices: list[int]) -> dict[str, torch.Tensor]:
    """Two noisy images, the first with one box of each class."""
    n = len(indices)
    return {
        "img": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)),
        "batch_idx": torch.zeros(n),
        "cls": torch.tensor(indices, dtype=torch.float32)[:, None],
        "bboxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]).repeat(n, 1),
    }


@families
@pytest.mark.parametrize("classes", [(40,), CHOSEN], ids=str)
def test_the_loss_is_that_of_a_model_built_for_those_classes(name: str, classes: tuple[int, ...]) -> None:
    few = keep_classes(original(name), classes).train()
    built = DetectionModel(f"{name}.yaml", nc=len(classes), verbose=False).train()
    built.load(few, verbose=False)
    few.args = built.args = SimpleNamespace(**vars(DEFAULT_CFG))
    shown = batch(list(range(len(classes))))
    (ours, our_items), (theirs, their_items) = (copy.deepcopy(model).loss(shown) for model in (few, built))
    assert torch.equal(ours, theirs)
    assert our_items == their_items


@families
@pytest.mark.parametrize("classes", [(40,), CHOSEN], ids=str)
def test_a_training_step(name: str, classes: tuple[int, ...]) -> None:
    model = copy.deepcopy(pruned(name, LEVEL_5)).train()
    model.args = SimpleNamespace(**vars(DEFAULT_CFG))
    # A training that is behind it left its loss, with weights of all classes.
    model.class_weights = torch.linspace(0.5, 1.5, 80)
    model.loss(batch([79]))
    few = keep_classes(model, classes).train()
    before = copy.deepcopy(few)
    optimizer = torch.optim.SGD(few.parameters(), lr=1e-3)
    loss, _ = few.loss(batch(list(range(len(classes)))))
    assert loss.isfinite().all()
    loss.sum().backward()
    optimizer.step()
    for conv, start in zip(finals(few).values(), finals(before).values(), strict=True):
        changed = (conv.weight != start.weight).flatten(1).any(1)
        assert changed.tolist() == [True] * len(classes)


def test_class_weights_keep_their_proportions() -> None:
    model = copy.deepcopy(original("yolov8n"))
    model.class_weights = torch.arange(1.0, 81.0)
    assert keep_classes(model, (0, 2)).class_weights.tolist() == [0.5, 1.5]
    assert len(model.class_weights) == 80


@families
def test_fewer_classes_can_be_pruned(name: str) -> None:
    few = keep_classes(original(name), CHOSEN)
    cut = Planner(few, 64).plan(Target(gflops_kept=0.8, params_kept=None))
    whole = Planner(original(name), 64).plan(Target(gflops_kept=0.8, params_kept=None))
    # One row of weights and a bias for each of the 76 classes of each branch is gone.
    gone = sum(76 * (conv.weight.shape[1] + 1) for conv in finals(few).values())
    assert cut.before.params is not None
    assert cut.before.params + gone == whole.before.params
    assert {row.channels_after for row in cut.layers if "cv3." in row.name and row.name.endswith(".2")} == {4}


# In a checkpoint


def certain_of(model: DetectionModel, index: int) -> DetectionModel:
    """A copy that takes everything for one class."""
    certain = copy.deepcopy(model)
    for conv in finals(certain).values():
        assert conv.bias is not None
        conv.bias.data -= 20
        conv.bias.data[index] += 40
    return certain


@families
@pytest.mark.parametrize(("index", "said"), [(17, "class 17"), (79, "class 79")])
@pytest.mark.parametrize("make", [original, lambda name: pruned(name, LEVEL_5)], ids=["whole", "pruned"])
def test_plain_ultralytics_predicts_the_right_names(
    name: str, make: Callable[[str], DetectionModel], index: int, said: str, tmp_path: Path
) -> None:
    model = certain_of(make(name), index)
    model.names = {number: f"class {number}" for number in range(80)}
    write_checkpoint(keep_classes(model, CHOSEN), tmp_path / "few.pt", {})
    loaded = YOLO(tmp_path / "few.pt")
    assert loaded.names == {0: "class 3", 1: "class 17", 2: "class 40", 3: "class 79"}
    image = np.full((64, 64, 3), 114, np.uint8)
    for head in heads(model):
        nms = None if head == "nms" else False
        result = loaded.predict(image, imgsz=64, conf=0.9, nms=nms, verbose=False, save=False)[0]
        assert len(result.boxes) > 0
        assert {result.names[int(found)] for found in result.boxes.cls} == {said}


@pytest.mark.parametrize("head", ["e2e", "nms"])
def test_measured_on_a_view(head: Any, tiny_shapes: Path, tmp_path: Path) -> None:
    whole = open_dataset(str(tiny_shapes))
    model = copy.deepcopy(original("yolo26n"))
    model.names = {number: f"class {number}" for number in range(80)}
    few = keep_classes(keep_classes(model, tuple(range(10))), (2, 5))
    write_checkpoint(few, tmp_path / "few.pt", {})
    found = evaluate(tmp_path / "few.pt", class_subset(whole, (2, 5)), imgsz=64, batch=6, device="cpu", head=head)
    assert set(found.per_class) == {"ring", "triangle"}


# Other classes afterwards


@pytest.fixture
def trained(tmp_path: Path) -> Callable[[DetectionModel], Any]:
    """Writes a model as if it were trained, and opens it."""

    def write(model: DetectionModel) -> Any:
        write_checkpoint(model, tmp_path / "mine.pt", {})
        return open_detector(str(tmp_path / "mine.pt"))

    return write


@families
def test_a_model_of_few_classes_is_trained_for_them(name: str, trained: Callable[[DetectionModel], Any]) -> None:
    detector = trained(keep_classes(pruned(name, LEVEL_5), CHOSEN))
    assert not needs_training(detector, 4)
    assert needs_training(detector, 80)
    assert with_classes(detector, dict(enumerate("abcd"))) is detector.module
    with pytest.raises(ModelError, match="was compressed for 4 classes and the data set has 3"):
        with_classes(detector, dict(enumerate("abc")))


@families
def test_an_unpruned_model_of_few_classes_can_learn_others(name: str, trained: Callable[[DetectionModel], Any]) -> None:
    # Its class branches stay as wide as for 80 classes, where its yaml now says 4.
    model = copy.deepcopy(original(name))
    model.names = {number: f"class {number}" for number in range(80)}
    detector = trained(keep_classes(model, CHOSEN))
    other = with_classes(detector, {0: "new", 1: "class 79", 2: "class 3"})
    assert other.names == {0: "new", 1: "class 79", 2: "class 3"}
    for conv, before in zip(finals(other).values(), finals(detector.module).values(), strict=True):
        assert conv.weight.shape[0] == 3
        assert torch.equal(conv.weight[1:], before.weight[[3, 0]])
    assert outputs(other)[1].shape[1] == 3


def test_a_detector_with_few_classes_keeps_where_it_came_from(trained: Callable[[DetectionModel], Any]) -> None:
    model = copy.deepcopy(build())
    model.args = {}
    detector = trained(model)
    few = replace(detector, module=keep_classes(detector.module, (0,)))
    assert (few.file, few.weights_sha256, few.label) == (detector.file, detector.weights_sha256, detector.label)
