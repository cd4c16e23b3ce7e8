"""Make a file for deployment once: export, compare with its checkpoint, keep what was found out beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from cache.record import Progress
from compression.data.dataset import Dataset
from compression.deployment.export import export_checkpoint
from compression.deployment.export_formats import FORMATS, idle_reason
from compression.deployment.exported import (
    ExportRecord,
    export_path,
    exports_folder,
    find_export,
    forget_export,
    save_export,
)
from compression.deployment.parity import measure_parity
from compression.environment import describe_environment
from compression.errors import ExportError
from compression.home import home
from compression.image_size import ImageSize, in_pixels
from compression.models.detector import Detector
from compression.spec import FormatName, HeadName, PrecisionName
from compression.telling import Tell, silent

# One export of this user at a time: each takes all cores, and the second of two alike finds the file of the first.
LOCK_FILE = "exports.lock"


def deploy(
    detector: Detector,
    format_: FormatName,
    *,
    imgsz: ImageSize,
    batch: int = 1,
    precision: PrecisionName = "fp32",
    head: HeadName | None = None,
    dataset: Dataset | None = None,
    device: str = "",
    folder: Path | None = None,
    tell: Tell = silent,
) -> ExportRecord:
    """Export a checkpoint and compare the file with it; a file that was made before is given back at once.

    Args:
        detector: a checkpoint that was opened.
        format_: what to export it to, and so on; see `compression.deployment.export`.
        dataset: calibrates INT8 by training images and compares by validation images.
        folder: where the file goes; None for the checkpoint's own in the data folder.
        tell: called with what is being done.

    Raises:
        ExportError: the file cannot be made on this machine or of this model, or was made and cannot be run.
        ModelError: there is no end-to-end head and one is asked for.
        SpecError: there is no such device, or a number makes no sense.
    """
    if detector.file is None or detector.weights_sha256 is None:
        raise ExportError(f"{detector.label!r} has random weights; give the path of a .pt to export.")
    path = export_path(
        folder or exports_folder(detector.weights_sha256),
        detector.file.stem,
        format_,
        precision=precision,
        imgsz=imgsz,
        batch=batch,
        head=detector.choose_head(head),
        calibration=dataset.fingerprint if dataset else "",
    )
    what = f"{FORMATS[format_].label} in {precision}"
    tell(Progress(stage=f"{what}, waiting for its turn"))
    with FileLock(home() / LOCK_FILE):
        earlier = find_export(path)
        if earlier and _answers(earlier, detector, dataset):
            return earlier
        forget_export(path)
        tell(Progress(stage=f"exporting to {what}"))
        exported = export_checkpoint(
            detector.file,
            format_,
            path.parent,
            imgsz=imgsz,
            batch=batch,
            precision=precision,
            head=head,
            dataset=dataset,
            device=device,
        )
        parity = None
        if (reason := idle_reason(format_)) is None:
            tell(Progress(stage=f"comparing {what} with the checkpoint"))
            parity = measure_parity(detector.file, exported, dataset=dataset, device=device)
        record = ExportRecord(
            exported=exported,
            parity=parity,
            not_compared=reason or "",
            checkpoint_sha256=detector.weights_sha256,
            data=dataset.name if dataset else "",
            data_fingerprint=dataset.fingerprint if dataset else "",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            environment=describe_environment(device or "cpu"),
        )
        save_export(record)
    return record


def exported_file(
    checkpoint: Path,
    format_: FormatName,
    *,
    weights_sha256: str,
    imgsz: ImageSize,
    batch: int,
    precision: PrecisionName,
    head: HeadName,
    dataset: Dataset | None,
    tell: Tell,
) -> Path:
    """The file of a checkpoint in the data folder, to be measured; exported where it is not there yet.

    Args:
        checkpoint: the .pt.
        format_: what to export it to, and so on; see `compression.deployment.export`.
        weights_sha256: of the checkpoint.
        dataset: calibrates INT8.
        tell: called with what is being done.

    Raises:
        TrimboardError: it cannot be made on this machine or of this model.
    """
    path = export_path(
        exports_folder(weights_sha256),
        checkpoint.stem,
        format_,
        precision=precision,
        imgsz=imgsz,
        batch=batch,
        head=head,
        calibration=dataset.fingerprint if dataset else "",
    )
    with FileLock(home() / LOCK_FILE):
        if not path.exists():
            what = f"{FORMATS[format_].label} in {precision}, {in_pixels(imgsz)} px"
            tell(Progress(stage=f"exporting {checkpoint.stem} to {what}"))
            export_checkpoint(
                checkpoint,
                format_,
                path.parent,
                imgsz=imgsz,
                batch=batch,
                precision=precision,
                head=head,
                dataset=dataset,
            )
    return path


def _answers(record: ExportRecord, detector: Detector, dataset: Dataset | None) -> bool:
    """Whether a kept file is of this checkpoint, and was calibrated and compared on the same images."""
    fingerprint = dataset.fingerprint if dataset else ""
    return (record.checkpoint_sha256, record.data_fingerprint) == (detector.weights_sha256, fingerprint)
