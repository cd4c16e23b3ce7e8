"""The models that are known by name. Imports no torch, so that pages can list them."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from compression.home import home

TaskName = Literal["detect", "segment", "pose", "obb", "classify"]

SCALES = "nsmlx"
# Family -> its scales, "" for a family of one size.
FAMILIES = {
    "yolo26": SCALES,
    "yolo11": SCALES,
    "yolov8": SCALES,
    "yolo12": SCALES,
    "yolov10": "nsmblx",
    "yolov9": "tsmce",
    "yolov6": SCALES,
    "yolov5": SCALES,
    "yolov3": "",
    "yolov3-tiny": "",
    "yolov3-spp": "",
    "yolo26-p2": SCALES,
    "yolo26-p6": SCALES,
    "yolov8-p2": SCALES,
    "yolov8-p6": SCALES,
    "yolov8-ghost": SCALES,
    "yolov8-ghost-p2": SCALES,
    "yolov8-ghost-p6": SCALES,
    "yolov5-p6": SCALES,
    **{f"{base}-{task}": SCALES for task in ("seg", "pose", "obb", "cls") for base in ("yolo26", "yolo11", "yolov8")},
    **{f"yolo12-{task}": SCALES for task in ("seg", "pose", "obb", "cls")},
    "yolov9-seg": "ce",
    "yolov8-seg-p6": SCALES,
    "yolov8-pose-p6": SCALES,
}
# How names of architectures tell their task.
_TASKS: dict[str, TaskName] = {"seg": "segment", "pose": "pose", "obb": "obb", "cls": "classify"}
# Families whose every scale has a file of its own, which all others share.
FILES_OF_THEIR_OWN = ("yolov10", "yolov9", "yolov9-seg")
# Families that Ultralytics offers no trained weights of.
UNTRAINED = (
    "yolov6",
    *(family for family in FAMILIES if re.search("-p2|-ghost|yolo26-p6|yolov8-.*p6|yolo12-", family)),
)


def _names(family: str) -> tuple[str, ...]:
    base, dash, variant = family.partition("-")
    return tuple(f"{base}{scale}{dash}{variant}" for scale in FAMILIES[family] or ("",))


# Catalog name -> family, in the order in which they are listed.
CATALOG: dict[str, str] = {name: family for family in FAMILIES for name in _names(family)}


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model that can be asked for by name.

    Attributes:
        name: catalog name.
        params: of the training graph at 80 classes, as Ultralytics' yaml says; None where it does not.
        gflops: of the same at 640 pixels, as it says; `trimboard plan` counts for itself.
        source: where the pretrained checkpoint comes from.
    """

    name: str
    params: int | None
    gflops: float | None
    source: str


def is_offered(name: str) -> bool:
    """Whether Ultralytics offers trained weights of a catalog model."""
    # The largest of a family without others.
    return CATALOG[name] not in UNTRAINED or name == "yolov8x-pose-p6"


def task_of_name(name: str) -> TaskName:
    """The task of a model of the catalog, by its name."""
    task = re.search("-(seg|pose|obb|cls)", name)
    return _TASKS[task[1]] if task else "detect"


def known_models() -> list[KnownModel]:
    """All models of the catalog, with the sizes that the installed Ultralytics gives in its yaml files."""
    return [_described(name, family) for name, family in CATALOG.items()]


def catalog_name(label: str) -> str | None:
    """The catalog name that a model's label stands for; None where it stands for none.

    Ultralytics' own weights of YOLOv3 and YOLOv5 are named with a "u", and "6" stands for "-p6".
    """
    if label in CATALOG:
        return label
    stem = label.removesuffix("u")
    name = f"{stem.removesuffix('6')}-p6" if re.fullmatch(r"yolov5[nsmlx]6", stem) else stem
    return name if name in CATALOG and CATALOG[name].startswith(("yolov3", "yolov5")) else None


def weights_file(name: str) -> Path:
    """Where the downloaded checkpoint of a catalog model lies, or will lie, by the name that Ultralytics gives it."""
    if CATALOG.get(name, "").startswith(("yolov3", "yolov5")):
        name = f"{name.replace('-p6', '6')}u"
    return home() / "weights" / f"{name}.pt"


def model_label(model: str) -> str:
    """The name that results of a model are grouped by: file name without folder and suffix."""
    name = model.replace("\\", "/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if name.lower().endswith((".pt", ".yaml", ".yml")) else name


@cache
def n_blocks_of(name: str) -> tuple[int, int] | None:
    """How many blocks a catalog model's backbone has, and how many the whole model; None of other models.

    The last block is the head; those between the two are the neck.
    """
    if name not in CATALOG:
        return None
    config = yaml.safe_load(_yaml_text(name, CATALOG[name]))
    n_backbone = len(config["backbone"])
    return n_backbone, n_backbone + len(config["head"])


def _yaml_text(name: str, family: str) -> str:
    """What the installed Ultralytics' file of an architecture says."""
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    version = re.sub(r"^yolo|-.*$", "", family)
    file = f"{name if family in FILES_OF_THEIR_OWN else family}.yaml"
    return (Path(spec.origin).parent / "cfg" / "models" / version / file).read_text(encoding="utf-8")


def _described(name: str, family: str) -> KnownModel:
    text = _yaml_text(name, family)
    scale = name.removeprefix(family.partition("-")[0]).partition("-")[0]
    said = re.search(rf"^\s*{scale}: .*summary: .*?([\d,]+) parameters, .*?([\d.]+) GFLOPs", text, re.M | re.I)
    weights = weights_file(name)
    trained = "Ultralytics downloads it" if is_offered(name) else "no trained weights; from scratch only"
    return KnownModel(
        name=name,
        params=int(said[1].replace(",", "")) if said else None,
        gflops=float(said[2]) if said else None,
        source=str(weights) if weights.is_file() else trained,
    )
