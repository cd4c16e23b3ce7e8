"""Measure level 0 to 5 of one model on one data set, and write the records that the repository ships.

    python benchmarks/shipped_results.py cache/shipped/shapes/yolo26n.pt --data shapes --imgsz 320 --epochs 10 \\
        --device cpu --out cache/shipped/shapes-defaults --levels 1 2 3 4 5 --checkpoints 5

Each level is an ordinary run by the present defaults; with `--before` by the method and the recipe of before them, with
which they are compared. It is measured anew, since what is shipped would answer at once; an interrupted level goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache.record import RunRecord
from compression.jobs.local import write_progress
from compression.levels import LEVELS, ORIGINAL
from compression.pipeline import Outcome, compress
from compression.spec import WITHOUT_IMAGES

BEFORE: dict[str, Any] = {"method": WITHOUT_IMAGES, "recipe": "standard"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--imgsz", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--device", default="")
    parser.add_argument("--levels", type=int, nargs="*", default=[ORIGINAL, *LEVELS])
    parser.add_argument("--before", action="store_true", help="by magnitude alone, fine-tuned by Ultralytics' defaults")
    parser.add_argument("--out", type=Path, required=True, help="folder of the records")
    parser.add_argument("--checkpoints", type=int, nargs="*", default=[], help="levels whose checkpoint is shipped")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    for level in arguments.levels:
        outcome = compress(
            arguments.model,
            arguments.data,
            level=level,
            epochs=arguments.epochs,
            imgsz=arguments.imgsz,
            device=arguments.device,
            again=True,
            tell=write_progress,
            **(BEFORE if arguments.before else {}),
        )
        record = _without_places(outcome, arguments.out if level in arguments.checkpoints else None)
        file = arguments.out / f"{record.model}-level{level}.json"
        file.write_text(json.dumps(record.to_dict(), indent=1) + "\n")
        print(f"{file}: mAP50-95 {record.metrics.map50_95}, mAP50 {record.metrics.map50}", flush=True)


def _without_places(outcome: Outcome, checkpoints: Path | None) -> RunRecord:
    """The record as it is shipped: no paths of this machine, and a checkpoint only where it is shipped too."""
    record = outcome.record
    assert record.spec is not None
    if checkpoints is None:
        return replace(record, spec=record.spec.without_places(), artifacts=())
    assert outcome.checkpoint is not None
    target = checkpoints / outcome.checkpoint.name
    if outcome.checkpoint.resolve() != target.resolve():
        shutil.copy(outcome.checkpoint, target)
    return replace(record, spec=record.spec.without_places())


if __name__ == "__main__":
    main()
