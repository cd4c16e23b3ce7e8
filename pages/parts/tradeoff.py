"""Accuracy against cost: the data of the scatter plots, drawn by `pages.parts.plots`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cache.groups import family_of, originals_like
from cache.record import Costs, Metrics, RunRecord
from compression.levels import ORIGINAL
from pages.parts import formats
from pages.parts.methods import method_label
from pages.parts.outcome import COST_LABELS, METRIC_LABELS, CostName, MetricName
from pages.parts.series import Series

# A target that keeps everything: what the fine-tuning alone does to the original.
UNCUT = "uncut"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in a scatter plot.

    Attributes:
        x: GFLOPs, or millions of parameters; training graph.
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

    cost: CostName
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


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Records that a series is compared with: same family, data, image size and head.

    Attributes:
        siblings: measured originals, one an architecture.
        siblings_published: published originals.
        published: published compressed models of the same architecture.
        left_out: published results under other conditions, which no axis can compare; a sentence, empty if none.
    """

    siblings: tuple[RunRecord, ...] = ()
    siblings_published: tuple[RunRecord, ...] = ()
    published: tuple[RunRecord, ...] = ()
    left_out: str = ""


def neighbours_of(architecture: str, series: Series | None, on_same_data: Iterable[RunRecord]) -> Neighbours:
    """Pick what stands beside a series.

    Args:
        architecture: catalog name of the chosen model's architecture.
        series: the chosen measured series, which fixes image size and head; None if nothing is measured, then the
            conditions are those of the published results.
        on_same_data: all records on the chosen data set.
    """
    family = [record for record in on_same_data if family_of(record.architecture) == family_of(architecture)]
    published = [record for record in family if record.provenance == "published"]
    conditions = _conditions(architecture, series, published)
    alike = [record for record in published if (record.imgsz, record.head) == conditions]
    return Neighbours(
        siblings=_measured_siblings(series, family),
        siblings_published=_by_cost(record for record in alike if record.level == ORIGINAL),
        published=tuple(record for record in alike if record.level != ORIGINAL and record.architecture == architecture),
        left_out=_left_out(published, conditions),
    )


def _conditions(architecture: str, series: Series | None, published: list[RunRecord]) -> tuple[int, str] | None:
    """Image size and head that decide which results are comparable."""
    if series is not None:
        return series.any_record.imgsz, series.any_record.head
    compressed = [record for record in published if record.level != ORIGINAL and record.architecture == architecture]
    ranked = compressed or sorted(published, key=lambda record: record.head)
    return (ranked[0].imgsz, ranked[0].head) if ranked else None


def _left_out(published: list[RunRecord], conditions: tuple[int, str] | None) -> str:
    sizes = sorted({record.imgsz for record in published})
    if conditions is None or not sizes or conditions[0] in sizes:
        return ""
    written = ", ".join(str(size) for size in sizes)
    return f"Published results at {written} px are not drawn: this series was measured at {conditions[0]} px."


def _measured_siblings(series: Series | None, family: list[RunRecord]) -> tuple[RunRecord, ...]:
    if series is None:
        return ()
    mine = series.any_record
    newest = originals_like(mine, family)
    if ORIGINAL in series.levels:
        newest[mine.architecture] = series.levels[ORIGINAL]
    # A single model is no line; the series' own original is drawn as its level 0.
    return _by_cost(newest.values()) if len(newest) > 1 else ()


def _by_cost(records: Iterable[RunRecord]) -> tuple[RunRecord, ...]:
    return tuple(sorted(records, key=lambda record: record.costs.gflops or 0.0))


