"""Accuracy against cost: the data of the scatter plots, drawn by `pages.parts.plots`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cache.record import Costs, Metrics, RunRecord
from cache.series import Series, method_label
from cache.siblings import Neighbours
from compression.levels import ORIGINAL
from pages.parts import formats
from pages.parts.outcome import COST_LABELS, METRIC_LABELS, CostName, MetricName

AxisName = CostName | Literal["time"]

# A target that keeps everything: what the fine-tuning alone does to the original.
UNCUT = "uncut"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in a scatter plot.

    Attributes:
        x: GFLOPs or millions of parameters, training graph; or time as a part of the original's.
        y: accuracy, 0 to 1.
        text: short label beside the point.
        hover: everything about it; lines separated by <br>.
    """

    x: float
    y: float
    text: str
    hover: str


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """What one scatter plot shows. Measured and published points never share a line.

    Attributes:
        cost: of the horizontal axis.
        metric: of the vertical axis.
        measured: levels of the series in order of level, the original first.
        chosen: the point of the chosen level, if measured.
        planned_x: cost of the chosen level where only that is known.
        untrained: the original, then the levels after recovery and before any training, in order of level; empty where
            none was measured so.
        custom: measured models with a target of their own.
        custom_untrained: the same after recovery and before any training.
        other_seeds: results under the same conditions with other seeds.
        siblings: unpruned models of the family, measured alike, by rising cost.
        siblings_published: the same as published.
        published: compressed models of this architecture as published.
    """

    cost: AxisName
    metric: MetricName
    measured: tuple[Point, ...] = ()
    chosen: Point | None = None
    planned_x: float | None = None
    untrained: tuple[Point, ...] = ()
    custom: tuple[Point, ...] = ()
    custom_untrained: tuple[Point, ...] = ()
    other_seeds: tuple[Point, ...] = ()
    siblings: tuple[Point, ...] = ()
    siblings_published: tuple[Point, ...] = ()
    published: tuple[Point, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Range:
    """The part of a plot to look at.

    Attributes:
        x: from and to, in the units of `Point.x`.
        y: from and to.
    """

    x: tuple[float, float]
    y: tuple[float, float]


def tradeoff(
    series: Series | None,
    neighbours: Neighbours,
    *,
    cost: AxisName,
    metric: MetricName,
    level: int,
    planned: Costs | None = None,
    untrained: bool = True,
    other_seeds: Sequence[Series] = (),
    ratios: Mapping[str, float] | None = None,
) -> Tradeoff:
    """The data of one scatter plot.

    Args:
        series: measured levels, joined by a line; None if nothing is measured.
        neighbours: what they are compared with.
        cost: of the horizontal axis.
        metric: of the vertical axis.
        level: the chosen one, 1 to 5.
        planned: costs of the chosen level where it was not measured.
        untrained: whether to show where the levels stood before training.
        other_seeds: series that differ from this one in nothing but the seed.
        ratios: measured times as parts of the original's, by hash of the checkpoint; what has none is no point.
    """
    axis = _Axis(cost=cost, ratios=ratios or {})
    measured = _series_points(series, axis, metric) if series else {}
    custom = series.custom if series else ()
    before = _untrained_points(series.levels.values() if series and untrained else (), axis, metric)
    return Tradeoff(
        cost=cost,
        metric=metric,
        measured=tuple(measured.values()),
        chosen=measured.get(level),
        planned_x=axis.of_plan(planned) if planned and level not in measured else None,
        untrained=(*(measured[level] for level in measured if level == ORIGINAL), *before) if before else (),
        custom=_points(custom, axis, metric),
        custom_untrained=_untrained_points(custom if untrained else (), axis, metric),
        other_seeds=_points((record for other in other_seeds for record in other.compressed), axis, metric),
        siblings=_sibling_points(neighbours.siblings, axis, metric, unlabelled=series),
        siblings_published=_sibling_points(neighbours.siblings_published, axis, metric),
        published=_points(neighbours.published, axis, metric),
    )


def _series_points(series: Series, axis: _Axis, metric: MetricName) -> dict[int, Point]:
    points = {level: _point(record, axis, metric) for level, record in sorted(series.levels.items())}
    if ORIGINAL not in points:
        # Every compressed record carries the original that it was counted against.
        record = series.any_record
        points = {ORIGINAL: _original_point(record, axis, metric), **points}
    return {level: point for level, point in points.items() if point is not None}


def _points(records: Iterable[RunRecord], axis: _Axis, metric: MetricName) -> tuple[Point, ...]:
    points = (_point(record, axis, metric) for record in records)
    return tuple(point for point in points if point is not None)


def _untrained_points(records: Iterable[RunRecord], axis: _Axis, metric: MetricName) -> tuple[Point, ...]:
    """Where records stood after recovery, before any training, by rising level; custom targets as they come."""
    points = []
    for record in sorted(records, key=lambda record: record.level or 0):
        x, y = axis.of(record), getattr(record.metrics_recovered, metric, None)
        if x is not None and y is not None and _was_trained(record):
            points.append(Point(x=x, y=y, text="", hover=_untrained_hover(record)))
    return tuple(points)


def _was_trained(record: RunRecord) -> bool:
    """Whether fine-tuning stands between recovery and result; otherwise both are the same point."""
    return record.spec is not None and record.spec.epochs > 0


def _sibling_points(
    records: Iterable[RunRecord], axis: _Axis, metric: MetricName, unlabelled: Series | None = None
) -> tuple[Point, ...]:
    """Originals by the name of their architecture; the series' own lies under its level 0, which has a label."""
    own = unlabelled.any_record.architecture if unlabelled else None
    points = ((record.architecture, _point(record, axis, metric)) for record in records)
    return tuple(replace(point, text="" if name == own else name) for name, point in points if point is not None)


def focus(data: Tradeoff) -> Range | None:
    """Where the levels lie, with the lines that cross there; None where there are no levels to look at.

    Larger siblings cost several times as much, and would press the levels into a corner.
    """
    measured = [*data.measured, *data.untrained, *data.custom, *data.custom_untrained, *data.other_seeds]
    points = [*measured, *data.published]
    if not points:
        return None
    own_x = [point.x for point in points] + ([data.planned_x] if data.planned_x is not None else [])
    lines = [line for line in (data.siblings, data.siblings_published) if line]
    # The original that published levels start from is a sibling, not a level.
    nearest = [min(line, key=lambda point: abs(point.x - max(own_x))) for line in lines]
    own_x += [point.x for point in nearest if point.x < 2 * max(own_x)]
    x = _padded(min(own_x), max(own_x), least=0.1 * max(own_x))
    y = [point.y for point in points]
    for line in lines:
        y += [point.y for point in line if x[0] <= point.x <= x[1]]
        edges = [edge for edge in x if line[0].x <= edge <= line[-1].x]
        y += [float(np.interp(edge, [point.x for point in line], [point.y for point in line])) for edge in edges]
    return Range(x=x, y=_padded(min(y), max(y), least=0.02))


def n_points(data: Tradeoff) -> int:
    """How many measured models stand in a plot; the original is a level and a sibling."""
    points = (*data.measured, *data.custom, *data.other_seeds, *data.siblings)
    return len({point.hover for point in points})


def _padded(low: float, high: float, *, least: float) -> tuple[float, float]:
    """The interval with an eighth of air on both sides, and no narrower than `least`."""
    air = max(high - low, least) / 8
    middle = (low + high) / 2
    half = max(high - low, least) / 2
    return (middle - half - air, middle + half + air)


def _point(record: RunRecord, axis: _Axis, metric: MetricName) -> Point | None:
    x, y = axis.of(record), getattr(record.metrics, metric)
    if x is None or y is None:
        return None
    time = f"<br>time {x:.3f} of the original's" if axis.cost == "time" else ""
    return Point(x=x, y=y, text=_text(record), hover=_hover(record) + time)


def _original_point(record: RunRecord, axis: _Axis, metric: MetricName) -> Point | None:
    x, y = axis.of_original(record), getattr(record.metrics_original, metric)
    if x is None or y is None:
        return None
    lines = [f"<b>{record.model}, original</b>", *_figures(record.costs_original, record.metrics_original)]
    return Point(x=x, y=y, text="0", hover="<br>".join(lines))


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """The horizontal axis of a plot.

    Attributes:
        cost: what stands on it.
        ratios: see `tradeoff`.
    """

    cost: AxisName
    ratios: Mapping[str, float]

    def of(self, record: RunRecord) -> float | None:
        """Cost of a result; None where it is not known."""
        if self.cost != "time":
            return self.of_plan(record.costs)
        sha256 = record.checkpoint_sha256
        if record.level == ORIGINAL and sha256 is None and record.spec:
            # An original that came without its checkpoint is known by the file that was given.
            sha256 = record.spec.weights_sha256
        return self.ratios.get(sha256 or "")

    def of_original(self, record: RunRecord) -> float | None:
        """Cost of what a result was cut from."""
        return self.of_plan(record.costs_original) if self.cost != "time" else 1.0 if self.ratios else None

    def of_plan(self, costs: Costs) -> float | None:
        """Cost of a model that may not exist yet, which has no time."""
        if self.cost == "gflops":
            return costs.gflops
        return costs.params / 1e6 if self.cost == "params" and costs.params is not None else None


def _text(record: RunRecord) -> str:
    if record.provenance == "published" and record.level != ORIGINAL:
        return f"level {record.level}"
    return _target_text(record) if record.level is None else str(record.level)


def _target_text(record: RunRecord) -> str:
    """What a custom target keeps: "40%" of the GFLOPs, "60% params" or "70% time" else; an uncut model says so."""
    if record.spec is None:
        return "custom"
    if not record.spec.target.parts:
        return "layers"
    gflops, params, latency = (record.spec.target.parts.get(name) for name in ("GFLOPs", "parameters", "latency"))
    if latency is not None:
        return f"{100 * latency:g}% time"
    if gflops is None:
        return f"{100 * (params or 1):g}% params"
    return f"{100 * gflops:g}%" if gflops < 1 or (params or 1) < 1 else UNCUT


def _hover(record: RunRecord) -> str:
    lines = [f"<b>{record.model}, {_step(record)}</b> ({record.provenance})", *_figures(record.costs, record.metrics)]
    lines.append(_conditions_line(record))
    if record.level != ORIGINAL:
        lines += _changes(record)
    if record.metrics_test is not None:
        lines.append(f"on test images: mAP50-95 {formats.accuracy(record.metrics_test.map50_95)}")
    if record.source:
        lines.append(f"source: {record.source}")
    return "<br>".join(lines)


def _untrained_hover(record: RunRecord) -> str:
    assert record.metrics_recovered is not None
    lines = [f"<b>{record.model}, {_step(record)}</b> after recovery, before any training"]
    lines += [*_figures(record.costs, record.metrics_recovered), _conditions_line(record)]
    change = formats.change(record.metrics_original.map50_95, record.metrics_recovered.map50_95)
    return "<br>".join([*lines, *([f"against the original: mAP50-95 {change}"] if change else [])])


def _step(record: RunRecord) -> str:
    if record.level is None:
        kept = _target_text(record)
        return f"custom target ({kept})" if kept != UNCUT else "original, fine-tuned alike"
    return "original" if record.level == ORIGINAL else f"level {record.level}"


def _figures(costs: Costs, metrics: Metrics) -> list[str]:
    lines = [f"{METRIC_LABELS[name]} {formats.accuracy(getattr(metrics, name))}" for name in METRIC_LABELS]
    lines.append(f"{COST_LABELS['gflops']} {formats.gflops(costs.gflops)} (deployed {_known(costs.gflops_deployed)})")
    deployed = "unknown" if costs.params_deployed is None else formats.params(costs.params_deployed)
    lines.append(f"{COST_LABELS['params']} {formats.params(costs.params)} (deployed {deployed})")
    return lines


def _known(value: float | None) -> str:
    return "unknown" if value is None else formats.gflops(value)


def _conditions_line(record: RunRecord) -> str:
    parts = [f"{record.imgsz} px", f"{record.head} head"]
    if record.spec is not None and record.level != ORIGINAL:
        parts += [method_label(record.spec), f"{record.spec.epochs} epochs", f"seed {record.spec.seed}"]
    parts += [f"{name} {value}" for name, value in record.published_training.items()]
    return ", ".join(parts)


def _changes(record: RunRecord) -> list[str]:
    accuracy = formats.change(record.metrics_original.map50_95, record.metrics.map50_95)
    gflops = formats.change(record.costs_original.gflops, record.costs.gflops)
    params = formats.change(record.costs_original.params, record.costs.params)
    changes = [("mAP50-95", accuracy), ("GFLOPs", gflops), ("parameters", params)]
    written = [f"{name} {change}" for name, change in changes if change is not None]
    return [f"against the original: {', '.join(written)}"] if written else []
