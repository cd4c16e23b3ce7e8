"""One result as one row of the comparison, and as the line of text that the database keeps of it.

Changes are against level 0 of the result itself, in percent. The way to a result has three accuracies: after the cut
("before_recovery"), after recovery and before any training ("no_training"; equal to the first where nothing was
recovered), and the result's own. All are of the validation images but those that end in "_test".

Lines of older results are not written again by themselves: whoever changes COLUMNS or what stands in them adds a
revision to `cache.migrations` that does.
"""

from __future__ import annotations

import json
from dataclasses import replace

from cache.record import SHORT_KEY, Costs, Metrics, RecordError, RunRecord
from compression.spec import LatencyTarget
from compression.wishes import in_words

COSTS = ("gflops", "params", "gflops_deployed", "params_deployed")
METRICS = ("map50", "map50_95", "precision", "recall")
ENVIRONMENT = ("processor", "gpu", "torch", "ultralytics", "commit")

# "task" says what accuracies are of: of a classifier "map50_95" is the top-1 and "map50" the top-5 accuracy.
# Column -> pandas type, in the order of the CSV. Accuracies are parts of 1; GFLOPs and parameters are of the training
# graph unless "deployed". "classes" names the only ones that were kept, and is empty where all were; "layers" tells
# what single layers were wished to keep.
COLUMNS = {
    "model": "str",
    "data": "str",
    "level": "Int64",
    "provenance": "str",
    "recipe": "str",
    "criterion": "str",
    "seed": "Int64",
    "epochs": "Int64",
    "imgsz": "Int64",
    "head": "str",
    "gflops": "float64",
    "gflops_change_pct": "float64",
    "gflops_deployed": "float64",
    "params": "Int64",
    "params_change_pct": "float64",
    "params_deployed": "Int64",
    "map50": "float64",
    "map50_change_pct": "float64",
    "map50_95": "float64",
    "map50_95_change_pct": "float64",
    "precision": "float64",
    "precision_change_pct": "float64",
    "recall": "float64",
    "recall_change_pct": "float64",
    "gflops_deployed_change_pct": "float64",
    "params_deployed_change_pct": "float64",
    "map50_before_recovery": "float64",
    "map50_95_before_recovery": "float64",
    "map50_no_training": "float64",
    "map50_no_training_change_pct": "float64",
    "map50_95_no_training": "float64",
    "map50_95_no_training_change_pct": "float64",
    "map50_test": "float64",
    "map50_95_test": "float64",
    "allocation": "str",
    "recovery": "str",
    "calibration_images": "Int64",
    "steps": "Int64",
    "align": "Int64",
    "classes": "str",
    "layers": "str",
    "gflops_kept_target_pct": "float64",
    "params_kept_target_pct": "float64",
    "latency_kept_target_pct": "float64",
    "latency_backend": "str",
    "latency_kept_pct": "float64",
    "epochs_run": "Int64",
    "batch": "Int64",
    "patience_epochs": "Int64",
    "duration_s": "float64",
    "architecture": "str",
    "task": "str",
    "weights_sha256": "str",
    "data_fingerprint": "str",
    "device": "str",
    "processor": "str",
    "gpu": "str",
    "torch": "str",
    "ultralytics": "str",
    "commit": "str",
    "created": "str",
    "warnings": "str",
    "source": "str",
    "key": "str",
}

# Of a 64-bit integer.
LARGEST_WHOLE = 2**63 - 1
# Between the cells of a line; no text that is meant to be read holds it.
SEPARATOR = "\x1f"
# Characters that would end a cell or a line.
_TO_SPACES = dict.fromkeys(map(ord, f"{SEPARATOR}\0\r\n"), " ")

Cell = str | int | float | None


def change_pct(original: float | None, value: float | None) -> float | None:
    """How far `value` lies above `original`, percent; None where one is missing, or there is no part of 0 to tell."""
    if original is None or value is None:
        return None
    if value == original:
        return 0.0
    return 100 * (value - original) / original if original else None


def summary_row(record: RunRecord) -> dict[str, Cell]:
    """The cells of a result, GFLOPs rounded to 3 decimals, accuracies to 5, percentages to 2; missing ones are None."""
    return {
        "model": record.model,
        "data": record.data,
        "level": record.level,
        "provenance": record.provenance,
        "imgsz": record.imgsz,
        "head": record.head,
        "task": record.task,
        "architecture": record.architecture,
        "created": record.created or None,
        "warnings": " ".join(record.warnings) or None,
        "source": record.source,
        "key": record.key,
        **_training(record),
        **_costs(record.costs_original, record.costs),
        **_metrics(record.metrics_original, record.metrics),
        **_on_the_way(record),
        **_circumstances(record),
    }


