"""Accuracy against cost: the data of the scatter plot, drawn by `pages.parts.plots`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Literal
from urllib.parse import urlencode

import numpy as np

from cache.record import Costs, Metrics, RunRecord
from cache.series import Series, method_label
from cache.siblings import Neighbours, is_uncut
from compression.catalog import TaskName
from compression.deployment.pareto import pareto_front
from compression.levels import LEVELS, ORIGINAL
from compression.models.tasks import TASKS, head_in_words
from pages.parts import formats
from pages.parts.outcome import COST_LABELS, CostName, MetricName, metric_labels

AxisName = CostName | Literal["size", "time"]

# A target that keeps everything: what the fine-tuning alone does to the original.
UNCUT = "uncut"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model in a scatter plot.

    Attributes:
        x: GFLOPs or millions of parameters, training graph; megabytes of the checkpoint; or time as a part of the
            original's.
        y: accuracy, 0 to 1.
        text: short label beside the point.
        hover: everything about it; lines separated by <br>.
        pick: what a click on it chooses, as a query string: "level=3", "seed=1&level=3", "key=..."; empty if nothing.
    """

    x: float
    y: float
    text: str
    hover: str
    pick: str = ""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """Another model, or the same one on another data set, drawn into the same plot.

    Attributes:
        label: "yolo26s on shapes".
        points: its levels in order, the original first.
        comparable: measured on the same data set, so that accuracies compare.
    """

    label: str
    points: tuple[Point, ...]
    comparable: bool


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """What one scatter plot shows. Measured and published points never share a line.

    Attributes:
        cost: of the horizontal axis.
        metric: of the vertical axis.
        measured: levels of the series in order of level, the original first.
        levels: of `measured`, in the same order; 0 is the original.
        planned_x: cost of each level where only that is known.
        untrained: the original, then the levels after recovery and before any training, in order of level; empty where
            none was measured so.
        custom: measured models with a target of their own.
        custom_untrained: the same after recovery and before any training.
        other_seeds: results under the same conditions with other seeds.
        siblings: unpruned models of the family, measured alike, by rising cost.
        siblings_published: the same as published.
        published: compressed models of this architecture as published.
        overlays: other models and data sets.
        front: of all that was measured on this data set, what no other one beats in both, by rising cost; empty if not
            asked for.
    """

    cost: AxisName
    metric: MetricName
    task: TaskName
    measured: tuple[Point, ...] = ()
    levels: tuple[int, ...] = ()
    planned_x: Mapping[int, float] = field(default_factory=dict)
    untrained: tuple[Point, ...] = ()
    custom: tuple[Point, ...] = ()
    custom_untrained: tuple[Point, ...] = ()
    other_seeds: tuple[Point, ...] = ()
    siblings: tuple[Point, ...] = ()
    siblings_published: tuple[Point, ...] = ()
    published: tuple[Point, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    front: tuple[Point, ...] = ()


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
    planned: Mapping[int, Costs] | None = None,
    untrained: bool = True,
    other_seeds: Sequence[Series] = (),
    ratios: Mapping[str, float] | None = None,
    overlaid: Mapping[str, Series] | None = None,
    with_front: bool = False,
    task: TaskName | None = None,
) -> Tradeoff:
    """The data of one scatter plot, the same whatever level is chosen.

    Args:
        series: measured levels, joined by a line; None if nothing is measured.
        neighbours: what they are compared with.
        cost: of the horizontal axis.
        metric: of the vertical axis.
        planned: costs of levels that were not measured.
        untrained: whether to show where the levels stood before training.
        other_seeds: series that differ from this one in nothing but the seed.
        ratios: measured times as parts of the original's, by hash of the checkpoint; what has none is no point.
        overlaid: other models and data sets, by label.
        with_front: whether to find the Pareto front.
        task: what the models are for; None for that of the series.
    """
    axis = _Axis(cost=cost, ratios=ratios or {})
    measured = _series_points(series, axis, metric) if series else {}
    custom = series.custom if series else ()
    before = _untrained_points(series.levels.values() if series and untrained else (), axis, metric)
    others = tuple(_overlay(label, one, series, axis, metric) for label, one in (overlaid or {}).items())
    data = Tradeoff(
        cost=cost,
        metric=metric,
        task=task or (series.any_record.task if series else "detect"),
        measured=tuple(measured.values()),
        levels=tuple(measured),
        planned_x=_planned(planned or {}, measured, axis),
        untrained=(*(measured[level] for level in measured if level == ORIGINAL), *before) if before else (),
        custom=_points(custom, axis, metric, pick=_pick_key),
        custom_untrained=_untrained_points(custom if untrained else (), axis, metric),
        other_seeds=_points(
            (record for other in other_seeds for record in other.compressed), axis, metric, pick=_pick_seed
        ),
        siblings=_sibling_points(neighbours.siblings, axis, metric, unlabelled=series),
        siblings_published=_sibling_points(neighbours.siblings_published, axis, metric),
        published=_points(neighbours.published, axis, metric),
        overlays=tuple(one for one in others if one.points),
    )
    return replace(data, front=_front(data)) if with_front else data


