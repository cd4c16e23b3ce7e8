"""Training images as criteria and recovery look at them: whole, letterboxed to a square, not augmented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate
from ultralytics.cfg import get_cfg
from ultralytics.data import ClassificationDataset, YOLODataset
from ultralytics.data.build import build_yolo_dataset
from ultralytics.data.utils import check_cls_dataset, check_det_dataset
from ultralytics.utils import IterableSimpleNamespace

from compression.data.dataset import Dataset

Batch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A few training images with their labels.

    Attributes:
        samples: one for each image, as Ultralytics' dataset gives them: "img" is uint8 [3, imgsz, imgsz].
    """

    samples: tuple[Batch, ...]

    @property
    def images(self) -> Tensor:
        """All images, uint8 [N, 3, imgsz, imgsz]."""
        return torch.stack([sample["img"] for sample in self.samples])

    def batch(self, start: int, stop: int, device: torch.device) -> Batch:
        """Images `start` to `stop` as a training step takes them: float32 in [0, 1], with their labels."""
        chosen = self.samples[start:stop]
        if "batch_idx" in chosen[0]:
            # Collating numbers the images of the batch in place.
            batch = YOLODataset.collate_fn([{**sample, "batch_idx": sample["batch_idx"].clone()} for sample in chosen])
        else:
            batch = default_collate(list(chosen))
        batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
        batch["img"] = batch["img"].float() / 255
        return batch


def load_calibration(dataset: Dataset, *, imgsz: int, n_images: int, seed: int) -> Calibration:
    """Draw training images at random, the same for the same seed.

    Args:
        dataset: its training images are used.
        imgsz: side of the square that they are fitted into, pixels.
        n_images: at most so many; all where there are fewer.
        seed: of the choice.
    """
    config = get_cfg(overrides={"task": dataset.task, "imgsz": imgsz, "rect": False})
    images = _Classified(dataset, config) if dataset.task == "classify" else _labelled(dataset, config)
    n_chosen = min(n_images, len(images))
    chosen = np.sort(np.random.default_rng(seed).choice(len(images), size=n_chosen, replace=False))
    return Calibration(samples=tuple(images[int(index)] for index in chosen))


def _labelled(dataset: Dataset, config: IterableSimpleNamespace) -> Any:
    data = check_det_dataset(str(dataset.yaml_file), autodownload=False)
    return build_yolo_dataset(config, data["train"], batch=1, data=data, mode="val", rect=False)


class _Classified:
    """Training images of a classifier, cut to a square as its validation does, in bytes like all others."""

    def __init__(self, dataset: Dataset, config: IterableSimpleNamespace) -> None:
        data = check_cls_dataset(dataset.yaml_file)
        self._images = ClassificationDataset(data["train"], config, augment=False, prefix="train", names=dataset.names)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Batch:
        sample = self._images[index]
        return {**sample, "img": (sample["img"] * 255).round().byte()}
