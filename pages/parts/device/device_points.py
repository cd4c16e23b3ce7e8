"""Accuracy against cost on the device: the points of the plot, what stands on its Pareto front, and a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cache.latency import LatencyRecord
from compression.deployment.pareto import pareto_front
from pages.parts import formats
from pages.parts.device.combinations import Combination, CostOnDevice
from pages.parts.outcome import METRIC_LABELS, MetricName, metric_labels

COST_LABELS: dict[CostOnDevice, str] = {
    "ratio": "Time against level 0",
    "median_ms": "Time, ms",
    "size_mb": "File size",
}
COST_TITLES: dict[CostOnDevice, str] = {
    "median_ms": "Median time of a forward pass, ms",
    "ratio": "Time against level 0 in FP32 at full size",
    "size_mb": "Size of what is deployed, MB",
}

# Of the table. What the page says for all rows, and what only a machine reads, has none: it is in the CSV.
COLUMN_HEADINGS: dict[str, str] = {
    "on_front": "On the front",
    "combination": "Combination",
    "model": "Model",
    "level": "Level",
    "data_type": "Precision of the file",
    "imgsz": "Image size, px",
    **{str(name): label for name, label in METRIC_LABELS.items()},
    "median_ms": "Median time, ms",
    "p95_ms": "95th percentile, ms",
    "ratio": "Time against level 0",
    "ratio_low": "from",
    "ratio_high": "to",
    "peak_memory_mb": "Peak memory, MB",
    "size_mb": "File size, MB",
    "computed_in": "Computed in",
}

LEAST: dict[CostOnDevice, str] = {"median_ms": "Fastest", "ratio": "Fastest", "size_mb": "Smallest"}

# What may be lost against level 0 in full precision and still counts as nearly the same, part of 1.
NEARLY_SAME = 0.01


@dataclass(frozen=True, kw_only=True)
class DevicePoint:
    """A combination in the plot.

    Attributes:
        combination: what it is.
        x: cost.
        y: accuracy, 0 to 1.
        hover: everything about it; lines separated by <br>.
        on_front: nothing measured is better in both.
    """

    combination: Combination
    x: float
    y: float
    hover: str
    on_front: bool


def device_points(combinations: Iterable[Combination], cost: CostOnDevice, metric: MetricName) -> list[DevicePoint]:
    """The combinations of which both are measured, those on the front first, by rising cost."""
    known = [
        (one, x, y)
        for one in combinations
        if (x := one.cost(cost)) is not None and (y := one.metric(metric)) is not None
    ]
    front = pareto_front([(x, y) for _, x, y in known])
    order = [*front, *(place for place in range(len(known)) if place not in front)]
    return [
        DevicePoint(combination=one, x=x, y=y, hover=_hover(one), on_front=place in front)
        for place in order
        for one, x, y in [known[place]]
    ]


def _hover(one: Combination) -> str:
    assert one.accuracy is not None
    assert one.latency is not None
    latency, accuracy = one.latency, one.accuracy
    lines = [f"<b>{one.label}</b> ({latency.model})"]
    names = metric_labels(accuracy.task).items()
    lines += [f"{label} {formats.accuracy(getattr(accuracy.metrics, name))}" for name, label in names]
    lines.append(f"median {latency.median_ms:.2f} ms, 95% of the passes below {latency.p95_ms:.2f} ms")
    if one.has_ratio:
        lines.append(f"time against level 0: {ratio_in_words(latency)}")
    lines.append(f"memory {latency.peak_memory_mb:.0f} MB, file {formats.size(latency.size_bytes)}")
    computed = f", computed in {accuracy.arithmetic}" if accuracy.arithmetic else ""
    lines.append(f"{latency.spec.backend} {latency.spec.backend_version}{computed}, {latency.spec.head} head")
    versions = [
        f"{name} {accuracy.environment[name]}" for name in ("ultralytics", "torch") if name in accuracy.environment
    ]
    lines.append(" · ".join([f"{accuracy.n_images} validation images", *versions, formats.day(latency.created)]))
    return "<br>".join(lines)


def ratio_in_words(latency: LatencyRecord) -> str:
    """ "0.412 (0.405 to 0.419)": the ratio with its interval."""
    return f"{latency.ratio:.3f} ({latency.ratio_low:.3f} to {latency.ratio_high:.3f})"


def front_in_words(points: Sequence[DevicePoint], cost: CostOnDevice, metric: MetricName) -> list[str]:
    """What stands on the front, a sentence each: the least cost, what loses next to nothing, and the most accurate.

    Args:
        points: as `device_points` gives them.
        cost: that they were made for.
        metric: likewise.
    """
    front = [point for point in points if point.on_front]
    if len(points) < 2:
        return []
    reference = next((point for point in points if point.combination.is_reference), None)
    told = [
        f"{len(front)} of {len(points)} measured combinations {'stands' if len(front) == 1 else 'stand'} on the front: "
        f"nothing measured is better in both."
    ]
    told += [
        f"{what}: {_described(point, reference, cost, metric)}."
        for what, point in _worth_telling(front, reference, LEAST[cost])
    ]
    siblings = {point.combination.form.name for point in points if point.combination.form.is_sibling}
    if beaten := sorted(siblings - {point.combination.form.name for point in front}):
        told.append(f"Not on the front in any form: {', '.join(beaten)}.")
    return told


def _worth_telling(
    front: Sequence[DevicePoint], reference: DevicePoint | None, least: str
) -> list[tuple[str, DevicePoint]]:
    """Points of the front with why they are told, each once."""
    chosen = [(least, front[0])]
    near = [point for point in front if reference and point.y >= reference.y - NEARLY_SAME]
    if near:
        chosen.append((f"{least} of those that lose at most {NEARLY_SAME:g} against level 0 in FP32", near[0]))
    chosen.append(("Most accurate", front[-1]))
    told: dict[str, tuple[str, DevicePoint]] = {}
    for what, point in chosen:
        label = point.combination.label
        told[label] = (f"{told[label][0]}, {what[0].lower()}{what[1:]}" if label in told else what, point)
    return list(told.values())


def _described(point: DevicePoint, reference: DevicePoint | None, cost: CostOnDevice, metric: MetricName) -> str:
    latency = point.combination.latency
    assert latency is not None
    figures = [f"**{point.combination.label}**", f"{latency.median_ms:.1f} ms"]
    if point.combination.has_ratio and latency.ratio and point != reference:
        figures.append(f"{1 / latency.ratio:.2f} times as fast as level 0 in FP32")
    if cost == "size_mb":
        figures.insert(1, formats.size(latency.size_bytes))
    change = formats.change(reference.y, point.y) if reference else None
    assert point.combination.accuracy is not None
    name = metric_labels(point.combination.accuracy.task)[metric]
    figures.append(f"{name} {formats.accuracy(point.y)}" + (f" ({change})" if change else ""))
    return ", ".join(figures)


def combination_rows(points: Sequence[DevicePoint]) -> list[dict[str, str | int | float | None]]:
    """The points as rows of a table, in their order."""
    rows: list[dict[str, str | int | float | None]] = []
    for point in points:
        one = point.combination
        assert one.accuracy is not None
        assert one.latency is not None
        latency, metrics = one.latency, one.accuracy.metrics
        rows.append(
            {
                "on_front": "yes" if point.on_front else "",
                "combination": one.label,
                "model": latency.model,
                "level": one.form.level,
                # "precision" is a metric here.
                "data_type": one.precision,
                "imgsz": one.imgsz,
                **{name: getattr(metrics, name) for name in METRIC_LABELS},
                "median_ms": round(latency.median_ms, 3),
                "p95_ms": round(latency.p95_ms, 3),
                "ratio": _rounded(latency.ratio if one.has_ratio else None),
                "ratio_low": _rounded(latency.ratio_low if one.has_ratio else None),
                "ratio_high": _rounded(latency.ratio_high if one.has_ratio else None),
                "peak_memory_mb": round(latency.peak_memory_mb, 1),
                "size_mb": round(latency.size_mb, 3),
                "backend": latency.spec.backend,
                "backend_version": latency.spec.backend_version,
                "threads": latency.spec.threads,
                "head": latency.spec.head,
                "computed_in": one.accuracy.arithmetic,
                "machine": latency.spec.machine,
                "n_images": one.accuracy.n_images,
                "file_sha256": one.accuracy.sha256,
                "timed": latency.created,
            }
        )
    return rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
