"""Validation images that are read once and looked at by many models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ultralytics.cfg import get_cfg
from ultralytics.data import YOLODataset
from ultralytics.data.build import build_dataloader
from ultralytics.data.utils import check_det_dataset

from compression.data.dataset import Dataset

# As Ultralytics pads validation images, data/build.py.
_VALIDATION_PAD = 0.5


class LoadedImages:
    """Batches as Ultralytics' validator takes them from a loader, kept in memory as bytes.

    Attributes:
        dataset: Ultralytics' own, of these images only.
    """

    def __init__(self, dataset: YOLODataset, batch: int) -> None:
        self.dataset = dataset
        self._batches: list[dict[str, Any]] = list(build_dataloader(dataset, batch, workers=0, shuffle=False))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # The validator puts what it computes into the batch.
        return map(dict, self._batches)

    def __len__(self) -> int:
        return len(self._batches)


def load_validation_images(dataset: Dataset, *, imgsz: int, batch: int, stride: int, n_images: int) -> LoadedImages:
    """Read validation images as Ultralytics' validator would, padded to the least rectangle.

    Args:
        dataset: its validation images.
        imgsz: side of the square that they are fitted into, pixels.
        batch: images a step.
        stride: sides are multiples of it, pixels.
        n_images: at most so many, evenly spaced in the order of their names; all where there are fewer.
    """
    data = check_det_dataset(str(dataset.yaml_file), autodownload=False)
    config = get_cfg(overrides={"task": "detect", "imgsz": imgsz})

    class Chosen(YOLODataset):
        """Knows of some of the images only, whatever its cache holds."""

        def get_labels(self) -> list[dict[str, Any]]:
            labels = super().get_labels()
            chosen = np.linspace(0, len(labels) - 1, min(n_images, len(labels))).round().astype(int)
            some = [labels[index] for index in chosen]
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
        task="detect",
        data=data,
    )
    return LoadedImages(images, batch)
