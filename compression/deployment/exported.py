"""What an export left, and how far it is from its checkpoint: plain data. Imports no torch, so that pages can show it.

It stands as JSON beside the file, so that a file that was made once is found again.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from cache.strict import misfit
from compression.catalog import TaskName
from compression.deployment.export_formats import FORMATS, head_of
from compression.errors import ExportError
from compression.home import home
from compression.image_size import ImageSize, from_json, in_pixels
from compression.spec import FormatName, HeadName, PrecisionName

# Raise when what is kept of an export changes its form or meaning: older files are then made again.
EXPORT_VERSION = 1

# Smaller differences are rounding errors, whose digits tell nothing; the record has them.
LEAST_TOLD = 0.001

# So much of a data set's fingerprint stands in the name of a file that its images calibrated.
CALIBRATION_DIGITS = 8

# Of the JSON beside a file.
_RECORD_SUFFIX = ".export.json"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A checkpoint in another format.

    Attributes:
        format: what it was exported to.
        precision: of its weights, and with INT8 of what its layers compute.
        imgsz: size of the input; fixed.
        batch: images that it takes at once; fixed.
        head: the predictions that it gives: end-to-end, or one-to-many, which need suppression.
        path: the file, or the folder of a format of several files.
        size_bytes: of all files together.
        sha256: of the file; of a folder see `content_sha256`.
        warnings: what its user must know, a sentence each.
        task: what it predicts.
    """

    format: FormatName
    precision: PrecisionName
    imgsz: ImageSize
    batch: int
    head: HeadName
    path: Path
    size_bytes: int
    sha256: str
    warnings: tuple[str, ...] = ()
    task: TaskName = "detect"


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the detections of an exported file are from those of its checkpoint, see `compression.deployment.parity`.

    Attributes:
        images: what they are, as in "validation images of shapes".
        n_images: how many were looked at.
        n_checkpoint: detections of the checkpoint.
        n_exported: detections of the file.
        n_matched: pairs of both, of one class and in one place.
        n_equal: those of them whose difference nobody sees.
        max_box_px: largest difference of a coordinate over the pairs, pixels of the image; None without pairs.
        max_score: largest difference of a score over the pairs, part of 1; None without pairs.
    """

    images: str
    n_images: int
    n_checkpoint: int
    n_exported: int
    n_matched: int
    n_equal: int
    max_box_px: float | None
    max_score: float | None

    @property
    def n_lost(self) -> int:
        """Detections of the checkpoint that the file has not."""
        return self.n_checkpoint - self.n_matched

    @property
    def n_gained(self) -> int:
        """Detections of the file that the checkpoint has not."""
        return self.n_exported - self.n_matched

    @property
    def is_same(self) -> bool:
        """Whether all detections are equal, and there are some to tell by."""
        return 0 < self.n_equal == self.n_checkpoint == self.n_exported


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """An exported file with what was found out about it.

    Attributes:
        exported: the file.
        parity: None where it cannot be run on the machine that made it.
        not_compared: why there is no parity, one sentence; empty where there is one.
        checkpoint_sha256: of what it was made of.
        data: name of the data set that calibrated and compared it; empty where none was given.
        data_fingerprint: of the same.
        created: ISO 8601 date and time.
        environment: versions of what made it, and hardware.
    """

    exported: Exported
    parity: Parity | None
    not_compared: str
    checkpoint_sha256: str
    data: str
    data_fingerprint: str
    created: str
    environment: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data, versioned."""
        values = asdict(self)
        values["exported"]["path"] = str(self.exported.path)
        return {"version": EXPORT_VERSION, **values}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ExportRecord:
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            ExportError: the data are of another version, or a field is unknown, missing or of another type.
        """
        known = dict(values)
        version = known.pop("version", None)
        if version != EXPORT_VERSION:
            raise ExportError(f"A kept export has version {version!r}; this program reads version {EXPORT_VERSION}.")
        try:
            exported, parity = known["exported"], known["parity"]
            paths = {"path": Path(exported["path"]), "warnings": tuple(exported["warnings"])}
            paths |= {"imgsz": from_json(exported["imgsz"])}
            record = cls(
                **{
                    **known,
                    "exported": Exported(**{**exported, **paths}),
                    "parity": Parity(**parity) if parity is not None else None,
                }
            )
        except (TypeError, KeyError, ValueError) as error:
            raise ExportError(f"A kept export cannot be read: {error}.") from error
        if (name := misfit(record, cls)) is not None:
            raise ExportError(f"A kept export cannot be read: {name} is of another type.")
        return record


def exports_folder(checkpoint_sha256: str) -> Path:
    """Where the files of one checkpoint lie; not created."""
    return home() / "exports" / checkpoint_sha256


def export_path(
    folder: Path,
    stem: str,
    format_: FormatName,
    *,
    precision: PrecisionName,
    imgsz: ImageSize,
    batch: int,
    head: HeadName,
    calibration: str = "",
) -> Path:
    """Where a file goes: its name says what it is, so that all of one checkpoint can lie side by side.

    Args:
        folder: where it shall lie.
        stem: name of the checkpoint without its suffix.
        format_: what it is exported to, and so on.
        head: the predictions that are asked for.
        calibration: fingerprint of the data set whose images calibrate; "" for none. It counts where INT8 needs images.
    """
    batched = f"-batch{batch}" if batch > 1 else ""
    given = head_of(format_, precision, head)
    calibrates = precision == "int8" and FORMATS[format_].calibrates
    calibrated = f"-{calibration[:CALIBRATION_DIGITS]}" if calibrates and calibration else ""
    size = in_pixels(imgsz).replace(" ", "")
    return folder / f"{stem}-{given}-{size}{batched}-{precision}{calibrated}{FORMATS[format_].suffix}"


def save_export(record: ExportRecord) -> None:
    """Keep a record beside its file; it appears whole or not at all."""
    file = _record_file(record.exported.path)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(record.to_dict(), indent=1), encoding="utf-8")
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def find_export(path: Path) -> ExportRecord | None:
    """What is kept of an exported file; None where it was not made here, is gone, or was changed in size."""
    try:
        record = ExportRecord.from_dict(json.loads(_record_file(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, ExportError):
        return None
    # The folder may have been moved since, and only the file beside the record is its file.
    record = replace(record, exported=replace(record.exported, path=path))
    return record if path.exists() and size_of(path) == record.exported.size_bytes else None


def find_exports(folder: Path) -> list[ExportRecord]:
    """All exported files that lie in a folder with what is kept of them, in the order in which they were made."""
    files = [file.with_name(file.name.removesuffix(_RECORD_SUFFIX)) for file in folder.glob(f"*{_RECORD_SUFFIX}")]
    found = [record for record in map(find_export, files) if record is not None]
    return sorted(found, key=lambda record: (record.created, record.exported.path.name))


def snippet(exported: Exported, path: str) -> str:
    """A program that runs the file as Ultralytics does, on a photograph that comes with Ultralytics.

    Args:
        exported: the file.
        path: where it lies, or will lie, for who runs the program.
    """
    # A traced half-precision model wants its images in half precision too.
    half = ", quantize=16" if (exported.format, exported.precision) == ("torchscript", "fp16") else ""
    return (
        f"# pip install {FORMATS[exported.format].runtime}\n"
        f"from ultralytics import YOLO\n"
        f"from ultralytics.utils import ASSETS\n"
        f"\n"
        f'model = YOLO({json.dumps(path)}, task="{exported.task}")\n'
        f"{_use(exported.task, half, exported.imgsz)}\n"
    )


def _use(task: TaskName, half: str, imgsz: ImageSize) -> str:
    """What prints the results of a model on a photograph."""
    run = f'model(ASSETS / "bus.jpg", imgsz={imgsz}{half})[0]'
    hint = "  # or the path of your image"
    if task == "detect":
        show = "print(model.names[int(box.cls)], round(float(box.conf), 3), box.xyxy[0].tolist())"
        return f"for box in {run}.boxes:{hint}\n    {show}"
    kind = {"segment": "masks.xy", "pose": "keypoints.xy", "obb": "obb.xyxyxyxy", "classify": "probs.top5"}[task]
    found = f"found.{kind}"
    shown = f"[model.names[index] for index in {found}]" if task == "classify" else found
    # Without objects in the image there are no masks.
    return f"found = {run}{hint}\nprint({f'found.masks and {shown}' if task == 'segment' else shown})"


def describe_parity(parity: Parity) -> str:
    """A parity in words with its figures, in one or two sentences."""
    where = f"{parity.n_images} {parity.images}"
    if not parity.n_checkpoint and not parity.n_exported:
        return f"Nothing to compare: neither the checkpoint nor the file detects anything on {where}."
    if parity.is_same:
        return f"Same detections: all {parity.n_checkpoint} on {where} are equal. {_largest(parity)}"
    told = f"{parity.n_matched} of {parity.n_checkpoint} detections on {where} are found again"
    if parity.n_matched:
        told += f", {'all' if parity.n_equal == parity.n_matched else parity.n_equal} of them equal"
    others = [f"{count} {what}" for count, what in ((parity.n_lost, "lost"), (parity.n_gained, "gained")) if count]
    return f"{'; '.join(filter(None, (told, ', '.join(others))))}. {_largest(parity)}".strip()


def _largest(parity: Parity) -> str:
    if parity.max_box_px is None or parity.max_score is None:
        return ""
    return f"Largest difference: boxes {_short(parity.max_box_px)} px, scores {_short(parity.max_score)}."


def _short(difference: float) -> str:
    return f"{difference:.2g}" if difference >= LEAST_TOLD else f"under {LEAST_TOLD}"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in files_of(path))


def content_sha256(path: Path) -> str:
    """Sha256 of a file; of a folder that of one line for each file, "name NUL sha256-of-the-content", by name.

    The names are those below the folder, with forward slashes, so that where the folder lies does not count.
    """
    if path.is_file():
        return _file_sha256(path)
    lines = [f"{file.relative_to(path).as_posix()}\0{_file_sha256(file)}\n" for file in files_of(path)]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files below a folder."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def packed(path: Path) -> bytes:
    """What a browser can download: the content of the file, or of a zip file that holds the folder."""
    if path.is_file():
        return path.read_bytes()
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files_of(path):
            archive.write(file, file.relative_to(path.parent))
    return content.getvalue()


def forget_export(path: Path) -> None:
    """Drop what is kept of a file that is about to be replaced, so that it never speaks of another file."""
    _record_file(path).unlink(missing_ok=True)


def _record_file(path: Path) -> Path:
    return path.with_name(f"{path.name}{_RECORD_SUFFIX}")


def _file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
