"""Accuracy of a checkpoint on the validation images, by Ultralytics' own validator."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.nn.tasks import DetectionModel

from cache.record import Metrics
from compression.dataset import Dataset
from compression.detector import read_checkpoint
from compression.environment import check_device
from compression.errors import ModelError
from compression.loaded_images import LoadedImages
from compression.spec import HeadName, RunSpec

# Ultralytics reports metrics of a training to so many decimals; finer ones are noise.
DECIMALS = 5


def evaluate(
    checkpoint: Path, dataset: Dataset, *, imgsz: int, batch: int, device: str = "", head: HeadName = "e2e"
) -> Metrics:
    """Validate a checkpoint as it lies on the disk.

    Args:
        checkpoint: a detector whose classes are the data set's.
        dataset: its validation images are used.
        imgsz: side of the square input, pixels.
        batch: images a step.
        device: Ultralytics' device string; of several GPUs the first is used.
        head: which predictions count: "e2e" (one-to-one, no suppression) or "nms" (one-to-many, then suppression).

    Raises:
        SpecError: this machine has no such device.
        ModelError: the model predicts other classes than the data set has, or has no end-to-end head.
    """
    check_device(device)
    module, _ = read_checkpoint(checkpoint)
    check_fits(module, checkpoint.name, dataset, head)
    return validate(module, dataset, imgsz=imgsz, batch=batch, device=device, head=head, rect=True)


def check_fits(module: DetectionModel, name: str, dataset: Dataset, head: HeadName) -> None:
    """Refuse a model that cannot be measured on a data set.

    Raises:
        ModelError: it predicts other classes than the data set has, or has no end-to-end head and one is asked for.
    """
    if len(module.names) != dataset.nc:
        raise ModelError(
            f"{name!r} predicts {len(module.names)} classes and {dataset.name!r} has {dataset.nc}; "
            f"evaluate it on the data it was trained for."
        )
    if head == "e2e" and getattr(module.model[-1], "one2one_cv2", None) is None:
        raise ModelError(f"{name!r} has no end-to-end head; evaluate it with --head nms.")


def validate(
    model: DetectionModel | Path,
    dataset: Dataset,
    *,
    imgsz: int,
    batch: int,
    device: str,
    head: HeadName,
    rect: bool,
    half: bool = False,
    validator_class: type[DetectionValidator] = DetectionValidator,
    images: LoadedImages | None = None,
) -> Metrics:
    """Let Ultralytics validate a model or an exported file, which must fit the data set.

    Args:
        model: a detector, or the exported file or folder.
        dataset: its validation images are used.
        imgsz: side of the square input, pixels; a file has its own.
        batch: images a step; a file has its own.
        device: Ultralytics' device string; of several GPUs the first is used.
        head: which predictions count.
        rect: pad images to the least rectangle instead of to the square; a file takes squares only.
        half: compute a module in half precision, on a GPU.
        validator_class: of Ultralytics, or one that opens the model in a way of its own.
        images: those to look at, where they are in memory; loaded with the same `imgsz`, `rect` and data set.
    """
    with tempfile.TemporaryDirectory() as folder:
        validator = validator_class(
            dataloader=images,
            save_dir=Path(folder),
            args={
                "mode": "val",
                "task": "detect",
                "data": str(dataset.yaml_file),
                "imgsz": imgsz,
                "batch": batch,
                "device": device.split(",")[0],
                "nms": False if head == "e2e" else None,
                "quantize": 16 if half else None,
                "rect": rect,
                "plots": False,
                "verbose": False,
            },
        )
        validator(model=str(model) if isinstance(model, Path) else model)
    box = validator.metrics.box
    return Metrics(
        map50=round(float(box.map50), DECIMALS),
        map50_95=round(float(box.map), DECIMALS),
        precision=round(float(box.mp), DECIMALS),
        recall=round(float(box.mr), DECIMALS),
        per_class={dataset.names[index]: round(float(box.maps[index]), DECIMALS) for index in sorted(dataset.names)},
    )


def evaluate_for(spec: RunSpec, checkpoint: Path, dataset: Dataset) -> Metrics:
    """Validate a checkpoint as a run asks for it: its image size, batch, device and head."""
    return evaluate(checkpoint, dataset, imgsz=spec.imgsz, batch=spec.batch, device=spec.device, head=spec.head)
