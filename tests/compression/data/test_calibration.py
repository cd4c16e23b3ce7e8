"""Training images as they are looked at: how many, which, in what form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from compression.data.calibration import Calibration, load_calibration
from compression.data.dataset import Dataset, open_dataset

CPU = torch.device("cpu")
GREY = 114  # Ultralytics' border of a letterboxed image


@pytest.fixture(scope="module")
def shapes(tiny_shapes: Path) -> Dataset:
    """12 training images."""
    return open_dataset(str(tiny_shapes))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two training images, 80 x 40 and 20 x 40, of one colour each, with one box that fills the image."""
    folder = tmp_path_factory.mktemp("wide")
    for split in ("train", "val"):
        for name, size, colour in (("a", (80, 40), (255, 0, 0)), ("b", (20, 40), (0, 0, 255))):
            (folder / "images" / split).mkdir(parents=True, exist_ok=True)
            (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, colour).save(folder / "images" / split / f"{name}.png")
            (folder / "labels" / split / f"{name}.txt").write_text("0 0.5 0.5 1 1\n")
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [thing]\n")
    return open_dataset(str(folder / "data.yaml"))


def files(calibration: Calibration) -> list[str]:
    return [Path(sample["im_file"]).name for sample in calibration.samples]


@pytest.mark.parametrize(("asked", "n_images"), [(1, 1), (5, 5), (12, 12), (500, 12)])
def test_number_of_images(shapes: Dataset, asked: int, n_images: int) -> None:
    calibration = load_calibration(shapes, imgsz=64, n_images=asked, seed=0)
    assert len(calibration.samples) == n_images
    assert calibration.images.shape == (n_images, 3, 64, 64)
    assert len(set(files(calibration))) == n_images


def test_training_images_are_drawn_and_no_others(shapes: Dataset) -> None:
    folders = {
        Path(sample["im_file"]).parent for sample in load_calibration(shapes, imgsz=64, n_images=12, seed=0).samples
    }
    assert folders == {shapes.yaml_file.parent / "images" / "train"}


def test_same_seed_same_images(shapes: Dataset) -> None:
    one, two, other = (load_calibration(shapes, imgsz=64, n_images=6, seed=seed) for seed in (3, 3, 4))
    assert files(one) == files(two)
    assert torch.equal(one.images, two.images)
    assert set(files(one)) != set(files(other))


def test_any_image_may_be_drawn(shapes: Dataset) -> None:
    drawn = {name for seed in range(12) for name in files(load_calibration(shapes, imgsz=32, n_images=3, seed=seed))}
    assert len(drawn) == 12


@pytest.mark.parametrize("imgsz", [32, 64, 96])
def test_images_are_fitted_into_a_square(wide: Dataset, imgsz: int) -> None:
    calibration = load_calibration(wide, imgsz=imgsz, n_images=2, seed=0)
    assert files(calibration) == ["a.png", "b.png"]
    images = calibration.images
    assert images.dtype == torch.uint8
    assert images.shape == (2, 3, imgsz, imgsz)
    quarter = imgsz // 4
    lying, standing = images
    # The whole image is there, in RGB, with a border on the two sides that it leaves free.
    assert_colour(lying[:, quarter:-quarter], (255, 0, 0))
    assert_colour(lying[:, : quarter - 1], (GREY,) * 3)
    assert_colour(lying[:, 1 - quarter :], (GREY,) * 3)
    assert_colour(standing[:, :, quarter:-quarter], (0, 0, 255))
    assert_colour(standing[:, :, : quarter - 1], (GREY,) * 3)


def assert_colour(part: Tensor, colour: tuple[int, ...]) -> None:
    assert part.numel() > 0
    assert torch.equal(part, torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand_as(part))


def test_labels_come_with_the_images(wide: Dataset) -> None:
    lying, standing = load_calibration(wide, imgsz=64, n_images=2, seed=0).samples
    # Centre, width and height as parts of the square.
    np.testing.assert_allclose(lying["bboxes"], [[0.5, 0.5, 1, 0.5]], atol=1e-6)
    np.testing.assert_allclose(standing["bboxes"], [[0.5, 0.5, 0.5, 1]], atol=1e-6)
    assert lying["cls"].tolist() == standing["cls"].tolist() == [[0]]


def test_every_label_of_a_training_image_is_there(shapes: Dataset) -> None:
    for sample in load_calibration(shapes, imgsz=64, n_images=12, seed=0).samples:
        image = Path(sample["im_file"])
        lines = (image.parents[2] / "labels" / "train" / f"{image.stem}.txt").read_text().splitlines()
        assert sorted(sample["cls"].flatten().tolist()) == sorted(float(line.split()[0]) for line in lines)


def test_batch_is_what_a_training_step_takes(shapes: Dataset) -> None:
    calibration = load_calibration(shapes, imgsz=64, n_images=12, seed=0)
    batch = calibration.batch(2, 5, CPU)
    assert batch["img"].shape == (3, 3, 64, 64)
    assert batch["img"].dtype == torch.float32
    assert 0 <= batch["img"].min() < batch["img"].max() <= 1
    torch.testing.assert_close(255 * batch["img"], calibration.images[2:5].float())
    n_boxes = [len(sample["cls"]) for sample in calibration.samples[2:5]]
    assert sum(n_boxes) > 0
    # Each box knows its image of this batch.
    assert batch["batch_idx"].tolist() == [index for index, n in enumerate(n_boxes) for _ in range(n)]
    assert torch.equal(batch["cls"], torch.cat([sample["cls"] for sample in calibration.samples[2:5]]))
    assert torch.equal(batch["bboxes"], torch.cat([sample["bboxes"] for sample in calibration.samples[2:5]]))


def test_batches_can_be_taken_again(shapes: Dataset) -> None:
    calibration = load_calibration(shapes, imgsz=64, n_images=4, seed=0)
    first, _, again = (calibration.batch(start, start + 2, CPU) for start in (0, 2, 0))
    assert torch.equal(first["img"], again["img"])
    assert torch.equal(first["batch_idx"], again["batch_idx"])
    assert torch.equal(first["bboxes"], again["bboxes"])
    assert len(calibration.batch(2, 99, CPU)["img"]) == 2
