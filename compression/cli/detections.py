"""The command that ranks what one detector loses against another."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from compression.accuracy.detection_ranking import SIZE_MEANING, DetectionRanking, RankRow
from compression.accuracy.detections import DEFAULT_CONF
from compression.cli.commands import Add
from compression.errors import SpecError
from compression.image_size import square_side
from compression.spec import DEFAULT_IMGSZ, HeadName

if TYPE_CHECKING:
    from compression.models.detector import Detector

# Of the images so many are printed; `--json` gives all.
MOST_PRINTED = 20
# A survey tells its progress so many times, not at each image.
N_TOLD = 100


def add_detections_command(add: Add) -> None:
    """Add the command to the parser of all commands."""
    asked = add(
        "detections", _detections, "Rank the images, classes and object sizes that lose most between two models."
    )
    help_ = "path of a .pt, or the beginning of a stored result's key"
    asked.add_argument("before", metavar="BEFORE", help=help_)
    asked.add_argument("after", metavar="AFTER", help=help_)
    asked.add_argument("--data", required=True, help="shapes, a known data set, or the path of a data.yaml")
    asked.add_argument("--classes", default="", help="the only classes that both models know, as in person,car")
    asked.add_argument(
        "--imgsz", type=square_side, help=f"pixels (default: the checkpoint's run, else {DEFAULT_IMGSZ})"
    )
    asked.add_argument(
        "--head", choices=["e2e", "nms"], help="predictions that count (default: e2e where both have it)"
    )
    asked.add_argument(
        "--conf", type=float, default=DEFAULT_CONF, help="lower scores count as not seen (default: %(default)s)"
    )
    asked.add_argument("--device", default="", help="cpu, 0, ... (default: chosen by Ultralytics)")
    asked.add_argument("--again", action="store_true", help="look at the images even where a ranking is stored")


def _detections(options: argparse.Namespace, results: TextIO) -> None:
    if not 0 < options.conf < 1:
        raise SpecError(f"A confidence of {options.conf:g} is not possible; give a number between 0 and 1.")
    from compression.accuracy.detection_survey import survey
    from compression.accuracy.labels import validation_images
    from compression.data.classes import class_subset, parse_subset
    from compression.data.dataset import open_dataset
    from compression.models.detector import open_detector
    from compression.models.stored import find_checkpoint

    before, after = (open_detector(str(find_checkpoint(text).file)) for text in (options.before, options.after))
    dataset = open_dataset(options.data, before.task)
    classes = parse_subset(options.classes, dataset.names)
    ranking = survey(
        before,
        after,
        class_subset(dataset, classes) if classes else dataset,
        imgsz=_imgsz(options.imgsz, before, after),
        head=_head(options.head, before, after),
        conf=options.conf,
        device=options.device,
        again=options.again,
        # The view of some classes numbers its images anew.
        images=validation_images(str(dataset.yaml_file), classes, dataset.task) if classes else None,
        tell=_tell,
    )
    if options.json:
        json.dump(ranking.to_dict(), results, indent=1)
        results.write("\n")
        return
    _write(ranking, results)


def _imgsz(asked: int | None, *detectors: Detector) -> int:
    if asked is not None and asked < 1:
        raise SpecError(f"An image size of {asked} is not possible; give pixels, as in 640.")
    noted = [int(one.info["imgsz"]) for one in reversed(detectors) if "imgsz" in one.info]
    return asked or next(iter(noted), DEFAULT_IMGSZ)


def _head(asked: HeadName | None, *detectors: Detector) -> HeadName:
    return asked or ("e2e" if all(one.has_e2e_head for one in detectors) else "nms")


def _tell(n_done: int, n_all: int) -> None:
    from compression.accuracy.detection_survey import progress_line

    if n_done % max(n_all // N_TOLD, 1) == 0:
        sys.stderr.write(f"[trimboard] {progress_line(n_done, n_all)}\n")
        sys.stderr.flush()


def _write(ranking: DetectionRanking, results: TextIO) -> None:
    import pandas as pd

    total = ranking.total
    results.write(
        f"{ranking.before} finds {total.n_before} and {ranking.after} finds {total.n_after} of {total.n_objects} "
        f"objects on the {ranking.n_images} validation images of {ranking.data} "
        f"(confidence {ranking.conf:g}, IoU {ranking.iou:g}, {ranking.head} head, {ranking.imgsz} pixels).\n"
    )
    for title, noun, rows in (
        ("Object sizes, by recall lost", "size", ranking.sizes),
        ("Classes, by recall lost", "class", ranking.classes),
        (_of_images(ranking), "image", ranking.images[:MOST_PRINTED]),
    ):
        table = pd.DataFrame(_cells(noun, rows)).to_string(index=False, float_format="{:.3f}".format)
        results.write(f"\n{title}\n{table}\n")
    results.write(f"\n{SIZE_MEANING}.\n")


def _of_images(ranking: DetectionRanking) -> str:
    n_images = len(ranking.images)
    shown = f", the first {MOST_PRINTED} of {n_images}; --json gives all" if n_images > MOST_PRINTED else ""
    return f"Images, by objects lost{shown}"


def _cells(noun: str, rows: Sequence[RankRow]) -> list[dict[str, Any]]:
    return [
        {
            noun: row.name,
            "objects": row.n_objects,
            "found_before": row.n_before,
            "found_after": row.n_after,
            "lost": row.n_lost,
            "gained": row.n_gained,
            "recall_before": row.recall_before,
            "recall_after": row.recall_after,
            "recall_change": -row.loss + 0.0,
        }
        for row in rows
    ]
