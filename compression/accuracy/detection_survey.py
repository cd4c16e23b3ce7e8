"""Two checkpoints on all validation images of a data set: which labelled objects each of them finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from compression.accuracy.detection_changes import found_by
from compression.accuracy.detection_ranking import (
    DetectionRanking,
    ObjectOutcome,
    find_ranking,
    rank_classes,
    rank_images,
    rank_sizes,
    ranking_key,
    save_ranking,
    size_of,
    total_of,
)
from compression.accuracy.detections import DEFAULT_CONF, Detection, LabelledBox, detect
from compression.accuracy.forms import RotatedBox
from compression.accuracy.labels import ValidationImages, validation_images
from compression.errors import ModelError
from compression.spec import HeadName

if TYPE_CHECKING:
    from compression.data.dataset import Dataset
    from compression.models.detector import Detector

# Called with the number of looks at an image done so far, and of all.
Tell = Callable[[int, int], None]

_PROGRESS = re.compile(r"looked (\d+) of (\d+) times at an image")


def silent(n_done: int, n_all: int) -> None:
    """Tell nobody."""


def progress_line(n_done: int, n_all: int) -> str:
    """How far a survey is, for a log."""
    return f"looked {n_done} of {n_all} times at an image"


def progress_in(line: str) -> tuple[int, int] | None:
    """The numbers of a `progress_line` within a line of a log; None where it holds none."""
    said = _PROGRESS.search(line)
    return (int(said[1]), int(said[2])) if said else None


def survey(
    before: Detector,
    after: Detector,
    dataset: Dataset,
    *,
    imgsz: int,
    head: HeadName,
    conf: float = DEFAULT_CONF,
    device: str = "",
    again: bool = False,
    images: ValidationImages | None = None,
    tell: Tell = silent,
) -> DetectionRanking:
    """Rank what is lost between two checkpoints; a stored ranking of the same question is given back at once.

    Args:
        before: the first model, from a checkpoint.
        after: the second one likewise.
        dataset: its validation images are looked at.
        imgsz: the longer side that images are scaled to, pixels.
        head: which predictions count, of both models.
        conf: detections of a lower score count as not seen.
        device: Ultralytics' device string.
        again: look at the images even where a ranking is stored, and replace it.
        images: those images by the names that the user knows; None where they have these names in `dataset` too.
        tell: is told how far it is.

    Raises:
        SpecError: this machine has no such device.
        ModelError: a model has random weights or other classes than the data set, or no end-to-end head.
        DatasetError: an image or label cannot be used.
        ImageError: an image is of a format that is not read, or too large.
    """
    files = [_checkpoint(detector, dataset) for detector in (before, after)]
    assert before.weights_sha256 is not None
    assert after.weights_sha256 is not None
    key = ranking_key(
        before.weights_sha256, after.weights_sha256, dataset.fingerprint, imgsz=imgsz, head=head, conf=conf
    )
    stored = find_ranking(key)
    if stored and not again:
        return stored
    from compression.environment import describe_environment

    images = images or validation_images(str(dataset.yaml_file), task=dataset.task)
    n_images = len(images.pairs)
    seen: list[list[list[Detection]]] = [
        detect(file, _told(images, tell, number * n_images), imgsz=imgsz, head=head, conf=conf, device=device)
        for number, file in enumerate(files)
    ]
    outcomes = _outcomes(images, seen[0], seen[1], imgsz)
    ranking = DetectionRanking(
        key=key,
        before=before.label,
        after=after.label,
        before_sha256=before.weights_sha256,
        after_sha256=after.weights_sha256,
        data=dataset.name,
        data_fingerprint=dataset.fingerprint,
        imgsz=imgsz,
        head=head,
        conf=conf,
        n_images=n_images,
        total=total_of(outcomes),
        images=rank_images(outcomes),
        classes=rank_classes(outcomes),
        sizes=rank_sizes(outcomes),
        environment=describe_environment(device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    save_ranking(ranking)
    return ranking


def _checkpoint(detector: Detector, dataset: Dataset) -> Path:
    if detector.file is None:
        raise ModelError(f"{detector.label!r} has random weights; give the path of a .pt.")
    if len(detector.module.names) != dataset.nc:
        raise ModelError(
            f"{detector.label!r} predicts {len(detector.module.names)} classes and {dataset.name!r} has {dataset.nc}; "
            f"compare models on the data that they were trained for."
        )
    return detector.file


def _told(images: ValidationImages, tell: Tell, n_before: int) -> Iterator[Path]:
    """The image files, each time telling how many looks are done."""
    n_all = 2 * len(images.pairs)
    for number, name in enumerate(images.pairs):
        tell(n_before + number, n_all)
        yield images.file(name)


def _outcomes(
    images: ValidationImages, before: Sequence[list[Detection]], after: Sequence[list[Detection]], imgsz: int
) -> list[ObjectOutcome]:
    outcomes = []
    for name, old, new in zip(images.pairs, before, after, strict=True):
        width, height, objects = images.labels(name)
        scale = imgsz / max(width, height)
        found = zip(objects, found_by(objects, old), found_by(objects, new), strict=True)
        outcomes += [
            ObjectOutcome(
                image=name,
                class_name=box.name,
                size=size_of(_area(box) * scale**2),
                before=by_old,
                after=by_new,
            )
            for box, by_old, by_new in found
        ]
    return outcomes


def _area(box: LabelledBox) -> float:
    if isinstance(box.form, RotatedBox):
        return box.form.xywhr[2] * box.form.xywhr[3]
    left, top, right, bottom = box.box_xyxy
    return (right - left) * (bottom - top)
