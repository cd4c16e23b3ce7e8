"""Results that others published, kept as readable JSON and never mixed with measured ones.

A file names its source once and lists its results; figures that the source does not give are left out:

    {"source": "...", "data": "coco", "imgsz": 640, "warnings": ["..."],
     "results": [{"model": "yolo26s", "level": 5, "head": "e2e", "training": {"recipe": "plain", "epochs": 100},
                  "original": {"gflops": 22.8, "map50_95": 0.476}, "compressed": {"gflops": 17.7, "map50_95": 0.428}}]}

A result of level 0 has no "compressed". GFLOPs and parameters are of the training graph unless "_deployed".
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from cache.record import Costs, Metrics, RunRecord

PUBLISHED = Path(__file__).parent / "shipped" / "published"


@lru_cache
def load_published(folder: Path = PUBLISHED) -> tuple[RunRecord, ...]:
    """The published results of every file in `folder`; read once a process.

    Raises:
        KeyError, ValueError: a file is not in the form above, which is a defect of the program that ships it.
    """
    return tuple(record for file in sorted(folder.glob("*.json")) for record in _records(file))


def _records(file: Path) -> list[RunRecord]:
    page = json.loads(file.read_text(encoding="utf-8"))
    return [_record(file.stem, page, result) for result in page["results"]]


def _record(publication: str, page: dict[str, Any], result: dict[str, Any]) -> RunRecord:
    original = result["original"]
    compressed = original if result["level"] == 0 else result["compressed"]
    name = (publication, result["model"], page["data"], f"level{result['level']}", result["head"])
    return RunRecord(
        key=f"published:{'-'.join(name)}",
        provenance="published",
        model=result["model"],
        architecture=result["model"],
        data=page["data"],
        level=result["level"],
        head=result["head"],
        imgsz=page["imgsz"],
        costs_original=_costs(original),
        costs=_costs(compressed),
        metrics_original=_metrics(original),
        metrics=_metrics(compressed),
        created="",
        published_training=result.get("training", {}),
        warnings=tuple(page["warnings"]),
        source=page["source"],
    )


def _costs(figures: dict[str, Any]) -> Costs:
    return Costs(
        gflops=figures.get("gflops"),
        params=figures.get("params"),
        gflops_deployed=figures.get("gflops_deployed"),
        params_deployed=figures.get("params_deployed"),
    )


def _metrics(figures: dict[str, Any]) -> Metrics:
    return Metrics(
        map50=figures.get("map50"),
        map50_95=figures.get("map50_95"),
        precision=figures.get("precision"),
        recall=figures.get("recall"),
    )
