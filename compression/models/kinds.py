"""The classes of Ultralytics that serve each task: model, heads, validator and predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from ultralytics.models.yolo.classify import ClassificationPredictor, ClassificationValidator
from ultralytics.models.yolo.detect import DetectionPredictor, DetectionValidator
from ultralytics.models.yolo.obb import OBBPredictor, OBBValidator
from ultralytics.models.yolo.pose import PosePredictor, PoseValidator
from ultralytics.models.yolo.segment import SegmentationPredictor, SegmentationValidator
from ultralytics.nn.modules import OBB, Classify, Detect, Pose, Segment
from ultralytics.nn.modules.head import OBB26, Pose26, Segment26, v10Detect
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, OBBModel, PoseModel, SegmentationModel

from compression.catalog import TaskName
from compression.errors import ModelError
from compression.image_size import ImageSize, height_width, in_pixels

# A YOLO halves its maps five times. A classifier says that any size fits it, but costs are counted on whole cells.
LEAST_STRIDE = 32


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What serves one task.

    Attributes:
        model: class of the whole model; subclasses serve other tasks.
        heads: classes of its last block.
        validator: measures its accuracy.
        predictor: runs it on images.
    """

    model: type[nn.Module]
    heads: tuple[type[nn.Module], ...]
    validator: type[Any]
    predictor: type[Any]


KINDS: dict[TaskName, Kind] = {
    "detect": Kind(
        model=DetectionModel,
        heads=(Detect, v10Detect),
        validator=DetectionValidator,
        predictor=DetectionPredictor,
    ),
    "segment": Kind(
        model=SegmentationModel,
        heads=(Segment, Segment26),
        validator=SegmentationValidator,
        predictor=SegmentationPredictor,
    ),
    "pose": Kind(model=PoseModel, heads=(Pose, Pose26), validator=PoseValidator, predictor=PosePredictor),
    "obb": Kind(model=OBBModel, heads=(OBB, OBB26), validator=OBBValidator, predictor=OBBPredictor),
    "classify": Kind(
        model=ClassificationModel,
        heads=(Classify,),
        validator=ClassificationValidator,
        predictor=ClassificationPredictor,
    ),
}


def task_of(module: nn.Module) -> TaskName:
    """The task of a model that was opened."""
    return next(task for task, kind in KINDS.items() if kind.model is type(module))


def check_image_size(module: Any, imgsz: ImageSize) -> None:
    """Refuse a size that Ultralytics would round to another one.

    Raises:
        ModelError: a side is no multiple of the model's largest stride.
    """
    stride, sides = largest_stride(module), height_width(imgsz)
    if any(side < stride or side % stride for side in sides):
        near = [max(round(side / stride), 1) * stride for side in sides]
        nearest = near[0] if isinstance(imgsz, int) else (near[0], near[1])
        raise ModelError(
            f"Image size {in_pixels(imgsz)} is no multiple of this model's stride {stride}; use {in_pixels(nearest)}."
        )


def largest_stride(module: Any) -> int:
    """What both sides of an image have to be a multiple of, pixels."""
    stride = int(module.stride.max())
    return max(stride, LEAST_STRIDE) if task_of(module) == "classify" else stride