def tradeoff(
    series: Series | None,
    neighbours: Neighbours,
    *,
    cost: CostName,
    metric: MetricName,
    level: int,
    planned: Costs | None = None,
    untrained: bool = True,
    other_seeds: Sequence[Series] = (),
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
    """
    measured = _series_points(series, cost, metric) if series else {}
    custom = series.custom if series else ()
    before = _untrained_points(series.levels.values() if series and untrained else (), cost, metric)
    return Tradeoff(
        cost=cost,
        metric=metric,
        measured=tuple(measured.values()),
        chosen=measured.get(level),
        planned_x=_cost(planned, cost) if planned and level not in measured else None,
        untrained=(*(measured[level] for level in measured if level == ORIGINAL), *before) if before else (),
        custom=_points(custom, cost, metric),
        custom_untrained=_untrained_points(custom if untrained else (), cost, metric),
        other_seeds=_points((record for other in other_seeds for record in other.compressed), cost, metric),
        siblings=_sibling_points(neighbours.siblings, cost, metric, unlabelled=series),
        siblings_published=_sibling_points(neighbours.siblings_published, cost, metric),
        published=_points(neighbours.published, cost, metric),
    )


def _series_points(series: Series, cost: CostName, metric: MetricName) -> dict[int, Point]:
    points = {level: _point(record, cost, metric) for level, record in sorted(series.levels.items())}
    if ORIGINAL not in points:
        # Every compressed record carries the original that it was counted against.
        record = series.any_record
        points = {ORIGINAL: _original_point(record, cost, metric), **points}
    return {level: point for level, point in points.items() if point is not None}


def _points(records: Iterable[RunRecord], cost: CostName, metric: MetricName) -> tuple[Point, ...]:
    points = (_point(record, cost, metric) for record in records)
    return tuple(point for point in points if point is not None)


def _untrained_points(records: Iterable[RunRecord], cost: CostName, metric: MetricName) -> tuple[Point, ...]:
    """Where records stood after recovery, before any training, by rising level; custom targets as they come."""
    points = []
    for record in sorted(records, key=lambda record: record.level or 0):
        x, y = _cost(record.costs, cost), getattr(record.metrics_recovered, metric, None)
        if x is not None and y is not None and _was_trained(record):
            points.append(Point(x=x, y=y, text="", hover=_untrained_hover(record)))
    return tuple(points)


def _was_trained(record: RunRecord) -> bool:
    """Whether fine-tuning stands between recovery and result; otherwise both are the same point."""
    return record.spec is not None and record.spec.epochs > 0


def _sibling_points(
    records: Iterable[RunRecord], cost: CostName, metric: MetricName, unlabelled: Series | None = None
) -> tuple[Point, ...]:
    """Originals by the name of their architecture; the series' own lies under its level 0, which has a label."""
    own = unlabelled.any_record.architecture if unlabelled else None
    points = ((record.architecture, _point(record, cost, metric)) for record in records)
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


def _padded(low: float, high: float, *, least: float) -> tuple[float, float]:
    """The interval with an eighth of air on both sides, and no narrower than `least`."""
    air = max(high - low, least) / 8
    middle = (low + high) / 2
    half = max(high - low, least) / 2
    return (middle - half - air, middle + half + air)


def _point(record: RunRecord, cost: CostName, metric: MetricName) -> Point | None:
    x, y = _cost(record.costs, cost), getattr(record.metrics, metric)
    if x is None or y is None:
        return None
    return Point(x=x, y=y, text=_text(record), hover=_hover(record))


def _original_point(record: RunRecord, cost: CostName, metric: MetricName) -> Point | None:
    x, y = _cost(record.costs_original, cost), getattr(record.metrics_original, metric)
    if x is None or y is None:
        return None
    lines = [f"<b>{record.model}, original</b>", *_figures(record.costs_original, record.metrics_original)]
    return Point(x=x, y=y, text="0", hover="<br>".join(lines))


def _cost(costs: Costs, cost: CostName) -> float | None:
    if cost == "gflops":
        return costs.gflops
    return None if costs.params is None else costs.params / 1e6


def _text(record: RunRecord) -> str:
    if record.provenance == "published" and record.level != ORIGINAL:
        return f"level {record.level}"
    return _target_text(record) if record.level is None else str(record.level)


def _target_text(record: RunRecord) -> str:
    """What a custom target keeps: "40%" of the GFLOPs, "60% params" where those are free; an uncut model says so."""
    if record.spec is None:
        return "custom"
    gflops, params = record.spec.target.gflops_kept, record.spec.target.params_kept
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
