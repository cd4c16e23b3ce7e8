"""What one forward pass was measured to take, on which machine and by what: plain data, kept like results.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cache.measured import key_of, read_measured
from compression.image_size import ImageSize, from_json
from compression.spec import BackendName, HeadName, PrecisionName

LATENCY_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class LatencySpec:
    """What was timed, and where; the key of the result.

    Attributes:
        weights_sha256: of the checkpoint; or what `compression.deployment.layer_times` calls a model of these
            channel counts.
        reference_sha256: of the checkpoint it was timed in turn with, usually level 0; None where it was alone.
        backend: what ran it.
        precision: of the arithmetic.
        imgsz: size of the input.
        batch: images a pass.
        threads: of the processor; 0 where a GPU did the work.
        head: whose predictions were computed.
        calibration: fingerprint of the data set that an int8 file was calibrated on; empty for others.
        machine: processor or GPU.
        backend_version: of the package that ran it.
        reference_precision: of the reference; None where it is the same.
        reference_imgsz: of the reference; None where it is the same.
    """

    weights_sha256: str
    reference_sha256: str | None
    backend: BackendName
    precision: PrecisionName
    imgsz: ImageSize
    batch: int
    threads: int
    head: HeadName
    calibration: str
    machine: str
    backend_version: str
    reference_precision: PrecisionName | None = None
    reference_imgsz: ImageSize | None = None

    @property
    def is_against_its_like(self) -> bool:
        """Whether the reference, where there is one, ran in the same precision at the same image size."""
        return self.reference_precision is None and self.reference_imgsz is None

    @property
    def key(self) -> str:
        """Sha256 of all of it."""
        decisive = asdict(self)
        # What was timed before these fields existed was timed so, and keeps its key.
        for field in ("reference_precision", "reference_imgsz"):
            if decisive[field] is None:
                del decisive[field]
        return key_of(LATENCY_VERSION, decisive)


@dataclass(frozen=True, kw_only=True)
class LatencyRecord:
    """Times of a forward pass: from a float32 image on the device to raw predictions.

    Reading and scaling the image before it are out; so is non-maximum suppression after it where the head needs one.

    Attributes:
        spec: what was timed, and where.
        model: label of the model.
        level: 0 to 5; None for a custom target, or where nothing is known of the checkpoint.
        median_ms: milliseconds a pass.
        p95_ms: of which 95% of the passes stay below.
        n_passes: that were timed.
        ratio: median over that of the reference, as the passes took turns; None without a reference.
        ratio_low: lower end of its 95% interval.
        ratio_high: upper end.
        peak_memory_mb: resident memory at its highest, of a process that does nothing else, less that before the model
            was loaded; on a GPU what torch has allocated there.
        size_bytes: of the file, or of the folder's files, that is deployed.
        environment: versions and hardware, see `compression.environment`.
        created: ISO 8601.
    """

    spec: LatencySpec
    model: str
    level: int | None
    median_ms: float
    p95_ms: float
    n_passes: int
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    peak_memory_mb: float
    size_bytes: int
    environment: dict[str, str]
    created: str

    @property
    def size_mb(self) -> float:
        """Of what is deployed, in megabytes of 1e6 bytes."""
        return self.size_bytes / 1e6

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data, versioned."""
        return {"version": LATENCY_VERSION, **asdict(self)}


def parse_latency(text: str) -> LatencyRecord:
    """The inverse of `to_dict`, from JSON.

    Raises:
        RecordError: the text is no record of this version.
    """

    def build(values: dict[str, Any]) -> LatencyRecord:
        spec = {name: from_json(value) for name, value in values["spec"].items()}
        return LatencyRecord(**{**values, "spec": LatencySpec(**spec)})

    return read_measured(text, LATENCY_VERSION, build, "A stored latency")
