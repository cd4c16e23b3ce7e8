"""The models that are known by name. Imports no torch, so that pages can list them."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from compression.home import home

SCALES = "nsmlx"
# Family -> its file among Ultralytics' model yamls.
FAMILIES = {"yolo26": "26/yolo26.yaml", "yolo11": "11/yolo11.yaml", "yolov8": "v8/yolov8.yaml"}

# Catalog name -> family, in the order in which they are listed.
CATALOG: dict[str, str] = {f"{family}{scale}": family for family in FAMILIES for scale in SCALES}


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model that can be asked for by name.

    Attributes:
        name: catalog name.
        params: of the training graph at 80 classes, as Ultralytics' yaml says.
        gflops: of the same at 640 pixels, as it says; `trimboard plan` counts for itself.
        source: where the pretrained checkpoint comes from.
    """

    name: str
    params: int
    gflops: float
    source: str


def known_models() -> list[KnownModel]:
    """All models of the catalog, with the sizes that the installed Ultralytics gives in its yaml files."""
    return [_described(name, family) for name, family in CATALOG.items()]


def weights_file(name: str) -> Path:
    """Where the downloaded checkpoint of a catalog model lies, or will lie."""
    return home() / "weights" / f"{name}.pt"


def model_label(model: str) -> str:
    """The name that results of a model are grouped by: file name without folder and suffix."""
    name = model.replace("\\", "/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if name.lower().endswith((".pt", ".yaml", ".yml")) else name


def _described(name: str, family: str) -> KnownModel:
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "cfg" / "models" / FAMILIES[family]).read_text(encoding="utf-8")
    scale = name.removeprefix(family)
    said = re.search(rf"^\s*{scale}: .*summary: .*?([\d,]+) parameters, .*?([\d.]+) GFLOPs", text, re.M | re.I)
    assert said is not None
    weights = weights_file(name)
    return KnownModel(
        name=name,
        params=int(said[1].replace(",", "")),
        gflops=float(said[2]),
        source=str(weights) if weights.is_file() else "Ultralytics downloads it",
    )
