"""Export a checkpoint for deployment, by Ultralytics' own exporter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

from ultralytics.engine.exporter import Exporter

from compression.data.dataset import Dataset
from compression.deployment.export_formats import FORMATS, QUANTIZE, Format, head_of, obstacle
from compression.deployment.exported import Exported, content_sha256, export_path, size_of
from compression.environment import check_device
from compression.errors import ExportError, SpecError
from compression.image_size import ImageSize, height_width
from compression.models.detector import Detector, open_detector
from compression.models.kinds import check_image_size
from compression.spec import FormatName, HeadName, PrecisionName

# INT8 is calibrated on so many training images at most: what NNCF takes by default, and Ultralytics recommends.
CALIBRATION_IMAGES = 300

# The exporter writes beside the checkpoint and replaces its suffix wherever that stands in the path, so it is told one
# that no folder has.
_DRAFT_SUFFIX = ".to-be-exported"


def export_checkpoint(
    checkpoint: Path,
    format_: FormatName,
    folder: Path,
    *,
    imgsz: ImageSize,
    batch: int = 1,
    precision: PrecisionName = "fp32",
    head: HeadName | None = None,
    dataset: Dataset | None = None,
    device: str = "",
) -> Exported:
    """Export a checkpoint, pruned or not; the result appears whole or not at all, in place of an earlier one.

    Args:
        checkpoint: a detector (.pt); not modified.
        format_: what to export it to.
        folder: where the result goes, under the checkpoint's name with head, size, precision and, of INT8, what
            calibrated it; created.
        imgsz: size of the input; its sides are multiples of the model's stride.
        batch: images that the result takes at once.
        precision: "fp16" halves the weights; "int8" is calibrated.
        head: predictions to give; end-to-end where the model has them. Where the format cannot, a warning tells so.
        dataset: its first 300 training images calibrate INT8; its validation images are not looked at.
        device: Ultralytics' device string; "" for the CPU, or the first GPU where the format is made on one only.

    Raises:
        ExportError: the format or precision cannot be made on this machine, or not of this model; INT8 without data.
        ModelError: the checkpoint cannot be read, or has no end-to-end head and one is asked for.
        SpecError: there is no such format, precision or device, or a number makes no sense.
    """
    _check(format_, precision, imgsz, batch)
    check_device(device)
    known = FORMATS[format_]
    if (reason := obstacle(format_, precision)) is not None:
        raise ExportError(reason)
    calibrated = precision == "int8" and known.calibrates
    if calibrated and dataset is None:
        raise ExportError(f"{known.label} in int8 is calibrated on training images; name the data set with --data.")
    detector = open_detector(str(checkpoint))
    _check_detector(detector, imgsz)
    asked = detector.choose_head(head)
    given = head_of(format_, precision, asked)
    path = export_path(
        folder,
        checkpoint.stem,
        format_,
        precision=precision,
        imgsz=imgsz,
        batch=batch,
        head=asked,
        calibration=dataset.fingerprint if dataset else "",
    )
    arguments = {
        "format": known.argument,
        "imgsz": imgsz if isinstance(imgsz, int) else list(imgsz),
        "batch": batch,
        "quantize": QUANTIZE[precision],
        # Ultralytics exports the end-to-end head where suppression is switched off.
        "nms": False if given == "e2e" else None,
        "device": device or ("0" if precision in known.on_gpu else None),
    }
    if calibrated and dataset is not None:
        arguments |= {"data": str(dataset.yaml_file), "split": "train", "fraction": CALIBRATION_IMAGES}
    _export(detector, known, path, arguments)
    return Exported(
        format=format_,
        precision=precision,
        imgsz=imgsz,
        batch=batch,
        head=given,
        path=path,
        size_bytes=size_of(path),
        sha256=content_sha256(path),
        warnings=_warnings(known, precision, without_end_to_end=given != asked),
        task=detector.task,
    )


def _check(format_: str, precision: str, imgsz: ImageSize, batch: int) -> None:
    for noun, value, known in (("format", format_, FormatName), ("precision", precision, PrecisionName)):
        if value not in get_args(known):
            raise SpecError(f"There is no {noun} {value!r}; choose one of {', '.join(get_args(known))}.")
    for noun, number, least in (*(("image size", side, 32) for side in height_width(imgsz)), ("batch", batch, 1)):
        if number < least:
            raise SpecError(f"{noun} {number!r} is not possible; give a whole number from {least} up.")


def _check_detector(detector: Detector, imgsz: ImageSize) -> None:
    if detector.file is None:
        raise ExportError(f"{detector.label!r} has random weights; give the path of a .pt to export.")
    check_image_size(detector.module, imgsz)


def _export(detector: Detector, known: Format, path: Path, arguments: dict[str, Any]) -> None:
    """Let Ultralytics write into a folder of its own, and move the result from there to its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as drafts:
        name = path.name.removesuffix(known.suffix)
        # Ultralytics notes the task in a model when it loads it itself.
        detector.module.task = detector.task
        detector.module.pt_path = str(Path(drafts) / f"{name}{_DRAFT_SUFFIX}")
        try:
            made = Path(Exporter(overrides={**arguments, "mode": "export", "verbose": False})(model=detector.module))
        except Exception as error:  # each format's packages have errors of their own
            raise ExportError(_failure(detector, known, error)) from error
        if path.exists():
            # A folder cannot be written over; the earlier one goes with the drafts.
            path.replace(Path(drafts) / "earlier")
        made.replace(path)


def _failure(detector: Detector, known: Format, error: Exception) -> str:
    reason = str(error).replace("ERROR", "").replace("❌️", "").strip().split("\n", 1)[0].rstrip(".")
    return f"{known.label} could not be made of {detector.label!r}: {reason or type(error).__name__}."


def _warnings(known: Format, precision: PrecisionName, *, without_end_to_end: bool) -> tuple[str, ...]:
    told = [known.caveats[precision]] if precision in known.caveats else []
    if without_end_to_end:
        of = f"{known.label} in {precision}" if known.end_to_end else known.label
        told.append(
            f"{of} cannot hold the end-to-end head: this file gives the one-to-many predictions, which need "
            f"non-maximum suppression and have an accuracy of their own."
        )
    return tuple(told)
