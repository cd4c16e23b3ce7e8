"""What accuracy a deployed form of a model was measured to have, on which machine and by what: plain data, kept like
results.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cache.measured import key_of, read_measured
from cache.record import Metrics
from compression.catalog import TaskName
from compression.spec import BackendName, HeadName, PrecisionName

ACCURACY_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class AccuracySpec:
    """What was measured, and where; the key of the result.

    Attributes:
        weights_sha256: of the checkpoint.
        backend: what ran it: the checkpoint itself, or the file that it was exported to.
        precision: of the file, and of the arithmetic.
        imgsz: side of the square input, pixels.
        head: whose predictions counted.
        data_fingerprint: of the data set whose validation images were looked at.
        calibration: fingerprint of the data set that an int8 file was calibrated on; empty for others.
        machine: processor or GPU; in reduced precision two of them need not agree.
        backend_version: of the package that ran it.
    """

    weights_sha256: str
    backend: BackendName
    precision: PrecisionName
    imgsz: int
    head: HeadName
    data_fingerprint: str
    calibration: str
    machine: str
    backend_version: str

    @property
    def key(self) -> str:
        """Sha256 of all of it."""
        return key_of(ACCURACY_VERSION, asdict(self))


@dataclass(frozen=True, kw_only=True)
class AccuracyRecord:
    """Accuracy of a model in the form in which it is deployed, by Ultralytics' own validation of that form.

    All inputs are squares, as a file takes them and as they are timed.

    Attributes:
        spec: what was measured, and where.
        model: label of the model.
        level: 0 to 5; None for a custom target, or where nothing is known of the checkpoint.
        data: name of the data set.
        n_images: validation images.
        metrics: on them.
        arithmetic: what the backend says it computed in, "f32" or "bf16"; empty of those that do not say, which compute
            in the types of the file.
        size_bytes: of the file, or of the folder's files, that was run.
        sha256: of the same; of a folder see `compression.deployment.exported.content_sha256`.
        environment: versions and hardware, see `compression.environment`.
        created: ISO 8601.
        task: what the model predicts.
    """

    spec: AccuracySpec
    model: str
    level: int | None
    data: str
    n_images: int
    metrics: Metrics
    arithmetic: str
    size_bytes: int
    sha256: str
    environment: dict[str, str]
    created: str
    task: TaskName = "detect"

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data, versioned."""
        return {"version": ACCURACY_VERSION, **asdict(self)}


def parse_accuracy(text: str) -> AccuracyRecord:
    """The inverse of `to_dict`, from JSON.

    Raises:
        RecordError: the text is no record of this version.
    """

    def build(values: dict[str, Any]) -> AccuracyRecord:
        spec, metrics = AccuracySpec(**values["spec"]), Metrics(**values["metrics"])
        return AccuracyRecord(**{**values, "spec": spec, "metrics": metrics})

    return read_measured(text, ACCURACY_VERSION, build, "A stored accuracy")
