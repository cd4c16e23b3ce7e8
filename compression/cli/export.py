"""The command that makes files for deployment."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cache.record import Progress, RunRecord
from compression.cli.commands import MEASURED_SIZE, Add
from compression.deployment.export_formats import FORMATS, parse_formats, parse_precisions
from compression.deployment.exported import ExportRecord, describe_parity, snippet
from compression.errors import DatasetError, ExportError
from compression.image_size import image_size
from compression.jobs.local import write_progress

if TYPE_CHECKING:
    from compression.models.detector import Detector


def add_export_command(add: Add) -> None:
    """Add the command to the parser of all commands."""
    export = add("export", _export, "Export a checkpoint for deployment, and compare each file with it.")
    export.add_argument(
        "checkpoint", metavar="CKPT|KEY", help="path of a .pt, or the key of a measured result, or its beginning"
    )
    export.add_argument(
        "--format", default="onnx", metavar="LIST", help=f"any of {', '.join(FORMATS)} (default: %(default)s)"
    )
    export.add_argument(
        "--precision", default="fp32", metavar="LIST", help="any of fp32, fp16, int8 (default: %(default)s)"
    )
    export.add_argument("--imgsz", type=image_size, help=MEASURED_SIZE)
    export.add_argument("--batch", type=int, default=1, help="images that a file takes at once (default: %(default)s)")
    export.add_argument("--head", choices=["e2e", "nms"], help="predictions to give (default: e2e where there is one)")
    export.add_argument(
        "--data", help="data set whose training images calibrate INT8, and whose validation images are compared on"
    )
    export.add_argument("--device", default="", help="cpu, 0, ... (default: cpu, or a GPU where a format needs one)")
    export.add_argument("--out", type=Path, metavar="FOLDER", help="where files go (default: the data folder)")


def _export(options: argparse.Namespace, results: TextIO) -> None:
    formats, precisions = parse_formats(options.format), parse_precisions(options.precision)
    detector, stored = _opened(options.checkpoint)
    from compression.data.dataset import open_dataset
    from compression.deployment.deploy import deploy

    noted = stored.imgsz if stored else detector.usual_imgsz
    data = options.data or _data_of(stored)
    try:
        dataset = open_dataset(data, detector.task) if data else None
    except DatasetError as error:
        if options.data:
            raise
        # Nobody asked for the run's own data set; most files need none.
        write_progress(Progress(stage=f"{error} Compared on images that come with the program instead"))
        dataset = None
    wanted = list(product(precisions, formats))
    done: list[ExportRecord] = []
    left_out: list[str] = []
    for number, (precision, format_) in enumerate(wanted, start=1):
        try:
            record = deploy(
                detector,
                format_,
                imgsz=noted if options.imgsz is None else options.imgsz,
                batch=options.batch,
                precision=precision,
                head=options.head,
                dataset=dataset,
                device=options.device,
                folder=options.out.resolve() if options.out else None,
                tell=partial(_tell, f"{number} of {len(wanted)}"),
            )
        except ExportError as error:
            left_out.append(str(error))
        else:
            done.append(record)
    if not done:
        raise ExportError(" ".join(left_out))
    _write(done, left_out, options.json, results)


def _tell(place: str, progress: Progress) -> None:
    write_progress(replace(progress, stage=f"{place}: {progress.stage}"))


def _opened(text: str) -> tuple[Detector, RunRecord | None]:
    """A checkpoint, and the result that its key was given of.

    Raises:
        ModelError: there is no such checkpoint, or it cannot be opened.
        SpecError: several results have a key that begins so.
    """
    from compression.models.detector import open_detector
    from compression.models.stored import KEY, find_checkpoint

    if not KEY.fullmatch(text) or Path(text).exists():
        return open_detector(text), None
    stored = find_checkpoint(text)
    return open_detector(str(stored.file)), stored.record


def _data_of(record: RunRecord | None) -> str | None:
    """The data set that a result was measured on where it is on this machine."""
    from compression.data.dataset import at_hand

    return at_hand(record.data, record.spec.data_source) if record and record.spec else None


def _write(done: Sequence[ExportRecord], left_out: Sequence[str], as_json: bool, results: TextIO) -> None:
    if as_json:
        files = [{**one.to_dict(), "snippet": snippet(one.exported, str(one.exported.path))} for one in done]
        json.dump({"files": files, "left_out": left_out}, results, indent=1)
        results.write("\n")
    else:
        results.write("\n".join(map(_described, done)))
    for sentence in left_out:
        sys.stderr.write(f"trimboard: {sentence}\n")


def _described(record: ExportRecord) -> str:
    exported = record.exported
    lines = [
        f"{exported.path}",
        f"{exported.size_bytes:,} bytes, sha256 {exported.sha256}",
        describe_parity(record.parity) if record.parity else record.not_compared,
        *exported.warnings,
        "",
        *(f"    {line}".rstrip() for line in snippet(exported, str(exported.path)).splitlines()),
    ]
    return "\n".join(lines) + "\n"
