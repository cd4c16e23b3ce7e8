"""Data sets: how they are named and found, and the sentence for each fault before anything is trained."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from compression.data import dataset, shapes
from compression.data.dataset import class_names, data_label, known_datasets, open_dataset
from compression.errors import DatasetError


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.draw_dataset(tmp_path_factory.mktemp("drawn") / "drawn", {"train": 6, "val": 4}).parent


@pytest.fixture
def tiny(drawn: Path, tmp_path: Path) -> Path:
    """A folder with 6 training and 4 validation images that a test may damage."""
    return Path(shutil.copytree(drawn, tmp_path / "tiny"))


def change_yaml(folder: Path, **changes: Any) -> None:
    """Rewrite keys of a data.yaml; None removes one."""
    file = folder / "data.yaml"
    content = yaml.safe_load(file.read_text()) | changes
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))


def fault(data: str | Path) -> str:
    """The sentence that opening a data set ends with."""
    with pytest.raises(DatasetError) as caught:
        open_dataset(str(data))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


# Names and labels


def test_import_is_free_of_torch() -> None:
    code = (
        "import sys; from compression.data.dataset import class_names, data_label, known_datasets;"
        "known_datasets(); class_names('coco'); data_label('shapes'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_known_datasets_say_what_their_files_say() -> None:
    known = {one.name: one for one in known_datasets()}
    assert next(iter(known)) == "shapes"
    assert (known["shapes"].n_classes, known["shapes"].n_train, known["shapes"].n_val) == (10, 500, 150)
    coco = known["coco"]
    assert (coco.n_classes, coco.n_train, coco.n_val, coco.size) == (80, 118287, 5000, "20.3 GB")
    assert "Ultralytics" in coco.source
    tasks = {name: known[name].task for name in ("coco", "coco-pose", "coco8-seg", "dota8")}
    assert tasks == {"coco": "detect", "coco-pose": "pose", "coco8-seg": "segment", "dota8": "obb"}
    # Its file gives shares of the images, not their number.
    assert known["xView"].n_train is None


@pytest.mark.parametrize(
    "name", ["ImageNet", "cityscapes", "nyu-depth", "depth8", "coco8-grayscale", "dota8-multispectral"]
)
def test_other_tasks_are_not_known(name: str) -> None:
    assert name not in {one.name for one in known_datasets()}
    with pytest.raises(DatasetError, match=f"no data set '{name}'"):
        data_label(name)


@pytest.mark.parametrize(
    ("data", "label", "first"),
    [("shapes", "shapes", "disc"), ("coco", "coco", "person"), ("coco.yaml", "coco", "person"), ("VOC", "VOC", None)],
)
def test_names_and_labels_by_name(data: str, label: str, first: str | None) -> None:
    assert data_label(data) == label
    assert class_names(data)[0] == (first or "aeroplane")


def test_labels_by_path(tiny: Path) -> None:
    assert data_label(str(tiny / "data.yaml")) == "tiny"
    assert data_label(str(tiny)) == "tiny"
    (tiny / "data.yaml").rename(tiny / "cells.yaml")
    assert data_label(str(tiny / "cells.yaml")) == "cells"
    assert class_names(str(tiny)) == dict(enumerate(shapes.CLASSES))


def test_an_existing_file_wins_over_the_catalog(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tiny / "data.yaml").rename(tiny / "coco.yaml")
    monkeypatch.chdir(tiny)
    assert class_names("coco.yaml")[0] == "disc"
    assert class_names("coco")[0] == "person"


def test_nothing_is_drawn_for_names(own_home: Path) -> None:
    class_names("shapes")
    assert not (own_home / "datasets").exists()


# Opening


def test_open_shapes_draws_once(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = shapes.draw_dataset
    monkeypatch.setattr(shapes, "draw_dataset", lambda folder: draw(folder, {"train": 2, "val": 1}))
    opened = open_dataset("shapes")
    assert opened.yaml_file == own_home / "datasets" / f"shapes-{shapes.VERSION}" / "data.yaml"
    assert (opened.name, opened.nc, opened.n_train, opened.n_val) == ("shapes", 10, 2, 1)
    assert opened.fingerprint == shapes.fingerprint()
    assert open_dataset(str(opened.yaml_file)) == opened
    assert open_dataset(str(opened.yaml_file.parent)) == opened


def test_open_own_dataset(tiny: Path) -> None:
    opened = open_dataset(str(tiny / "data.yaml"))
    assert opened.name == "tiny"
    assert opened.yaml_file == tiny / "data.yaml"
    assert opened.names == dict(enumerate(shapes.CLASSES))
    assert (opened.n_train, opened.n_val) == (6, 4)
    assert open_dataset(str(tiny)) == opened


def test_a_relative_path_gives_an_absolute_file(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)
    opened = open_dataset("data.yaml")
    assert opened.yaml_file == tiny / "data.yaml"
    assert opened.name == "tiny"


@pytest.mark.parametrize("name", ["with space", "[odd] *?#%'\"", "ünï-çødé 图像", "images"])
def test_odd_folder_names(tiny: Path, name: str) -> None:
    plain = open_dataset(str(tiny))
    moved = tiny.rename(tiny.parent / name)
    opened = open_dataset(str(moved / "data.yaml"))
    assert opened.name == name
    assert opened.fingerprint == plain.fingerprint


def test_images_without_labels_and_repeated_lines_are_fine(tiny: Path) -> None:
    (tiny / "labels" / "train" / "0000.txt").unlink()
    (tiny / "labels" / "train" / "0001.txt").write_text("")
    (tiny / "labels" / "train" / "0002.txt").write_text("1 0.5 0.5 0.2 0.2\n" * 2)
    assert open_dataset(str(tiny)).n_train == 6


def test_polygons_are_fine(tiny: Path) -> None:
    (tiny / "labels" / "train" / "0000.txt").write_text("1 0.1 0.1 0.4 0.1 0.4 0.5 0.1 0.5\n")
    assert open_dataset(str(tiny)).n_train == 6


def test_key_points_behind_a_box_are_fine(tiny: Path) -> None:
    change_yaml(tiny, kpt_shape=[2, 2])
    (tiny / "labels" / "train" / "0000.txt").write_text("1 0.5 0.5 0.2 0.2 0.4 0.4 0.6 0.6\n")
    assert open_dataset(str(tiny)).n_train == 6
    (tiny / "labels" / "train" / "0000.txt").write_text("11 0.5 0.5 0.2 0.2 0.4 0.4 0.6 0.6\n")
    assert "line 1: class index 11" in fault(tiny)


def test_lists_of_folders_and_text_files(tiny: Path) -> None:
    (tiny / "val.txt").write_text("".join(f"./images/val/{index:04d}.jpg\n" for index in range(3)))
    change_yaml(tiny, train=["images/train", "images/val"], val="val.txt")
    opened = open_dataset(str(tiny))
    assert (opened.n_train, opened.n_val) == (10, 3)


# Fingerprint


def test_fingerprint_is_that_of_any_copy(tiny: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny, tmp_path / "elsewhere" / "other name"))
    change_yaml(copy, path=str(copy))
    assert open_dataset(str(copy)).fingerprint == open_dataset(str(tiny)).fingerprint


def replace_label(folder: Path) -> None:
    (folder / "labels" / "val" / "0000.txt").write_text("1 0.5 0.5 0.2 0.2")


def remove_image(folder: Path) -> None:
    (folder / "images" / "train" / "0005.jpg").unlink()


def rename_image(folder: Path) -> None:
    for kind, suffix in (("images", ".jpg"), ("labels", ".txt")):
        (folder / kind / "train" / f"0005{suffix}").rename(folder / kind / "train" / f"0009{suffix}")


def recode_image(folder: Path) -> None:
    file = folder / "images" / "train" / "0000.jpg"
    Image.open(file).convert("RGB").save(file, quality=30)


def rename_class(folder: Path) -> None:
    change_yaml(folder, names=["round", *list(shapes.CLASSES)[1:]])


def swap_splits(folder: Path) -> None:
    change_yaml(folder, train="images/val", val="images/train")


@pytest.mark.parametrize("change", [replace_label, remove_image, rename_image, recode_image, rename_class, swap_splits])
def test_fingerprint_changes_with_the_data(tiny: Path, change: Callable[[Path], None]) -> None:
    before = open_dataset(str(tiny)).fingerprint
    change(tiny)
    assert open_dataset(str(tiny)).fingerprint != before


# Faults of the file


@pytest.mark.parametrize("data", ["", "no-such-set", "missing/data.yaml", "x" * 300, "https://example.org/data.yaml"])
def test_unknown_data(data: str) -> None:
    assert repr(data) in fault(data)
    assert "trimboard datasets" in fault(data)


def test_folder_without_a_yaml(tiny: Path) -> None:
    assert f"{tiny / 'images'} holds no .yaml file" in fault(tiny / "images")


def test_folder_with_several_yamls(tiny: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        shutil.copy(tiny / "data.yaml", tiny / name)
    assert open_dataset(str(tiny)).name == "tiny"
    (tiny / "data.yaml").unlink()
    assert "holds 2 .yaml files" in fault(tiny)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"train: [images", "is not YAML (line "),
        (b"\xff\xfe\x00\x01", "is not YAML"),
        (b"exported: 2024-02-30", "is not YAML"),
        (b"train: !!int abc", "is not YAML"),
        (b"- train\n- val\n", "holds no keys"),
        (b"", "holds no keys"),
    ],
)
def test_file_that_is_no_data_yaml(tiny: Path, content: bytes, says: str) -> None:
    (tiny / "data.yaml").write_bytes(content)
    assert f"{tiny / 'data.yaml'} {says}" in fault(tiny)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": None}, "has no `train`"),
        ({"val": None}, "has no `val`"),
        ({"train": []}, "has no `train`"),
        ({"val": 5}, "`val` is 5"),
        ({"train": ["images/train", 3]}, "`train` is ['images/train', 3]"),
        ({"path": 7}, "`path` is 7"),
        ({"names": None}, "names no classes"),
        ({"names": []}, "names no classes"),
        ({"names": "disc"}, "names no classes"),
        ({"names": {"a": "disc"}}, "must be class indices"),
        ({"names": {0: "disc", 2: "ring"}}, "indices must be 0 to 1, not 0, 2"),
        ({"nc": 9}, "`nc` is 9, but `names` has 10 classes"),
        ({"channels": 1}, "`channels` is 1"),
        ({"kpt_shape": [17]}, "`kpt_shape` is [17]"),
    ],
)
def test_wrong_keys(tiny: Path, changes: dict[str, Any], says: str) -> None:
    change_yaml(tiny, **changes)
    sentence = fault(tiny)
    assert says in sentence
    assert str(tiny / "data.yaml") in sentence


def test_pipe_among_the_images_of_a_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / split / "a" / "0.png")
    os.mkfifo(tmp_path / "val" / "a" / "1.png")
    with pytest.raises(DatasetError, match=r"val/a/1\.png cannot be read \(it is no regular file\)"):
        open_dataset(str(tmp_path), "classify")


def test_anchors_of_a_user_are_fine(tiny: Path) -> None:
    text = (tiny / "data.yaml").read_text().replace("names:", "names: &names")
    (tiny / "data.yaml").write_text(f"{text}\nshown: *names\nalso: *names\n")
    assert class_names(str(tiny)) == dict(enumerate(shapes.CLASSES))


def test_validation_is_another_word_for_val(tiny: Path) -> None:
    change_yaml(tiny, val=None, validation="images/val")
    assert open_dataset(str(tiny)).n_val == 4


# Faults of the images


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_folder(tiny: Path, split: str) -> None:
    shutil.rmtree(tiny / "images" / split)
    sentence = fault(tiny)
    assert f"the {split} images are missing, there is no {tiny / 'images' / split}" in sentence


def test_own_download_entry_is_not_followed(tiny: Path) -> None:
    shutil.rmtree(tiny / "images" / "val")
    change_yaml(tiny, download=f"open({str(tiny / 'was-run')!r}, 'w').close()")
    assert "the val images are missing" in fault(tiny)
    assert not (tiny / "was-run").exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_folder_without_images(tiny: Path, split: str) -> None:
    for file in (tiny / "images" / split).iterdir():
        file.rename(file.with_suffix(".bak"))
    assert f"there are no {split} images in {tiny / 'images' / split}" in fault(tiny)


def test_image_in_place_of_a_list(tiny: Path) -> None:
    change_yaml(tiny, train="images/train/0000.jpg")
    assert "neither a folder nor a text file" in fault(tiny)


def test_listed_image_is_missing(tiny: Path) -> None:
    (tiny / "train.txt").write_text("./images/train/0000.jpg\n./images/train/0077.jpg\n")
    change_yaml(tiny, train="train.txt")
    assert f"The image {tiny / 'images' / 'train' / '0077.jpg'} cannot be read" in fault(tiny)


def test_unreadable_image(tiny: Path) -> None:
    image = tiny / "images" / "val" / "0001.jpg"
    image.write_bytes(b"no image")
    assert f"The image {image} cannot be read" in fault(tiny)


def test_truncated_image(tiny: Path) -> None:
    image = tiny / "images" / "train" / "0003.jpg"
    image.write_bytes(image.read_bytes()[:2000])
    assert f"The image {image} cannot be read" in fault(tiny)


# Faults of the labels


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("removed", [True, False])
def test_no_labels_at_all(tiny: Path, split: str, removed: bool) -> None:
    for file in (tiny / "labels" / split).iterdir():
        file.unlink() if removed else file.write_text("\n")
    sentence = fault(tiny)
    assert f"None of the {6 if split == 'train' else 4} {split} images" in sentence
    assert str(tiny / "labels" / split / "0000.txt") in sentence


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("10 0.5 0.5 0.2 0.2", "class index 10 does not exist"),
        ("-1 0.5 0.5 0.2 0.2", "class index -1 does not exist"),
        ("1.5 0.5 0.5 0.2 0.2", "class index 1.5 does not exist"),
        ("nan 0.5 0.5 0.2 0.2", "class index nan does not exist"),
        ("1 0.5 1.2 0.2 0.2", "1.2 lies outside of 0 to 1"),
        ("1 0.5 0.5 -0.2 0.2", "-0.2 lies outside of 0 to 1"),
        ("1 0.5 0.5 nan 0.2", "nan lies outside of 0 to 1"),
        ("1 160 120 40 40", "160 lies outside of 0 to 1"),
        ("1 0.5 0.5 0.2", "4 values; a line needs 5"),
        ("1 0.5 0.5 0.2 0.2 0.9", "6 values; a line needs 5"),
        ("disc 0.5 0.5 0.2 0.2", "'disc' is not a number"),
    ],
)
def test_wrong_label(tiny: Path, line: str, says: str) -> None:
    label = tiny / "labels" / "train" / "0002.txt"
    label.write_text(f"1 0.5 0.5 0.2 0.2\n\n{line}\n")
    sentence = fault(tiny)
    assert f"{label}, line 3: {says}" in sentence
    assert "more file" not in sentence


def test_class_range_is_named(tiny: Path) -> None:
    (tiny / "labels" / "train" / "0002.txt").write_text("12 0.5 0.5 0.2 0.2")
    assert f"{tiny / 'data.yaml'} names 10, so use 0 to 9" in fault(tiny)


def test_mixed_label(tiny: Path) -> None:
    label = tiny / "labels" / "train" / "0002.txt"
    label.write_text("1 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.4 0.1 0.4 0.5\n")
    assert f"The label file {label} cannot be used (labels mix" in fault(tiny)


def test_binary_label(tiny: Path) -> None:
    label = tiny / "labels" / "train" / "0002.txt"
    label.write_bytes(b"\xff\xfe\x00\x81")
    assert str(label) in fault(tiny)


def test_further_faults_are_counted(tiny: Path) -> None:
    (tiny / "labels" / "train" / "0002.txt").write_text("12 0.5 0.5 0.2 0.2")
    (tiny / "labels" / "val" / "0000.txt").write_text("1 0.5")
    assert "(and 1 more file with a fault)" in fault(tiny)
    (tiny / "images" / "val" / "0001.jpg").write_bytes(b"")
    sentence = fault(tiny)
    assert "(and 2 more files with a fault)" in sentence
    assert str(tiny / "labels" / "train" / "0002.txt") in sentence


# The catalog, up to the download


def test_catalog_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ultralytics.data.utils as ultralytics_data

    monkeypatch.setattr(ultralytics_data, "DATASETS_DIR", tmp_path)
    sentence = fault("coco8")
    assert "could not download 'coco8'" in sentence
    assert "check the network" in sentence


def test_catalog_with_images(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ultralytics.data.utils as ultralytics_data

    monkeypatch.setattr(ultralytics_data, "DATASETS_DIR", tmp_path)
    monkeypatch.chdir(os.sep)
    shutil.copytree(tiny, tmp_path / "coco8")
    opened = open_dataset("coco8.yaml")
    assert (opened.name, opened.nc, opened.n_train, opened.n_val) == ("coco8", 80, 6, 4)
    assert opened.yaml_file == dataset._catalog()["coco8"]