def _planned(planned: Mapping[int, Costs], measured: Mapping[int, Point], axis: _Axis) -> dict[int, float]:
    costs = {level: axis.of_plan(one) for level, one in planned.items() if level not in measured}
    return {level: cost for level, cost in sorted(costs.items()) if cost is not None}


def _front(data: Tradeoff) -> tuple[Point, ...]:
    """Of what was measured on one data set, also with other seeds and before training, all that nothing beats."""
    alike = [point for one in data.overlays if one.comparable for point in one.points]
    untrained = (*data.untrained, *data.custom_untrained)
    points = [*data.measured, *data.custom, *data.other_seeds, *data.siblings, *untrained, *alike]
    # The original is a level, a sibling and where the untrained ones begin.
    places = list({(point.x, point.y): point for point in points}.values())
    return tuple(places[number] for number in pareto_front([(point.x, point.y) for point in places]))


def _overlay(label: str, other: Series, series: Series | None, axis: _Axis, metric: MetricName) -> Overlay:
    own, chosen = other.any_record, series.any_record if series else None
    pick = {"model": own.model, "data": own.data}
    points = _series_points(other, axis, metric, also=pick)
    same = chosen is not None and _images_of(own) == _images_of(chosen)
    return Overlay(label=label, points=tuple(points.values()), comparable=same)


def _images_of(record: RunRecord) -> tuple[str, TaskName]:
    """What two accuracies have to share to be compared; the same images and labels may serve two tasks."""
    return (record.spec.data_fingerprint if record.spec else record.data, record.task)


def _series_points(
    series: Series, axis: _Axis, metric: MetricName, also: Mapping[str, str] | None = None
) -> dict[int, Point]:
    """Points of a series by level.

    Args:
        also: what a click on them chooses besides the level; None for the chosen series itself.
    """
    points = {level: _point(record, axis, metric) for level, record in sorted(series.levels.items())}
    if ORIGINAL not in points:
        # Every compressed record carries the original that it was counted against.
        record = series.any_record
        points = {ORIGINAL: _original_point(record, axis, metric, is_other=also is not None), **points}

    def pick(level: int) -> str:
        # The slider begins at level 1.
        wanted = {**(also or {}), **({"level": str(level)} if level in LEVELS else {})}
        return urlencode(wanted)

    return {level: replace(point, pick=pick(level)) for level, point in points.items() if point is not None}


def _points(
    records: Iterable[RunRecord],
    axis: _Axis,
    metric: MetricName,
    pick: Callable[[RunRecord], str] = lambda record: "",
) -> tuple[Point, ...]:
    points = ((record, _point(record, axis, metric)) for record in records)
    return tuple(replace(point, pick=pick(record)) for record, point in points if point is not None)


def _pick_seed(record: RunRecord) -> str:
    """Another seed of a level; a custom target of another seed has no place on the slider."""
    if record.spec is None or record.level is None:
        return _pick_key(record)
    return urlencode({"seed": str(record.spec.seed), "level": str(record.level)})


def _pick_key(record: RunRecord) -> str:
    return urlencode({"key": record.key})


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
    points = ((record, _point(record, axis, metric)) for record in records)
    return tuple(
        replace(
            point,
            text="" if record.architecture == own else record.architecture,
            pick=urlencode({"model": record.model}) if record.architecture != own and record.spec else "",
        )
        for record, point in points
        if point is not None
    )


def focus(data: Tradeoff) -> Range | None:
    """Where the levels lie, with the lines that cross there; None where there are no levels to look at.

    Larger siblings cost several times as much, and would press the levels into a corner.
    """
    measured = [*data.measured, *data.untrained, *data.custom, *data.custom_untrained, *data.other_seeds]
    measured += [point for one in data.overlays for point in one.points]
    points = [*measured, *data.published]
    if not points:
        return None
    own_x = [*(point.x for point in points), *data.planned_x.values()]
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


