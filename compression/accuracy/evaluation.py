"""Accuracy of a checkpoint on the validation images, by Ultralytics' own validator."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ultralytics.nn.tasks import DetectionModel

from cache.record import Metrics
from compression.catalog import TaskName
from compression.data.dataset import Dataset
from compression.data.loaded_images import LoadedImages
from compression.environment import check_device
from compression.errors import ModelError
from compression.models.detector import kpt_shape_of, read_checkpoint, resolved_names, same_classes
from compression.models.kinds import KINDS, task_of
from compression.models.tasks import TASKS
from compression.spec import HeadName, RunSpec

# Ultralytics reports metrics of a training to so many decimals; finer ones are noise.
DECIMALS = 5
# Where Ultralytics' metrics of a task hold those of its own predictions; those of rotated boxes stand as boxes.
MEASURED: dict[TaskName, str] = {"segment": "seg", "pose": "pose"}


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
        ModelError: it is of another task than the data set was checked for, predicts other classes or key points, or
            has no end-to-end head and one is asked for.
    """
    task = task_of(module)
    if task != dataset.task:
        raise ModelError(
            f"{name!r} is a {TASKS[task].noun} and {dataset.name!r} was opened for {TASKS[dataset.task].predicts}; "
            f"evaluate it on data with {TASKS[task].labels}."
        )
    if task == "pose" and kpt_shape_of(module) != dataset.kpt_shape:
        raise ModelError(
            f"{name!r} finds key points of shape {kpt_shape_of(module)} and {dataset.name!r} has {dataset.kpt_shape}; "
            f"evaluate it on the data it was trained for."
        )
    if len(module.names) != dataset.nc:
        raise ModelError(
            f"{name!r} predicts {len(module.names)} classes and {dataset.name!r} has {dataset.nc}; "
            f"evaluate it on the data it was trained for."
        )
    if not same_classes(module, dataset.names):
        pairs = enumerate(zip(resolved_names(module.names), resolved_names(dataset.names), strict=True))
        index, own, other = next((index, own, other) for index, (own, other) in pairs if own != other)
        raise ModelError(
            f"{name!r} has {own!r} as class {index} and {dataset.name!r} has {other!r}, and folders are known by name; "
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
    validator_class: type[Any] | None = None,
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
        validator_class: one that opens the model in a way of its own; None for Ultralytics' own of the task.
        images: those to look at, where they are in memory; loaded with the same `imgsz`, `rect` and data set.
    """
    with tempfile.TemporaryDirectory() as folder:
        validator = (validator_class or KINDS[dataset.task].validator)(
            dataloader=images,
            save_dir=Path(folder),
            args={
                "mode": "val",
                "task": dataset.task,
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
    return _metrics(validator.metrics, dataset)


def _metrics(found: Any, dataset: Dataset) -> Metrics:
    """What a validator found of the task's own predictions: masks, key points or rotated boxes before boxes."""
    if dataset.task == "classify":
        return Metrics(
            map50=round(float(found.top5), DECIMALS),
            map50_95=round(float(found.top1), DECIMALS),
            precision=None,
            recall=None,
        )
    box = getattr(found, MEASURED.get(dataset.task, "box"))
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
