"""Measured times that can be compared: of one setting, each taken in turn with the same original."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields

from cache.latency import LatencyRecord, LatencySpec
from cache.record import RunRecord
from cache.summary import Cell, rounded
from compression.spec import BackendName, HeadName, PrecisionName


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that decides a time but the checkpoint; see `LatencySpec`."""

    backend: BackendName
    backend_version: str
    precision: PrecisionName
    calibration: str
    imgsz: int
    batch: int
    threads: int
    head: HeadName
    machine: str

    @property
    def label(self) -> str:
        """In a few words: "onnx 1.23, fp32, 1 thread, AMD EPYC"; the batch is told where it is not 1."""
        return f"{self.without_machine}, {self.machine}"

    @property
    def without_machine(self) -> str:
        """The same for readers who know the machine."""
        parts = [f"{self.backend} {self.backend_version}", self.precision]
        if self.batch != 1:
            parts.append(f"batch {self.batch}")
        if self.threads:
            parts.append(f"{self.threads} thread{'s' * (self.threads != 1)}")
        return ", ".join(parts)


# Setting -> hash of the checkpoint -> its time.
Times = dict[Setting, dict[str, LatencyRecord]]

# Column -> pandas type, behind those of `cache.summary`. The ratio is to level 0, with its 95% interval.
LATENCY_COLUMNS = {
    "latency_on": "str",
    "latency_ms": "float64",
    "latency_p95_ms": "float64",
    "latency_ratio": "float64",
    "latency_ratio_low": "float64",
    "latency_ratio_high": "float64",
}


def setting_of(spec: LatencySpec) -> Setting:
    """What a time shares with those that it can be compared with."""
    return Setting(**{field.name: getattr(spec, field.name) for field in fields(Setting)})


def times_of(latencies: Iterable[LatencyRecord], originals: Collection[str], *, imgsz: int, head: HeadName) -> Times:
    """Sort times by setting and checkpoint, the newest of each; the setting with most checkpoints first.

    Medians of other hours may differ by what else a machine did, so only times that were taken in turn with the same
    original are compared, and by their ratio to it.

    Args:
        latencies: of any checkpoints.
        originals: hashes that the original is known by.
        imgsz: of the passes, pixels.
        head: whose predictions were computed.
    """
    found: Times = {}
    for record in sorted(latencies, key=lambda record: record.created):
        spec = record.spec
        # Accuracies of results are those of full precision.
        alike = (spec.imgsz, spec.head, spec.precision) == (imgsz, head, "fp32")
        # A ratio to the original in another precision or size is none of the levels'.
        alike &= spec.is_against_its_like
        if alike and spec.reference_sha256 in originals and record.ratio is not None:
            found.setdefault(setting_of(spec), {})[spec.weights_sha256] = record
    newest = {setting: max(record.created for record in own.values()) for setting, own in found.items()}
    return dict(sorted(found.items(), key=lambda item: (len(item[1]), newest[item[0]]), reverse=True))


def original_ms(own: Mapping[str, LatencyRecord]) -> float | None:
    """Milliseconds of the original in one setting, as it was timed in turn with the newest other model.

    Args:
        own: the times of the setting, by hash of the checkpoint.
    """
    newest = max((one for one in own.values() if one.ratio), key=lambda one: one.created, default=None)
    return newest.median_ms / newest.ratio if newest is not None and newest.ratio else None


def latency_cells(record: RunRecord, times: Times) -> dict[str, Cell]:
    """The row of LATENCY_COLUMNS, in the first setting that the result was timed in; nothing where it was not."""
    for setting, own in times.items():
        found = own.get(record.checkpoint_sha256 or "")
        if found is not None:
            numbers = (found.median_ms, found.p95_ms, found.ratio, found.ratio_low, found.ratio_high)
            return dict(zip(LATENCY_COLUMNS, (setting.label, *(rounded(n, 4) for n in numbers)), strict=True))
    return {}
