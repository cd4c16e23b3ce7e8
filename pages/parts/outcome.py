"""What is known about one level: a measurement, or a plan with exact costs and no accuracy yet; and its cards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from cache.record import Costs, LayerRow, Metrics, PlanRecord, RunRecord
from cache.series import Series
from compression.catalog import TaskName, task_of_name
from compression.models.tasks import TASKS, accuracy_names
from pages.parts import formats

MetricName = Literal["map50_95", "map50", "precision", "recall"]
CostName = Literal["gflops", "params"]

COST_LABELS: dict[CostName, str] = {"gflops": "GFLOPs", "params": "Parameters"}

# Of a detector; `metric_labels` has those of every task.
METRIC_LABELS: dict[MetricName, str] = {
    "map50_95": "mAP50-95",
    "map50": "mAP50",
    "precision": "Precision",
    "recall": "Recall",
}

HELP: dict[MetricName | CostName, str] = {
    "map50_95": "Mean average precision over IoU thresholds 0.5 to 0.95: how well boxes are found and placed. "
    "0 to 1, higher is better.",
    "map50": "Mean average precision at IoU 0.5: how well objects are found, loosely placed. 0 to 1, higher is better.",
    "precision": "Part of the reported boxes that are right, at the confidence of best F1. 0 to 1, higher is better.",
    "recall": "Part of the objects that are found, at the confidence of best F1. 0 to 1, higher is better.",
    "gflops": "Billions of floating-point operations an image (2 x multiply-adds), training graph. Lower is better.",
    "params": "Weights of the training graph, in millions. Lower is better.",
}


CLASS_HELP: dict[MetricName | CostName, str] = {
    "map50_95": "Part of the images whose class the model ranks first. 0 to 1, higher is better.",
    "map50": "Part of the images whose class is among the model's first five, which are all where there are no more. "
    "0 to 1, higher is better.",
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One level, measured or planned.

    Attributes:
        level: 1 to 5.
        costs_original: of level 0; None while neither a result nor a plan is there.
        costs: of this level; likewise.
        metrics_original: of level 0; None if not measured.
        metrics: of this level; None if not measured.
        layers: one row a layer; empty if unknown.
        warnings: what the reader of the figures must know, a sentence each.
        record: the measurement, if there is one.
        task: what the model predicts.
        plan: the plan, where that is all there is.
    """

    level: int
    costs_original: Costs | None = None
    costs: Costs | None = None
    metrics_original: Metrics | None = None
    metrics: Metrics | None = None
    layers: tuple[LayerRow, ...] = ()
    warnings: tuple[str, ...] = ()
    record: RunRecord | None = None
    task: TaskName = "detect"
    plan: PlanRecord | None = None


def metric_labels(task: TaskName) -> dict[MetricName, str]:
    """The accuracies that a task has, and what they are called, the main one first."""
    names = accuracy_names(task)
    return {name: names[name] for name in METRIC_LABELS if name in names}


def metric_key(task: TaskName) -> str:
    """Of the widget that chooses among them: what is chosen of one task is not on offer of another."""
    return "metric" if task == "detect" else f"metric-{task}"


def metric_help(name: MetricName | CostName, task: TaskName) -> str:
    """What a figure says, for a reader who asks."""
    if task == "classify" and name in CLASS_HELP:
        return CLASS_HELP[name]
    return HELP[name] if task == "detect" else HELP[name].replace("boxes", TASKS[task].predicts)


def outcome_of(level: int, series: Series | None, plan: PlanRecord | None) -> Outcome:
    """The measurement of a level if the series has one, otherwise what the plan tells."""
    record = series.levels.get(level) if series else None
    if record is not None:
        return Outcome(
            level=level,
            costs_original=record.costs_original,
            costs=record.costs,
            metrics_original=record.metrics_original,
            metrics=record.metrics,
            layers=record.layers,
            warnings=record.warnings,
            record=record,
            task=record.task,
        )
    task = series.any_record.task if series else task_of_name(plan.model) if plan else "detect"
    original = series.any_record.metrics_original if series else None
    if plan is None:
        known = series.any_record.costs_original if series else None
        return Outcome(level=level, costs_original=known, metrics_original=original, task=task)
    return Outcome(
        level=level,
        costs_original=plan.before,
        costs=plan.after,
        metrics_original=original,
        layers=plan.layers,
        warnings=plan.warnings,
        task=task,
        plan=plan,
    )


