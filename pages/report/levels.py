"""The levels side by side, as texts: the tables of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from cache.record import Costs, Metrics, RunRecord
from cache.rivals import by_cut, originals_of
from cache.series import capitalized, cut_named
from cache.siblings import is_uncut
from cache.spread import half_interval
from cache.verdict import Verdict
from compression.catalog import TaskName
from compression.levels import LEVELS, ORIGINAL
from compression.models.tasks import TASKS
from pages.parts import formats
from pages.parts.device.measured_times import measured_times
from pages.parts.outcome import MetricName, metric_labels
from pages.report.findings import Findings

NOT_MEASURED = formats.NOT_MEASURED


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure.

    Attributes:
        label: of its column.
        value: with unit; empty where there is nothing to say.
        change: against the original, "-5.0%"; empty of the original itself.
        better: whether that is for the better; None where it is neither.
        note: what else belongs to it, as an interval.
    """

    label: str
    value: str
    change: str = ""
    better: bool | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Level:
    """One model: the original, a level or a custom target.

    Attributes:
        name: "Original", "Level 3", "40% of the GFLOPs".
        level: 0 to 5; None of custom targets.
        costs: of the first seed; None where it was not measured.
        records: its results, one a seed; of the original none where only what was cut from it was measured.
        metrics: one a seed.
        verdict: on it; None where there is nothing to judge.
    """

    name: str
    level: int | None
    costs: Costs | None = None
    records: tuple[RunRecord, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    verdict: Verdict | None = None

    @property
    def seeds(self) -> str:
        """How many stand behind its accuracy: "mean of seeds 0, 1, 2"; empty of the original as it was given."""
        seeds = [
            record.spec.seed
            for record in self.records
            if record.spec and (record.spec.epochs or record.level != ORIGINAL)
        ]
        if not seeds:
            return ""
        return f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of seeds {', '.join(map(str, seeds))}"

    def accuracy(self, name: MetricName) -> float | None:
        """Mean over the seeds, a part of 1."""
        known = self.accuracies(name)
        return fmean(known) if known else None

    def accuracies(self, name: MetricName) -> list[float]:
        """Of each seed, as far as it was measured."""
        return [value for metrics in self.metrics if (value := getattr(metrics, name)) is not None]


def levels_of(findings: Findings) -> list[Level]:
    """The original, levels 1 to 5 whether measured or not, then custom targets, the mildest first."""
    verdicts = {key: verdict for verdict in findings.verdicts for key in verdict.keys}
    levels = [_original(findings)]
    levels += [_level(level, findings, verdicts) for level in LEVELS]
    # What fine-tuning alone gives comes before what it has to be told apart from.
    uncut = [record for one in findings.seeds for record in one.custom if is_uncut(record)]
    groups = [("Original, fine-tuned alike", uncut)] if uncut else []
    cuts = {key: records for key, records in by_cut(findings.seeds).items() if records[0].level is None}
    names = Counter(cut for cut, _ in cuts)
    for (cut, latency), records in cuts.items():
        # Equal times of two machines are two cuts.
        groups.append((f"{cut}, {latency.machine}" if latency and names[cut] > 1 else cut, records))
    return [*levels, *(_measured(name, None, records, verdicts) for name, records in groups)]


def _original(findings: Findings) -> Level:
    record = findings.series.levels.get(ORIGINAL)
    own = findings.series.any_record
    return Level(
        name="Original",
        level=ORIGINAL,
        costs=own.costs_original,
        records=(record,) if record else (),
        metrics=(record.metrics if record else own.metrics_original,),
    )


def _level(level: int, findings: Findings, verdicts: dict[str, Verdict]) -> Level:
    records = [one.levels[level] for one in findings.seeds if level in one.levels]
    if not records:
        return Level(name=f"Level {level}", level=level)
    return _measured(f"Level {level}", level, records, verdicts)


def _measured(name: str, level: int | None, records: Sequence[RunRecord], verdicts: dict[str, Verdict]) -> Level:
    records = sorted(records, key=lambda record: record.spec.seed if record.spec else 0)
    return Level(
        name=name,
        level=level,
        costs=records[0].costs,
        records=tuple(records),
        metrics=tuple(record.metrics for record in records),
        verdict=verdicts.get(records[0].key),
    )


def comparison_cells(level: Level, original: Level, task: TaskName) -> list[Cell]:
    """Accuracy, then costs of both graphs; of what was not measured the first says so."""
    if level.costs is None:
        return [Cell(label=TASKS[task].main, value=NOT_MEASURED)]
    accuracies = (_accuracy_cell(name, label, level, original) for name, label in metric_labels(task).items())
    return [*accuracies, *_cost_cells(level, original)]


def _accuracy_cell(name: MetricName, label: str, level: Level, original: Level) -> Cell:
    value, before = level.accuracy(name), original.accuracy(name)
    half = half_interval(level.accuracies(name)) if name == "map50_95" else None
    change = "" if level is original else formats.change(before, value) or ""
    return Cell(
        label=label,
        value=formats.accuracy(value),
        change=change,
        better=_better(change, lower_is_better=False),
        note=f"± {half:.3f}" if half is not None else "",
    )


def _cost_cells(level: Level, original: Level) -> list[Cell]:
    cells = []
    for label, name, write in (
        ("GFLOPs", "gflops", formats.gflops),
        ("Parameters", "params", formats.params),
        ("GFLOPs, deployed", "gflops_deployed", formats.gflops),
        ("Parameters, deployed", "params_deployed", formats.params),
    ):
        before, value = getattr(original.costs, name), getattr(level.costs, name)
        change = "" if level is original else formats.change(before, value) or ""
        cells.append(Cell(label=label, value=write(value), change=change, better=_better(change, lower_is_better=True)))
    return cells


def _better(change: str, *, lower_is_better: bool) -> bool | None:
    if not change or change == formats.NO_CHANGE:
        return None
    return change.startswith("-") == lower_is_better


def sibling_cells(record: RunRecord) -> list[Cell]:
    """The figures of an unpruned model, measured or published."""
    own = Level(name=record.architecture, level=ORIGINAL, costs=record.costs, metrics=(record.metrics,))
    missing = f"not {record.provenance}"
    return [
        replace(cell, value=missing) if cell.value in (NOT_MEASURED, formats.UNKNOWN) else cell
        for cell in comparison_cells(own, own, record.task)
    ]


def steps_cells(level: Level) -> list[Cell]:
    """mAP50-95 on the way to the result, on test images, and of each seed; means where there are several."""

    def mean_of(metrics: Iterable[Metrics | None]) -> str:
        values = [one.map50_95 for one in metrics if one is not None and one.map50_95 is not None]
        return formats.accuracy(fmean(values)) if values else NOT_MEASURED

    each = level.accuracies("map50_95")
    trained = any(record.spec and record.spec.epochs for record in level.records)
    # The original was not cut.
    cut, recovered = (
        "-" if level.level == ORIGINAL else mean_of(getattr(record, name) for record in level.records)
        for name in ("metrics_pruned", "metrics_recovered")
    )
    return [
        Cell(label="After the cut", value=cut),
        Cell(label="Recovered, no training", value=recovered),
        Cell(label="Fine-tuned", value=mean_of(level.metrics) if trained else "not trained"),
        Cell(label="Test images", value=mean_of(record.metrics_test for record in level.records)),
        Cell(label="Each seed", value=", ".join(map(formats.accuracy, each)) if len(each) > 1 else "one seed"),
    ]


def class_names(levels: Sequence[Level]) -> list[str]:
    """Of the classes whose accuracy was measured."""
    return list(dict.fromkeys(name for level in levels for metrics in level.metrics for name in metrics.per_class))


def class_cells(name: str, levels: Sequence[Level]) -> list[Cell]:
    """mAP50-95 of one class in each of some models, means over the seeds."""

    def of(level: Level) -> float | None:
        values = [metrics.per_class[name] for metrics in level.metrics if name in metrics.per_class]
        return fmean(values) if values else None

    original, *others = levels
    cells = [Cell(label=original.name, value=formats.accuracy(of(original)))]
    for level in others:
        change = formats.change(of(original), of(level)) or ""
        better = _better(change, lower_is_better=False)
        cells.append(Cell(label=level.name, value=formats.accuracy(of(level)), change=change, better=better))
    return cells


def time_cells(level: Level, findings: Findings) -> list[list[Cell]]:
    """What was timed of a model, one row a setting; of several seeds the first that was."""
    originals = originals_of(findings.series)
    for record in level.records:
        times = measured_times(record, findings.latencies, originals)
        if not times.rows.empty:
            return [
                [Cell(label=str(label), value=str(value)) for label, value in row.items()]
                for row in times.rows.to_dict("records")
            ]
    return []


def time_note(levels: Sequence[Level], findings: Findings) -> str:
    """Machines of the times, and what a time includes."""
    originals = originals_of(findings.series)
    notes = (measured_times(record, findings.latencies, originals).note for level in levels for record in level.records)
    return next(filter(None, notes), "")


def lead(levels: Sequence[Level], task: TaskName) -> str:
    """One sentence on the deepest level, or custom target, that was measured."""
    original = levels[0]
    cut = [level for level in levels if level.records and level.level != ORIGINAL and not is_uncut(level.records[0])]
    if not cut:
        return "No level has been measured yet."
    deepest = max((level for level in cut if level.level), key=lambda level: level.level or 0, default=cut[-1])
    accuracy, gflops = deepest.accuracy("map50_95"), deepest.costs.gflops if deepest.costs else None
    params = deepest.costs.params if deepest.costs else None
    old_gflops, old_params = (original.costs.gflops, original.costs.params) if original.costs else (None, None)

    def with_change(text: str, old: float | None, new: float | None) -> str:
        change = formats.change(old, new)
        return f"{text} ({change})" if change else text

    name = deepest.name if deepest.level else capitalized(cut_named(deepest.name))
    parts = [
        with_change(f"{TASKS[task].main} {formats.accuracy(accuracy)}", original.accuracy("map50_95"), accuracy),
        with_change(f"{formats.gflops(gflops)} GFLOPs", old_gflops, gflops),
        with_change(f"{formats.params(params)} parameters", old_params, params),
    ]
    text = f"{name} has {parts[0]} at {parts[1]} and {parts[2]}."
    tuned = next((level for level in levels if level.level is None and is_uncut(level.records[0])), None)
    if tuned is None:
        return text
    return f"{text} After the same fine-tuning the uncut original has {formats.accuracy(tuned.accuracy('map50_95'))}."
