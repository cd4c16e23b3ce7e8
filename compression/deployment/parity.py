"""Whether an exported file detects what its checkpoint detects: both run on the same images.

Boxes, scores and classes are compared, key points and corners of rotated boxes like edges of boxes, and of a classifier
its first class with its score. Masks are not compared: they follow from numbers beside those of the boxes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from ultralytics.data.utils import IMG_FORMATS, check_cls_dataset, check_det_dataset
from ultralytics.engine.results import Results
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import ASSETS
from ultralytics.utils.metrics import box_iou

from compression.catalog import TaskName
from compression.data.dataset import SHAPES, Dataset
from compression.data.dataset_check import image_pairs
from compression.data.shapes import draw_dataset
from compression.deployment.export_formats import FORMATS
from compression.deployment.exported import Exported, Parity
from compression.errors import ExportError
from compression.image_size import height_width
from compression.models.detector import read_checkpoint
from compression.models.kinds import KINDS, task_of

# Enough for some hundred detections on most data sets, and few enough for a minute or two of a large model on a CPU.
N_IMAGES = 64

# Detections count from Ultralytics' own confidence of `predict` on: those that a user of the file gets to see.
CONFIDENCE = 0.25

# A pair of one class is one object from this overlap on, as in mAP50.
MATCH_IOU = 0.5

# Differences that nobody sees. Half a pixel moves no drawn line by more than one pixel, and scores are written with two
# decimals. An export in full precision stays far below: it adds up the same numbers in another order.
BOX_TOLERANCE_PX = 0.5
SCORE_TOLERANCE = 0.01


def measure_parity(
    checkpoint: Path, exported: Exported, *, dataset: Dataset | None = None, n_images: int = N_IMAGES, device: str = ""
) -> Parity:
    """Run a checkpoint, in full precision, and a file that was made of it, and compare what they detect.

    Args:
        checkpoint: the .pt.
        exported: the file.
        dataset: validation images from all over it are taken; without one, the photographs that come with Ultralytics
            and drawn images of `shapes`.
        n_images: at most so many, photographs aside.
        device: Ultralytics' device string; "" for the CPU, or the first GPU for a file that runs on one only.

    Raises:
        ExportError: the file cannot be run.
        DatasetError: the images cannot be found.
    """
    known = FORMATS[exported.format]
    device = device.split(",")[0] or ("0" if exported.precision in known.on_gpu else "cpu")
    module, _ = read_checkpoint(checkpoint)
    with _images(dataset, n_images) as (images, description):
        task = task_of(module)
        reference = _detect(module, images, exported, device, task)
        try:
            found = _detect(exported.path, images, exported, device, task)
        except Exception as error:  # each runtime has errors of its own
            reason = str(error).split("\n", 1)[0].rstrip(".")
            raise ExportError(f"{exported.path.name!r} was made, but cannot be run: {reason}.") from error
    # Their places follow from the boxes, their shapes from numbers that are not looked at.
    description += " (boxes, not masks)" if task == "segment" else ""
    return compare(reference, found, images=description)


def compare(checkpoint: Sequence[Tensor], exported: Sequence[Tensor], *, images: str) -> Parity:
    """Compare the detections of two models on the same images.

    Args:
        checkpoint: of each image [N, 6 + further]: box xyxy in pixels, score, class, further places in pixels.
        exported: likewise.
        images: what the images are, for the reader.
    """
    pairs = [_matched(ours, theirs) for ours, theirs in zip(checkpoint, exported, strict=True)]
    boxes = torch.cat([(_places(ours) - _places(theirs)).abs().amax(1) for ours, theirs in pairs] or [torch.zeros(0)])
    scores = torch.cat([(ours[:, 4] - theirs[:, 4]).abs() for ours, theirs in pairs] or [torch.zeros(0)])
    equal = (boxes <= BOX_TOLERANCE_PX) & (scores <= SCORE_TOLERANCE)
    return Parity(
        images=images,
        n_images=len(checkpoint),
        n_checkpoint=sum(map(len, checkpoint)),
        n_exported=sum(map(len, exported)),
        n_matched=len(boxes),
        n_equal=int(equal.sum()),
        max_box_px=float(boxes.max()) if len(boxes) else None,
        max_score=float(scores.max()) if len(scores) else None,
    )


def _places(rows: Tensor) -> Tensor:
    """All that is measured in pixels."""
    return torch.cat([rows[:, :4], rows[:, 6:]], 1)


def _matched(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """The detections of both that are of one class and overlap, row by row; the pairing with most overlap in all."""
    overlap = box_iou(ours[:, :4], theirs[:, :4]) * (ours[:, None, 5] == theirs[None, :, 5])
    # What does not overlap enough must not push a pair apart that does.
    overlap = overlap * (overlap >= MATCH_IOU)
    rows, columns = (torch.as_tensor(index) for index in linear_sum_assignment(overlap.numpy(), maximize=True))
    is_pair = overlap[rows, columns] > 0
    return ours[rows[is_pair]], theirs[columns[is_pair]]


@contextmanager
def _images(dataset: Dataset | None, n_images: int) -> Iterator[tuple[list[str], str]]:
    """Images to look at, and what they are; what is drawn for it is gone afterwards."""
    if dataset is not None:
        found = _class_images(dataset) if dataset.task == "classify" else _validation_images(dataset.yaml_file)
        yield _spread(found, n_images), f"validation images of {dataset.name}"
        return
    with tempfile.TemporaryDirectory() as folder:
        drawn = _validation_images(draw_dataset(Path(folder) / SHAPES, {"train": 0, "val": n_images}))
        photographs = sorted(str(file) for file in ASSETS.glob("*.jpg"))
        yield [*photographs, *drawn], f"photographs of Ultralytics and drawn images of {SHAPES}"


def _validation_images(yaml_file: Path) -> list[str]:
    places = check_det_dataset(str(yaml_file), autodownload=False)["val"]
    return [pair.image for pair in image_pairs(yaml_file, "val", places if isinstance(places, list) else [places])]


def _class_images(dataset: Dataset) -> list[str]:
    files = Path(check_cls_dataset(dataset.yaml_file, split="val")["val"]).rglob("*.*")
    return sorted(str(file) for file in files if file.suffix[1:].lower() in IMG_FORMATS)


def _spread(images: list[str], n_images: int) -> list[str]:
    """So many of them at equal distances; all where there are fewer."""
    n_chosen = min(n_images, len(images))
    return [images[index * len(images) // n_chosen] for index in range(n_chosen)]


def _detect(
    model: DetectionModel | Path, images: list[str], exported: Exported, device: str, task: TaskName
) -> list[Tensor]:
    """What is found on each image, see `compare`."""
    is_file = isinstance(model, Path)
    # Of the other formats each tells by itself that it wants images in half precision.
    half = is_file and (exported.format, exported.precision) == ("torchscript", "fp16")
    predictor = KINDS[task].predictor(
        overrides={
            "task": task,
            "mode": "predict",
            "imgsz": list(height_width(exported.imgsz)),
            "conf": CONFIDENCE,
            "nms": False if exported.head == "e2e" else None,
            # The file takes squares only, and the checkpoint shall see the same.
            "rect": False,
            "device": device,
            "quantize": 16 if half else None,
            "save": False,
            "verbose": False,
        }
    )
    predictor.setup_model(str(model) if is_file else model, verbose=False)
    found: list[Tensor] = []
    for start in range(0, len(images), exported.batch):
        results = predictor(source=images[start : start + exported.batch])
        found += [_rows(result).detach().float().cpu() for result in results]
    return found


def _rows(result: Results) -> Tensor:
    """What was found on an image, see `compare`."""
    if result.probs is not None:
        whole = torch.tensor([0.0, 0.0, 1.0, 1.0])
        return torch.cat([whole, result.probs.top1conf.cpu()[None], torch.tensor([float(result.probs.top1)])])[None]
    if result.obb is not None:
        boxes = result.obb
        return torch.cat([boxes.xyxy, boxes.conf[:, None], boxes.cls[:, None], boxes.xyxyxyxy.flatten(1)], 1)
    if result.keypoints is not None:
        return torch.cat([result.boxes.data, result.keypoints.xy.flatten(1)], 1)
    return result.boxes.data