@dataclass(frozen=True, kw_only=True)
class Card:
    """One figure with its change against level 0.

    Attributes:
        name: of the metric or cost.
        label: as it is shown.
        value: as it is shown, with unit.
        change: relative, as it is shown; None where it cannot be told.
        original: level 0, as it is shown.
        lower_is_better: True of costs.
    """

    name: MetricName | CostName
    label: str
    value: str
    change: str | None
    original: str
    lower_is_better: bool


def cards(outcome: Outcome) -> list[Card]:
    """The six cards: accuracy, then costs, then the two parts of accuracy, which a classifier does not have."""
    shown = [
        _metric_card("map50_95", outcome),
        _metric_card("map50", outcome),
        _cost_card("gflops", outcome, formats.gflops),
        _cost_card("params", outcome, formats.params),
        _metric_card("precision", outcome),
        _metric_card("recall", outcome),
    ]
    return [card for card in shown if card.name in COST_LABELS or card.name in metric_labels(outcome.task)]


def _metric_card(name: MetricName, outcome: Outcome) -> Card:
    before = getattr(outcome.metrics_original, name, None)
    after = getattr(outcome.metrics, name, None)
    return Card(
        name=name,
        label=metric_labels(outcome.task).get(name, ""),
        value=formats.accuracy(after),
        change=formats.change(before, after),
        original=formats.accuracy(before),
        lower_is_better=False,
    )


def _cost_card(name: CostName, outcome: Outcome, write: Callable[[float | None], str]) -> Card:
    before = getattr(outcome.costs_original, name, None)
    after = getattr(outcome.costs, name, None)
    return Card(
        name=name,
        label=COST_LABELS[name],
        value=write(after),
        change=formats.change(before, after),
        original=write(before),
        lower_is_better=True,
    )


def deployed(outcome: Outcome) -> str | None:
    """One line on the deployed graph, "5.41 → 4.22 GFLOPs, 2.38 M → 1.80 M parameters"; None where unknown."""
    before, after = outcome.costs_original, outcome.costs
    if before is None or after is None or after.gflops_deployed is None or after.params_deployed is None:
        return None
    return (
        f"{formats.gflops(before.gflops_deployed)} → {formats.gflops(after.gflops_deployed)} GFLOPs, "
        f"{formats.params(before.params_deployed)} → {formats.params(after.params_deployed)} parameters"
    )


def on_the_way(record: RunRecord) -> str | None:
    """One line from the original to the result, the main accuracy after each step; None where only both ends are known.

    "original 0.530 → cut 0.213 (-59.8%) → recovered, no training yet 0.462 (-12.8%) → fine-tuned 0.531 (+0.2%)"
    """
    original = record.metrics_original.map50_95
    trained = record.spec is not None and record.spec.epochs > 0
    steps = [
        ("cut", record.metrics_pruned),
        ("recovered, no training yet", record.metrics_recovered),
        ("fine-tuned", record.metrics if trained else None),
    ]
    measured = [(name, metrics.map50_95) for name, metrics in steps if metrics is not None]
    if [name for name, _ in measured] in ([], ["fine-tuned"]):
        return None
    written = [f"original {formats.accuracy(original)}"]
    for name, value in measured:
        change = formats.change(original, value)
        written.append(f"{name} {formats.accuracy(value)}" + (f" ({change})" if change else ""))
    return " → ".join(written)


def among_seeds(level: int, same_conditions: Sequence[Series]) -> str | None:
    """The main accuracy of each seed at a level, "seeds 0, 1, 2: 0.531, 0.528, 0.534"; None where there is only one."""
    found = {one.seed: one.levels[level].metrics.map50_95 for one in same_conditions if level in one.levels}
    if len(found) < 2:
        return None
    seeds = ", ".join(str(seed) for seed in sorted(found))
    return f"seeds {seeds}: {', '.join(formats.accuracy(found[seed]) for seed in sorted(found))}"


def on_test_images(record: RunRecord, original: RunRecord | None) -> str | None:
    """The main accuracy on images that chose nothing, "test images 0.509, original 0.511 (-0.4%)"; None if unknown.

    Args:
        record: the result.
        original: that of level 0; None if there is none.
    """
    if record.metrics_test is None:
        return None
    after = record.metrics_test.map50_95
    text = f"test images {formats.accuracy(after)}"
    if original is None or original.metrics_test is None:
        return text
    before = original.metrics_test.map50_95
    change = formats.change(before, after)
    return f"{text}, original {formats.accuracy(before)}" + (f" ({change})" if change else "")