def in_words(data: Tradeoff) -> str:
    """What the plot shows of the chosen series, for readers who cannot see it."""
    units = {"gflops": "GFLOPs", "params": "million parameters", "size": "MB", "time": "of the original's time"}
    points = [f"{point.text}: {point.y:.3f} at {point.x:,.4g} {units[data.cost]}" for point in data.measured]
    name = metric_labels(data.task)[data.metric]
    return f"{name} by level (0 is the original). {'; '.join(points) or 'Nothing measured'}."


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


def _original_point(record: RunRecord, axis: _Axis, metric: MetricName, *, is_other: bool) -> Point | None:
    x, y = axis.of_original(record, is_other=is_other), getattr(record.metrics_original, metric)
    if x is None or y is None:
        return None
    figures = _figures(record.costs_original, record.metrics_original, record.task)
    lines = [f"<b>{escape(record.model)}, original</b>", *figures]
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
        if self.cost == "size":
            return record.checkpoint_mb
        if self.cost != "time":
            return self.of_plan(record.costs)
        sha256 = record.checkpoint_sha256
        if record.level == ORIGINAL and sha256 is None and record.spec:
            # An original that came without its checkpoint is known by the file that was given.
            sha256 = record.spec.weights_sha256
        return self.ratios.get(sha256 or "")

    def of_original(self, record: RunRecord, *, is_other: bool) -> float | None:
        """Cost of what a result was cut from; an original of others has a time only where it was timed."""
        if self.cost == "time":
            return 1.0 if self.ratios and not is_other else None
        return self.of_plan(record.costs_original)

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
    return UNCUT if is_uncut(record) else f"{100 * gflops:g}%"


def _hover(record: RunRecord) -> str:
    # Plotly reads some HTML.
    title, *lines = (escape(line, quote=False) for line in lines_of(record))
    return "<br>".join([f"<b>{title}</b> ({record.provenance})", *lines])


def lines_of(record: RunRecord) -> list[str]:
    """Everything about a point, its name first."""
    lines = [f"{record.model}, {_step(record)}", *_figures(record.costs, record.metrics, record.task)]
    lines.append(_conditions_line(record))
    if record.level != ORIGINAL:
        lines += _changes(record)
    if record.metrics_test is not None:
        lines.append(f"on test images: {TASKS[record.task].main} {formats.accuracy(record.metrics_test.map50_95)}")
    if record.source:
        lines.append(f"source: {record.source}")
    return lines


def _untrained_hover(record: RunRecord) -> str:
    assert record.metrics_recovered is not None
    lines = [f"<b>{escape(record.model)}, {_step(record)}</b> after recovery, before any training"]
    lines += [*_figures(record.costs, record.metrics_recovered, record.task), _conditions_line(record)]
    change = formats.change(record.metrics_original.map50_95, record.metrics_recovered.map50_95)
    return "<br>".join([*lines, *([f"against the original: {TASKS[record.task].main} {change}"] if change else [])])


def _step(record: RunRecord) -> str:
    if record.level is None:
        kept = _target_text(record)
        return f"custom target ({kept})" if kept != UNCUT else "original, fine-tuned alike"
    return "original" if record.level == ORIGINAL else f"level {record.level}"


def _figures(costs: Costs, metrics: Metrics, task: TaskName) -> list[str]:
    names = metric_labels(task).items()
    lines = [f"{label} {formats.accuracy(getattr(metrics, name))}" for name, label in names]
    lines.append(f"{COST_LABELS['gflops']} {formats.gflops(costs.gflops)} (deployed {_known(costs.gflops_deployed)})")
    deployed = "unknown" if costs.params_deployed is None else formats.params(costs.params_deployed)
    lines.append(f"{COST_LABELS['params']} {formats.params(costs.params)} (deployed {deployed})")
    return lines


def _known(value: float | None) -> str:
    return "unknown" if value is None else formats.gflops(value)


def _conditions_line(record: RunRecord) -> str:
    parts = [f"{record.imgsz} px", head_in_words(record.task, record.head)]
    if record.spec is not None and record.level != ORIGINAL:
        parts += [method_label(record.spec), f"{record.spec.epochs} epochs", f"seed {record.spec.seed}"]
    parts += [f"{name} {value}" for name, value in record.published_training.items()]
    return ", ".join(parts)


def _changes(record: RunRecord) -> list[str]:
    accuracy = formats.change(record.metrics_original.map50_95, record.metrics.map50_95)
    gflops = formats.change(record.costs_original.gflops, record.costs.gflops)
    params = formats.change(record.costs_original.params, record.costs.params)
    changes = [(TASKS[record.task].main, accuracy), ("GFLOPs", gflops), ("parameters", params)]
    written = [f"{name} {change}" for name, change in changes if change is not None]
    return [f"against the original: {', '.join(written)}"] if written else []
