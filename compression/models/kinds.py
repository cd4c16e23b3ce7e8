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


def largest_stride(module: Any) -> int:
    """What both sides of an image have to be a multiple of, pixels."""
    stride = int(module.stride.max())
    return max(stride, LEAST_STRIDE) if task_of(module) == "classify" else stride
