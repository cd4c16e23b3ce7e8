"""The command that measures what each layer is worth."""

from __future__ import annotations

import argparse
import json
from typing import Any, TextIO

from cache.sensitivity import DEFAULT_IMAGES, GroupSensitivity, SensitivityRecord
from compression.cli.commands import Add
from compression.errors import SpecError
from compression.image_size import square_side
from compression.jobs.local import write_progress
from compression.models.tasks import TASKS, head_in_words
from compression.spec import default_imgsz_of


def add_sensitivity_command(add: Add) -> None:
    """Add the command to the parser of all commands."""
    asked = add(
        "sensitivity",
        _sensitivity,
        "Measure the accuracy lost when half of one layer's channels are cut and nothing else, layer by layer.",
    )
    asked.add_argument("model", metavar="MODEL", help="path of a .pt, or the beginning of a stored result's key")
    asked.add_argument("--data", required=True, help="shapes, a known data set, or the path of a data.yaml")
    asked.add_argument("--classes", default="", help="the only classes that the model knows, as in person,car")
    asked.add_argument("--imgsz", type=square_side, help="pixels (default: those of the checkpoint's run or training)")
    asked.add_argument(
        "--images",
        type=int,
        metavar="N",
        default=DEFAULT_IMAGES,
        help="validation images, evenly spaced, at most (default: %(default)s)",
    )
    asked.add_argument("--head", choices=["e2e", "nms"], help="predictions that count (default: e2e if there)")
    asked.add_argument("--device", default="", help="cpu, 0, ... (default: chosen by Ultralytics)")
    asked.add_argument("--again", action="store_true", help="measure even where the answer is stored")


def _sensitivity(options: argparse.Namespace, results: TextIO) -> None:
    for name in ("imgsz", "images"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise SpecError(f"--{name} {value} is not possible; give a whole number from 1 up.")
    from compression.data.classes import class_subset, parse_subset
    from compression.data.dataset import open_dataset
    from compression.pruning.sensitivity import measure_sensitivity, subject_for

    subject = subject_for(options.model)
    dataset = open_dataset(options.data, subject.task)
    classes = parse_subset(options.classes, dataset.names)
    record = measure_sensitivity(
        subject,
        class_subset(dataset, classes) if classes else dataset,
        imgsz=options.imgsz or subject.imgsz or default_imgsz_of(subject.task),
        head=options.head or ("e2e" if subject.has_e2e_head else "nms"),
        n_images=options.images,
        device=options.device,
        again=options.again,
        tell=write_progress,
    )
    if options.json:
        json.dump(record.to_dict(), results, indent=1)
        results.write("\n")
        return
    _write(record, results)


def _write(record: SensitivityRecord, results: TextIO) -> None:
    import pandas as pd

    spec = record.spec
    free = [group for group in record.groups if group.map50_95 is not None]
    rows = [_row(record, group) for group in sorted(free, key=lambda group: group.map50_95 or 0.0)]
    results.write(
        f"{record.model} has {TASKS[record.task].main} {record.map50_95:.3f} on {spec.n_images} of {record.n_val} "
        f"validation images of {record.data} ({head_in_words(record.task, spec.head)}, {spec.imgsz} pixels). With "
        f"{100 * spec.part:g}% of one layer's channels cut, the weakest by {spec.criterion}, with nothing recovered "
        f"and nothing trained:\n\n"
    )
    results.write(f"{pd.DataFrame(rows).to_string(index=False)}\n\n")
    for group in record.groups:
        if group.locked:
            results.write(f"{', '.join(group.layers)}: all {group.channels_before} channels stay, {group.locked}\n")
    results.write(f"Measured {record.created} in {record.seconds:.0f} s.\n")


def _row(record: SensitivityRecord, group: GroupSensitivity) -> dict[str, Any]:
    others = len(group.layers) - 1
    return {
        "layer": group.name,
        "coupled": f"+ {others}" if others else "",
        "channels": f"{group.channels_before} -> {group.channels_after}",
        TASKS[record.task].main: f"{group.map50_95:.3f}",
        "points_lost": f"{record.lost(group):.1f}",
        "gflops_saved": f"{100 * group.gflops_saved:.2f}%",
        "params_saved": f"{100 * group.params_saved:.2f}%",
    }
