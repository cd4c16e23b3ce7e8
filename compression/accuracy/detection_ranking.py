"""Which images, classes and object sizes lose most between two models: counted on labelled images, and kept as JSON.

Knows no torch; `compression.accuracy.detection_survey` counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cache.strict import misfit
from compression.accuracy.detection_changes import SAME_OBJECT_IOU
from compression.home import home
from compression.spec import HeadName

# Raised when the same question is answered otherwise; kept answers are then made anew.
RANKING_VERSION = 3

# COCO's sizes: areas in square pixels below which an object is small, and medium; https://cocodataset.org/#detection-eval.
# COCO counts pixels of the original image and of the object's mask; here it is the labelled box, scaled as the model
# gets to see it.
SMALL_BELOW = 32**2
MEDIUM_BELOW = 96**2
SIZES = ("small", "medium", "large")
SIZE_MEANING = "small: under 32 x 32 pixels as the model sees them, medium: under 96 x 96, large: the rest"


@dataclass(frozen=True, kw_only=True)
class ObjectOutcome:
    """A labelled object of the validation images, and which model finds it.

    Attributes:
        image: its image, by name.
        class_name: its class.
        size: one of `SIZES`.
        before: whether the first model finds it.
        after: whether the second one does.
    """

    image: str
    class_name: str
    size: str
    before: bool
    after: bool


@dataclass(frozen=True, kw_only=True)
class RankRow:
    """What two models find of some labelled objects.

    Attributes:
        name: what the objects have in common: their image, class or size.
        n_objects: how many there are, at least 1.
        n_before: found by the first model.
        n_after: found by the second one.
        n_lost: found by the first model only.
        n_gained: found by the second one only.
    """

    name: str
    n_objects: int
    n_before: int
    n_after: int
    n_lost: int
    n_gained: int

    @property
    def recall_before(self) -> float:
        """Part of the objects that the first model finds, 0 to 1."""
        return self.n_before / self.n_objects

    @property
    def recall_after(self) -> float:
        """Part of the objects that the second model finds, 0 to 1."""
        return self.n_after / self.n_objects

    @property
    def loss(self) -> float:
        """How far the recall falls from the first model to the second; negative where it rises."""
        return (self.n_before - self.n_after) / self.n_objects


@dataclass(frozen=True, kw_only=True)
class DetectionRanking:
    """What is lost between two models on the validation images of a data set.

    Attributes:
        key: see `ranking_key`.
        before: label of the first model.
        after: label of the second one.
        before_sha256: of its checkpoint.
        after_sha256: of its checkpoint.
        data: name of the data set.
        data_fingerprint: hash of its labels and images.
        imgsz: the longer side that images were scaled to, pixels.
        head: the predictions that count.
        conf: detections of a lower score count as not seen.
        iou: an object counts as found from this overlap on.
        n_images: validation images, also those without an object.
        total: all objects together.
        images: one row an image with objects; who loses most objects comes first.
        classes: one row a class with objects; whose recall falls most comes first.
        sizes: one row a size with objects, likewise.
        environment: versions and hardware.
        created: ISO 8601 date and time.
    """

    key: str
    before: str
    after: str
    before_sha256: str
    after_sha256: str
    data: str
    data_fingerprint: str
    imgsz: int
    head: HeadName
    conf: float
    n_images: int
    total: RankRow
    images: tuple[RankRow, ...]
    classes: tuple[RankRow, ...]
    sizes: tuple[RankRow, ...]
    created: str
    iou: float = SAME_OBJECT_IOU
    environment: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The ranking as plain data, versioned."""
        return {"version": RANKING_VERSION, **asdict(self)}


def ranking_key(before: str, after: str, fingerprint: str, *, imgsz: int, head: HeadName, conf: float) -> str:
    """Sha256 of everything that decides a ranking.

    Args:
        before: sha256 of the first checkpoint.
        after: sha256 of the second one.
        fingerprint: of the data set.
        imgsz: the longer side that images are scaled to, pixels.
        head: the predictions that count.
        conf: detections of a lower score count as not seen.
    """
    decisive = {
        "version": RANKING_VERSION,
        "before": before,
        "after": after,
        "data_fingerprint": fingerprint,
        "imgsz": imgsz,
        "head": head,
        "conf": conf,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def size_of(area: float) -> str:
    """The name that COCO gives to an object of that area, square pixels."""
    return SIZES[0] if area < SMALL_BELOW else SIZES[1] if area < MEDIUM_BELOW else SIZES[2]


def total_of(outcomes: Iterable[ObjectOutcome]) -> RankRow:
    """All objects as one row; there is at least one."""
    (row,) = _rows(outcomes, lambda _: "all")
    return row


def rank_images(outcomes: Iterable[ObjectOutcome]) -> tuple[RankRow, ...]:
    """One row an image. By objects lost, since a recall of two or three objects says little; then by recall lost."""
    rows = _rows(outcomes, lambda one: one.image)
    return tuple(sorted(rows, key=lambda row: (row.n_after - row.n_before, -row.loss, -row.n_lost, row.name)))


def rank_classes(outcomes: Iterable[ObjectOutcome]) -> tuple[RankRow, ...]:
    """One row a class, by recall lost, then by objects lost."""
    return _by_recall(_rows(outcomes, lambda one: one.class_name))


def rank_sizes(outcomes: Iterable[ObjectOutcome]) -> tuple[RankRow, ...]:
    """One row a size, by recall lost, then by objects lost."""
    return _by_recall(_rows(outcomes, lambda one: one.size))


def _by_recall(rows: Iterable[RankRow]) -> tuple[RankRow, ...]:
    return tuple(sorted(rows, key=lambda row: (-row.loss, -row.n_lost, row.name)))


def _rows(outcomes: Iterable[ObjectOutcome], name_of: Callable[[ObjectOutcome], str]) -> list[RankRow]:
    groups: dict[str, list[ObjectOutcome]] = defaultdict(list)
    for one in outcomes:
        groups[name_of(one)].append(one)
    return [
        RankRow(
            name=name,
            n_objects=len(group),
            n_before=sum(one.before for one in group),
            n_after=sum(one.after for one in group),
            n_lost=sum(one.before and not one.after for one in group),
            n_gained=sum(one.after and not one.before for one in group),
        )
        for name, group in groups.items()
    ]


def save_ranking(ranking: DetectionRanking) -> None:
    """Keep a ranking in the data folder; its file appears whole or not at all.

    Raises:
        HomeError: the data folder cannot be created.
        OSError: the file cannot be written.
    """
    file = _file(ranking.key)
    file.parent.mkdir(exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(ranking.to_dict()), encoding="utf-8")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def find_ranking(key: str) -> DetectionRanking | None:
    """The kept ranking of that `ranking_key`; None where it has to be made, also in place of a damaged one."""
    try:
        values = json.loads(_file(key).read_text(encoding="utf-8"))
        if values.pop("version") != RANKING_VERSION:
            return None
        rows = {name: tuple(RankRow(**row) for row in values[name]) for name in ("images", "classes", "sizes")}
        ranking = DetectionRanking(**{**values, **rows, "total": RankRow(**values["total"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return ranking if misfit(ranking, DetectionRanking) is None and ranking.key == key else None


def _file(key: str) -> Path:
    return home() / "detections" / f"{key}.json"
