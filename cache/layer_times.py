"""What each layer was measured to take within a forward pass, by the runtime's own account: plain data.

Kept like results. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cache.measured import key_of, read_measured
from compression.image_size import ImageSize, from_json
from compression.spec import BackendName, HeadName, PrecisionName

LAYER_TIMES_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class LayerTimesSpec:
    """What was timed, and where; the key of the result.

    Attributes:
        subject: sha256 of a checkpoint; or what `compression.deployment.layer_times` calls a model of these channel
            counts, whose weights do not matter.
        reference: likewise of the model that it was timed in turn with; None where it was alone.
        backend: what ran it.
        precision: of the arithmetic.
        imgsz: size of the input.
        batch: images a pass.
        threads: of the processor; 0 where a GPU did the work.
        head: whose predictions were computed.
        calibration: fingerprint of the data set that an int8 file was calibrated on; empty for others.
        machine: processor or GPU.
        backend_version: of the package that ran it.
    """

    subject: str
    reference: str | None
    backend: BackendName
    precision: PrecisionName
    imgsz: ImageSize
    batch: int
    threads: int
    head: HeadName
    calibration: str
    machine: str
    backend_version: str

    @property
    def key(self) -> str:
        """Sha256 of all of it."""
        return key_of(LAYER_TIMES_VERSION, asdict(self))


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One convolution with what belongs to it: its activation, and the copying that brings its input in place.

    Attributes:
        name: path of the block it stands in, as in `cache.record.LayerRow`.
        channels_in: that it reads.
        channels_out: that it gives.
        ms: milliseconds a pass.
    """

    name: str
    channels_in: int
    channels_out: int
    ms: float


@dataclass(frozen=True, kw_only=True)
class TimedForm:
    """A model, or a narrower form of one.

    Attributes:
        layers: in order of execution.
        rest_ms: what comes after the last of them: decoding boxes and choosing the best.
    """

    layers: tuple[LayerTime, ...]
    rest_ms: float

    @property
    def total_ms(self) -> float:
        """Milliseconds a pass, by the sum of all nodes."""
        return sum(layer.ms for layer in self.layers) + self.rest_ms


@dataclass(frozen=True, kw_only=True)
class LayerTimesRecord:
    """Layer times of one model in several forms that took turns.

    Attributes:
        spec: what was timed, and where.
        model: label of the model.
        level: 0 to 5; None for a custom target, or where nothing is known of the checkpoint.
        forms: the original first; then narrower ones of it.
        environment: versions and hardware, see `compression.environment`.
        created: ISO 8601.
    """

    spec: LayerTimesSpec
    model: str
    level: int | None
    forms: tuple[TimedForm, ...]
    environment: dict[str, str]
    created: str

    def to_dict(self) -> dict[str, Any]:
        """The record as plain data, versioned."""
        return {"version": LAYER_TIMES_VERSION, **asdict(self)}


def parse_layer_times(text: str) -> LayerTimesRecord:
    """The inverse of `to_dict`, from JSON.

    Raises:
        RecordError: the text is no record of this version.
    """

    def build(values: dict[str, Any]) -> LayerTimesRecord:
        forms = tuple(
            TimedForm(**{**form, "layers": tuple(LayerTime(**layer) for layer in form["layers"])})
            for form in values["forms"]
        )
        spec = LayerTimesSpec(**{name: from_json(value) for name, value in values["spec"].items()})
        return LayerTimesRecord(**{**values, "spec": spec, "forms": forms})

    return read_measured(text, LAYER_TIMES_VERSION, build, "Stored layer times")