def _training(record: RunRecord) -> dict[str, Cell]:
    """What was asked for; of a published result, what its source says."""
    spec = record.spec
    if spec is None:
        return {**record.published_training}
    target = spec.target
    return {
        "recipe": spec.recipe,
        "criterion": spec.criterion,
        "allocation": spec.allocation,
        "recovery": spec.recovery,
        "calibration_images": spec.calibration_images,
        "steps": spec.steps,
        "align": spec.align,
        "classes": _classes(record, spec.classes),
        "layers": in_words(target.layers) or None,
        "seed": spec.seed,
        "epochs": spec.epochs,
        "batch": spec.batch,
        "patience_epochs": spec.patience,
        "gflops_kept_target_pct": rounded(target.gflops_kept and 100 * target.gflops_kept, 2),
        "params_kept_target_pct": rounded(target.params_kept and 100 * target.params_kept, 2),
        **_latency(record, target.latency),
        "weights_sha256": spec.weights_sha256,
        "data_fingerprint": spec.data_fingerprint,
        "device": spec.device or None,
    }


def _latency(record: RunRecord, asked: LatencyTarget | None) -> dict[str, Cell]:
    """The time that was asked for, of which backend, and what was measured of it."""
    if asked is None:
        return {}
    measured = record.time.measured_kept if record.time else None
    return {
        "latency_kept_target_pct": rounded(100 * asked.kept, 2),
        "latency_backend": asked.backend,
        "latency_kept_pct": rounded(measured and 100 * measured, 2),
    }


def _classes(record: RunRecord, classes: tuple[int, ...]) -> str | None:
    """The only classes that were kept, by name where accuracies of each tell them, else by index; None for all."""
    names = list(record.metrics.per_class)
    return ", ".join(names if len(names) == len(classes) else map(str, classes)) or None


def _costs(original: Costs, costs: Costs) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for name in COSTS:
        value = getattr(costs, name)
        cells[name] = rounded(value, 3) if name.startswith("gflops") else value
        cells[f"{name}_change_pct"] = rounded(change_pct(getattr(original, name), value), 2)
    return cells


def _metrics(original: Metrics, metrics: Metrics) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for name in METRICS:
        value = getattr(metrics, name)
        cells[name] = rounded(value, 5)
        cells[f"{name}_change_pct"] = rounded(change_pct(getattr(original, name), value), 2)
    return cells


def _on_the_way(record: RunRecord) -> dict[str, Cell]:
    """Accuracies that are not the result's own, as far as they were measured."""
    untrained = record.metrics_recovered or record.metrics_pruned
    cells: dict[str, Cell] = {}
    for name in ("map50", "map50_95"):
        before = getattr(untrained, name, None)
        cells[f"{name}_before_recovery"] = rounded(getattr(record.metrics_pruned, name, None), 5)
        cells[f"{name}_no_training"] = rounded(before, 5)
        change = change_pct(getattr(record.metrics_original, name), before)
        cells[f"{name}_no_training_change_pct"] = rounded(change, 2)
        cells[f"{name}_test"] = rounded(getattr(record.metrics_test, name, None), 5)
    return cells


def _circumstances(record: RunRecord) -> dict[str, Cell]:
    """How a measured result came about."""
    if record.provenance == "published":
        return {}
    return {
        "epochs_run": len(record.curve),
        "duration_s": rounded(sum(record.seconds.values()), 1),
        **{name: record.environment.get(name) for name in ENVIRONMENT},
    }


def rounded(value: float | None, digits: int) -> float | None:
    """The number with so many decimals; None stays None."""
    # Adding 0.0 turns -0.0 into 0.0.
    return None if value is None else round(value, digits) + 0.0


def summary_line(record: RunRecord) -> str:
    """The cells in the order of COLUMNS, empty where missing; `cache.comparison` makes a table of lines.

    Raises:
        RecordError: a figure of the record is no number, or a text is no Unicode.
    """
    try:
        row = summary_row(record)
        line = SEPARATOR.join(_text(row.get(name), kind) for name, kind in COLUMNS.items())
        line.encode()
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise RecordError(f"Result {record.key[:SHORT_KEY]!r} cannot be put into a table: {error}.") from error
    return line


def _text(cell: Cell, kind: str) -> str:
    if cell is None:
        return ""
    if kind == "str":
        return str(cell).translate(_TO_SPACES)
    if kind == "float64":
        # The shortest text that gives the same number again.
        return repr(float(cell))
    whole = int(cell)
    if abs(whole) > LARGEST_WHOLE:
        raise ValueError(f"{cell!r} is too large")
    return str(whole)


def head_of(record: RunRecord) -> RunRecord:
    """A result without its layers and its curve, which are nine tenths of it."""
    return replace(record, layers=(), curve=())


def head_json(record: RunRecord) -> str:
    """The same as JSON."""
    return json.dumps(head_of(record).to_dict())
