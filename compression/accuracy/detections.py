"""What a detector sees on images, by Ultralytics' own predictor, as plain data.

Whatever the task, a detection has a box: of masks and poses the one that Ultralytics gives with them, of rotated boxes
the upright one around them. What the task predicts besides is its form.

Importing this module imports no torch, so that pages can name its types; `detect` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compression.accuracy.forms import Form, forms_in
from compression.data.images import read_image
from compression.errors import ModelError
from compression.spec import HeadName

if TYPE_CHECKING:
    from PIL import Image
    from ultralytics.models.yolo.detect import DetectionPredictor

# What Ultralytics' `predict` shows where nobody says otherwise, engine/predictor.py.
DEFAULT_CONF = 0.25

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class LabelledBox:
    """A class and where on an image it is, as a label file says or a model.

    Attributes:
        class_index: of the class.
        name: of the class.
        box_xyxy: left, top, right and bottom edge, pixels of the upright image.
        form: its mask, key points or rotated box; None where the box is all that is known.
    """

    class_index: int
    name: str
    box_xyxy: Box
    form: Form | None = None


@dataclass(frozen=True, kw_only=True)
class Detection(LabelledBox):
    """What a model sees.

    Attributes:
        score: the model's confidence, 0 to 1.
    """

    score: float


def detect(
    checkpoint: Path,
    images: Iterable[Path | Image.Image],
    *,
    imgsz: int,
    head: HeadName,
    conf: float = DEFAULT_CONF,
    device: str = "",
) -> list[list[Detection]]:
    """Run a checkpoint on images, one after the other, each in the shape that it has alone.

    Args:
        checkpoint: a detector, opened by the restricted loader.
        images: files, or images as `compression.data.images` opens them.
        imgsz: the longer side that images are scaled to, pixels.
        head: which predictions count: "e2e" (one-to-one, no suppression) or "nms" (one-to-many, then suppression).
        conf: detections of a lower score are left out.
        device: Ultralytics' device string; of several GPUs the first is used.

    Returns:
        For each image its detections, the highest score first.

    Raises:
        SpecError: this machine has no such device.
        ModelError: the checkpoint cannot be opened, or has no end-to-end head.
        ImageError: a file is no image.
    """
    predictor = _predictor(checkpoint, imgsz=imgsz, head=head, conf=conf, device=device)
    return [_see(predictor, read_image(image) if isinstance(image, Path) else image) for image in images]


def _predictor(checkpoint: Path, *, imgsz: int, head: HeadName, conf: float, device: str) -> DetectionPredictor:
    from compression.environment import check_device
    from compression.models.detector import read_checkpoint
    from compression.models.kinds import KINDS, task_of

    check_device(device)
    module, _ = read_checkpoint(checkpoint)
    if head == "e2e" and getattr(module.model[-1], "one2one_cv2", None) is None:
        raise ModelError(f"{checkpoint.name!r} has no end-to-end head; look at its detections with --head nms.")
    task = task_of(module)
    if task == "classify":
        raise ModelError(
            f"{checkpoint.name!r} is a classifier, which finds nothing within images; look at a model that detects."
        )
    predictor: DetectionPredictor = KINDS[task].predictor(
        overrides={
            "mode": "predict",
            "task": task,
            "imgsz": imgsz,
            "conf": conf,
            "device": device.split(",")[0],
            "nms": False if head == "e2e" else None,
            "batch": 1,
            "rect": True,
            "save": False,
            "verbose": False,
        }
    )
    predictor.setup_model(module, verbose=False)
    return predictor


def _see(predictor: DetectionPredictor, image: Image.Image) -> list[Detection]:
    (result,) = predictor(image)
    boxes = result.boxes if result.obb is None else result.obb
    rows = zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), forms_in(result), strict=True)
    found = [
        Detection(class_index=int(label), name=result.names[int(label)], score=score, box_xyxy=tuple(box), form=form)
        for box, score, label, form in rows
    ]
    return sorted(found, key=lambda one: -one.score)
