"""What was measured of a model in each deployed form, put together: accuracy and time of one level, precision and size.

Only what was measured stands in a plot. A form of which one of both is missing is listed, with the command that
measures it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cache.accuracy import AccuracyRecord
from cache.groups import originals_like, weights_of
from cache.latency import LatencyRecord
from cache.record import RunRecord
from cache.series import Series, cut_in_words
from cache.siblings import rivals_among
from compression.image_size import longer_side
from compression.levels import ORIGINAL
from compression.spec import BackendName, HeadName, PrecisionName
from pages.parts.outcome import MetricName

CostOnDevice = Literal["median_ms", "ratio", "size_mb"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A checkpoint that the page shows.

    Attributes:
        name: "level 3", "the cut to 40% of the GFLOPs", or a sibling's name.
        level: 0 to 5; None for a target of its own, and for siblings.
        is_sibling: an unpruned model of the family.
        order: where it stands in lists.
        key: of the result; "" where it is the model that was given.
    """

    name: str
    level: int | None
    is_sibling: bool
    order: int
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What ran the models, and where.

    Attributes:
        backend: its name.
        version: of the package.
        machine: processor or GPU.
        threads: of the processor; 0 where a GPU did the work.
    """

    backend: BackendName
    version: str
    machine: str
    threads: int

    @property
    def runtime(self) -> str:
        """Backend and version, as they stand in a select box."""
        return f"{self.backend} {self.version}"


@dataclass(frozen=True, kw_only=True)
class Combination:
    """One form in one precision at one size, and what was measured of it; at least one of both is there.

    Attributes:
        form: whose checkpoint.
        precision: of the file and the arithmetic.
        imgsz: side of the square input, pixels.
        accuracy: None where it was not measured.
        latency: None where it was not measured.
        is_reference: level 0 in full precision at the full size.
        has_ratio: whether it was timed in turn with that.
    """

    form: Form
    precision: PrecisionName
    imgsz: int
    accuracy: AccuracyRecord | None
    latency: LatencyRecord | None
    is_reference: bool
    has_ratio: bool

    @property
    def label(self) -> str:
        """ "level 3 · INT8 · 512"."""
        return f"{self.form.name} · {self.precision.upper()} · {self.imgsz}"

    def cost(self, name: CostOnDevice) -> float | None:
        """A cost, in its unit; None where it was not measured."""
        if self.latency is None:
            return None
        if name == "ratio":
            return self.latency.ratio if self.has_ratio else None
        return self.latency.median_ms if name == "median_ms" else self.latency.size_mb

    def metric(self, name: MetricName) -> float | None:
        """An accuracy; None where it was not measured."""
        return getattr(self.accuracy.metrics, name) if self.accuracy else None


def forms_of(series: Series, on_same_data: Sequence[RunRecord]) -> dict[str, Form]:
    """The checkpoints of a series and of its measured siblings, by sha256.

    Args:
        series: the chosen one.
        on_same_data: all results on its data set.
    """
    record = series.any_record
    named: list[tuple[str, int | None, str | None, bool, str]] = [("level 0", ORIGINAL, weights_of(record), False, "")]
    named += [
        (f"level {level}", level, one.checkpoint_sha256, False, one.key) for level, one in sorted(series.levels.items())
    ]
    named += [
        (f"cut to {cut_in_words(one.spec)}", None, one.checkpoint_sha256, False, one.key)
        for one in series.custom
        if one.spec
    ]
    for architecture, one in originals_like(record, rivals_among(on_same_data)).items():
        if architecture != record.architecture:
            # Given as it was, or trained first: the checkpoint that it left has the same weights either way.
            named += [(one.model, None, sha256, True, one.key) for sha256 in (one.checkpoint_sha256, weights_of(one))]
    forms: dict[str, Form] = {}
    for order, (name, level, sha256, is_sibling, key) in enumerate(named):
        if sha256 and sha256 not in forms:
            forms[sha256] = Form(name=name, level=level, is_sibling=is_sibling, order=order, key=key)
    return forms


def devices_of(latencies: Iterable[LatencyRecord]) -> list[Device]:
    """Where something was timed, the newest first."""
    timed = [
        Device(
            backend=one.spec.backend,
            version=one.spec.backend_version,
            machine=one.spec.machine,
            threads=one.spec.threads,
        )
        for one in sorted(latencies, key=lambda one: one.created, reverse=True)
    ]
    return list(dict.fromkeys(timed))


def combinations_of(
    forms: Mapping[str, Form],
    accuracies: Iterable[AccuracyRecord],
    latencies: Iterable[LatencyRecord],
    device: Device,
    *,
    imgsz: int,
    head: HeadName,
    data_fingerprint: str,
) -> list[Combination]:
    """What was measured on one device, by form, precision and falling size; on squares, as accuracy is.

    Args:
        forms: the checkpoints by sha256.
        accuracies: of them.
        latencies: of them.
        device: what ran them.
        imgsz: the full size, pixels.
        head: whose predictions.
        data_fingerprint: of the data set that accuracies count on.
    """
    on_data = {
        _what(one): one
        for one in sorted(accuracies, key=lambda one: one.created)
        if _ran_on(one, device) and one.spec.head == head and one.spec.data_fingerprint == data_fingerprint
    }
    originals = {sha256 for sha256, form in forms.items() if form.level == ORIGINAL}
    timed: dict[tuple[str, PrecisionName, int], LatencyRecord] = {}
    calibrated = {"", data_fingerprint}
    alike = [one for one in latencies if _ran_on(one, device) and one.spec.threads == device.threads]
    alike = [
        one for one in alike if (one.spec.batch, one.spec.head) == (1, head) and one.spec.calibration in calibrated
    ]
    alike = [one for one in alike if isinstance(one.spec.imgsz, int)]
    # Of several, the newest of those that were timed in turn with the reference.
    for one in sorted(alike, key=lambda one: (_has_ratio(one, originals, imgsz), one.created)):
        timed[_what(one)] = one
    found = []
    for what in dict.fromkeys([*on_data, *timed]):
        sha256, precision, size = what
        if (form := forms.get(sha256)) is None:
            continue
        latency = timed.get(what)
        found.append(
            Combination(
                form=form,
                precision=precision,
                imgsz=size,
                accuracy=on_data.get(what),
                latency=latency,
                is_reference=(form.level, precision, size) == (ORIGINAL, "fp32", imgsz),
                has_ratio=latency is not None and _has_ratio(latency, originals, imgsz),
            )
        )
    return sorted(found, key=lambda one: (one.form.order, one.precision != "fp32", one.precision, -one.imgsz))


def _what(one: AccuracyRecord | LatencyRecord) -> tuple[str, PrecisionName, int]:
    return (one.spec.weights_sha256, one.spec.precision, longer_side(one.spec.imgsz))


def _ran_on(one: AccuracyRecord | LatencyRecord, device: Device) -> bool:
    spec = one.spec
    return (spec.backend, spec.backend_version, spec.machine) == (device.backend, device.version, device.machine)


def _has_ratio(one: LatencyRecord, originals: set[str], imgsz: int) -> bool:
    """Whether it was timed in turn with level 0 in full precision at the full size."""
    spec = one.spec
    how = (spec.reference_precision or spec.precision, spec.reference_imgsz or spec.imgsz)
    return one.ratio is not None and spec.reference_sha256 in originals and how == ("fp32", imgsz)


def missing_of(combinations: Iterable[Combination]) -> list[str]:
    """What is missing of which, as "level 3 · INT8 · 512: time not measured"."""
    told = []
    for one in combinations:
        if one.accuracy is None:
            told.append(f"{one.label}: accuracy not measured")
        elif one.latency is None:
            told.append(f"{one.label}: time not measured")
        elif not one.has_ratio:
            told.append(f"{one.label}: time not measured in turn with level 0 in FP32")
    return told
