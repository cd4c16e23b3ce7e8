"""Layouts of data sets as labelling programs export them, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from compression.data.dataset import open_dataset
from compression.data.layout import settle
from compression.errors import DatasetError
from tests.compression.zips import ROBOFLOW, images, png, roboflow


def lay_out(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def settled(folder: Path, files: dict[str, bytes | str]) -> tuple[Path, dict[str, Any]]:
    file = settle(lay_out(folder, files))
    return file, yaml.safe_load(file.read_text())


def faults(folder: Path, files: dict[str, bytes | str]) -> tuple[str, ...]:
    with pytest.raises(DatasetError) as caught:
        settle(lay_out(folder, files))
    return caught.value.faults


def test_roboflow(tmp_path: Path) -> None:
    file, content = settled(tmp_path, roboflow())
    # The test split that it names and does not hold is left out.
    assert content == {"train": ["train/images"], "val": ["valid/images"], "names": {0: "red", 1: "white"}}
    dataset = open_dataset(str(file))
    assert (dataset.n_train, dataset.n_val, dataset.names) == (2, 2, {0: "red", 1: "white"})


def test_a_single_folder_at_the_top(tmp_path: Path) -> None:
    file, _ = settled(tmp_path, {f"one/two/{name}": content for name, content in roboflow().items()})
    assert file == tmp_path.resolve() / "one/two/data.yaml"
    assert open_dataset(str(file)).n_train == 2


def test_cvat_lists_images_by_places_of_its_own(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"data.yaml": "path: .\ntrain: train.txt\nval: val.txt\nnames:\n  0: red\n"}
    for split in ("train", "val"):
        files[f"{split}.txt"] = f"data/images/{split}/1.png\r\ndata/images/{split}/2.png\r\n"
        for number in (1, 2):
            files[f"images/{split}/{number}.png"] = png(number)
            files[f"labels/{split}/{number}.txt"] = "0 0.5 0.5 0.5 0.5\n"
    file, content = settled(tmp_path, files)
    assert content["train"] == ["train-images-0.txt"]
    assert (tmp_path / "train-images-0.txt").read_text() == "./images/train/1.png\n./images/train/2.png\n"
    assert open_dataset(str(file)).n_val == 2


def test_places_of_another_machine(tmp_path: Path) -> None:
    given = "path: /home/someone/sets/cells\ntrain: train/images\nval: /content/cells/valid/images\nnames: [a]\n"
    file, content = settled(tmp_path, {**images("train", "valid"), "data.yaml": given})
    assert (content["train"], content["val"]) == (["train/images"], ["valid/images"])
    assert open_dataset(str(file)).n_train == 2


def test_nothing_outside_is_named_afterwards(tmp_path: Path) -> None:
    outside = lay_out(tmp_path / "outside", images("train", "val"))
    given = f"path: {outside}\ntrain: train/images\nval: ../../outside/val/images\nnames: [a]\ndownload: echo\n"
    told = faults(tmp_path / "zip", {"data.yaml": given, "labels/1.txt": ""})
    assert told == (
        "data.yaml: the train images are missing, the zip holds no train/images; pack that folder too, or correct `train`.",
        "data.yaml: the val images are missing, the zip holds no ../../outside/val/images; pack that folder too, or correct `val`.",
    )


def test_a_list_does_not_name_anything_outside(tmp_path: Path) -> None:
    outside = lay_out(tmp_path / "outside", {"secret.png": png()})
    files: dict[str, bytes | str] = {
        "data.yaml": "train: train.txt\nval: val/images\nnames: [a]\n",
        "train.txt": f"{outside}/secret.png\n../outside/secret.png\n./val/images/0.png\n",
        **images("val"),
    }
    (told,) = faults(tmp_path / "zip", files)
    assert (
        told
        == f"train.txt: the zip does not hold 2 of its 3 images, {outside}/secret.png first; pack them too, or correct the list."
    )


def test_a_split_is_not_guessed_from_another(tmp_path: Path) -> None:
    files = roboflow(**{"data.yaml": "train: /there/images\nval: /other/images\nnames: [a]\n"})
    assert len(faults(tmp_path / "both", files)) == 2
    same = {**images("all"), "data.yaml": "train: /there/all/images\nval: ../all/images\nnames: [a]\n"}
    (told,) = faults(tmp_path / "same", same)
    assert told.startswith("data.yaml: `train` and `val` are different, but both are found at all/images only")


def test_without_a_data_yaml_its_maker_is_guessed(tmp_path: Path) -> None:
    (told,) = faults(tmp_path, {"classes.txt": "red\n", "images/1.png": png(), "labels/1.txt": ""})
    assert told.startswith(
        "The zip holds no data.yaml. It looks like an export for Label Studio. Pack a data.yaml with"
    )


def test_two_data_yamls(tmp_path: Path) -> None:
    two = {"a/data.yaml": ROBOFLOW, "b/data.yaml": ROBOFLOW, "c.txt": ""}
    assert faults(tmp_path / "deep", dict(two)) == (
        "The zip holds 2 files that may be its data.yaml: a/data.yaml, b/data.yaml; keep one.",
    )
    # The one at the top is meant.
    _, content = settled(tmp_path / "top", {**roboflow(), "old/data.yaml": "names: []"})
    assert content["names"] == {0: "red", 1: "white"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("train: [", "is not YAML"),
        ("train: train/images\nval: valid/images\n", "names no classes"),
        ("train: train/images\nnames: [a]\n", "has no `val`"),
        ("a: &a [x]\ntrain: *a\nval: *a\nnames: [a]\n", "refers to parts of itself"),
        (f"names: [{'a, ' * 400_000}b]\n", "has more than 1 MB"),
        ('train: "a\\0b"\nval: valid/images\nnames: [a]\n', "the train images are missing"),
        ("train: train/images\nval: valid/images\nnames: {0: a, 2: b}\n", "must be 0 to 1, not 0, 2"),
    ],
)
def test_faults_of_the_file_itself(tmp_path: Path, text: str, told: str) -> None:
    (fault,) = faults(tmp_path, roboflow(**{"data.yaml": text}))
    assert told in fault
    assert str(tmp_path) not in fault
