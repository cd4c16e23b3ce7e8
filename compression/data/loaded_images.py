"""Validation images that are read once and looked at by many models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ultralytics.cfg import get_cfg
from ultralytics.data import ClassificationDataset, YOLODataset
from ultralytics.data.build import build_dataloader
from ultralytics.data.utils import check_cls_dataset, check_det_dataset
from ultralytics.utils import IterableSimpleNamespace

from compression.data.dataset import Dataset

# As Ultralytics pads validation images, data/build.py.
_VALIDATION_PAD = 0.5
# Of a byte; what PyTorch's ToTensor divides by.
_WHITE = 255


class LoadedImages:
    """Batches as Ultralytics' validators take them from a loader, kept in memory as bytes.

    Attributes:
        dataset: Ultralytics' own, of these images only.
    """

    def __init__(self, dataset: YOLODataset | ClassificationDataset, batch: int) -> None:
        self.dataset = dataset
        # Those of a classifier come as parts of white, in four times the memory.
        self._in_parts = isinstance(dataset, ClassificationDataset)
        loader = build_dataloader(dataset, batch, workers=0, shuffle=False)
        self._batches: list[dict[str, Any]] = [self._as_bytes(each) for each in loader]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # The validator puts what it computes into the batch.
        return map(self._as_loaded, self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def _as_bytes(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "img": (batch["img"] * _WHITE).round().to(torch.uint8)} if self._in_parts else batch

    def _as_loaded(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "img": batch["img"] / _WHITE} if self._in_parts else dict(batch)


def load_validation_images(dataset: Dataset, *, imgsz: int, batch: int, stride: int, n_images: int) -> LoadedImages:
    """Read validation images as Ultralytics' validator of the data set's task would.

    Those of a classifier are cut to the square; all others are padded to the least rectangle.

    Args:
        dataset: its validation images, with the labels of its task.
        imgsz: side of the square that they are fitted into, pixels.
        batch: images a step.
        stride: sides of the rectangle are multiples of it, pixels.
        n_images: at most so many, evenly spaced in the order of their paths; all where there are fewer.
    """
    config = get_cfg(overrides={"task": dataset.task, "imgsz": imgsz})
    if dataset.task == "classify":
        return LoadedImages(_classified(dataset, config, n_images), batch)
    data = check_det_dataset(str(dataset.yaml_file), autodownload=False)

    class Chosen(YOLODataset):
        """Knows of some of the images only, whatever its cache holds."""

        def get_labels(self) -> list[dict[str, Any]]:
            labels = super().get_labels()
            some = [labels[index] for index in _spread(len(labels), n_images)]
            self.im_files = [label["im_file"] for label in some]
            return some

    images = Chosen(
        img_path=data["val"],
        imgsz=imgsz,
        batch_size=batch,
        augment=False,
        hyp=config,
        rect=True,
        stride=stride,
        pad=_VALIDATION_PAD,
        task=dataset.task,
        data=data,
    )
    return LoadedImages(images, batch)


def _classified(dataset: Dataset, config: IterableSimpleNamespace, n_images: int) -> ClassificationDataset:
    """Some images of each class, since their paths begin with its name."""
    root = check_cls_dataset(str(dataset.yaml_file))["val"]
    images = ClassificationDataset(root, config, augment=False, prefix="val", names=dataset.names)
    images.samples = [images.samples[index] for index in _spread(len(images.samples), n_images)]
    return images


def _spread(n_all: int, n_some: int) -> list[int]:
    """Evenly spaced indices of at most so many, the first and the last among them."""
    chosen = np.linspace(0, n_all - 1, min(n_some, n_all)).round().astype(int)
    return [int(index) for index in chosen]
