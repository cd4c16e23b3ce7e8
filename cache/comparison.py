"""Results side by side: one row a result, as a table, as CSV, and as the rows of the published table.

Changes are against level 0 of the result itself, in percent. The way to a result has three accuracies: after the cut
("before_recovery"), after recovery and before any training ("no_training"; equal to the first where nothing was
recovered), and the result's own. All are of the validation images but those that end in "_test".
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cache.record import Costs, Metrics, RunRecord

COSTS = ("gflops", "params", "gflops_deployed", "params_deployed")
METRICS = ("map50", "map50_95", "precision", "recall")
ENVIRONMENT = ("processor", "gpu", "torch", "ultralytics", "commit")

# Column -> pandas type, in the order of the CSV. Accuracies are parts of 1; GFLOPs and parameters are of the training
# graph unless "deployed". "classes" names the only ones that were kept, and is empty where all were.
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
    "classes": "str",
    "gflops_kept_target_pct": "float64",
    "params_kept_target_pct": "float64",
    "epochs_run": "Int64",
    "batch": "Int64",
    "patience_epochs": "Int64",
    "duration_s": "float64",
    "architecture": "str",
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

# A spreadsheet runs a cell that begins so as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

Cell = str | int | float | None


def change_pct(original: float | None, value: float | None) -> float | None:
    """How far `value` lies above `original`, percent; None where one is missing, or there is no part of 0 to tell."""
    if original is None or value is None:
        return None
    if value == original:
        return 0.0
    return 100 * (value - original) / original if original else None


def comparison(records: Sequence[RunRecord]) -> pd.DataFrame:
    """One row a result, in the given order, with the columns of `COLUMNS`; missing cells are NA.

    GFLOPs are rounded to 3 decimals, accuracies to 5, percentages to 2.
    """
    rows = [_row(record) for record in records]
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=COLUMNS[name]) for name in COLUMNS})


def to_csv(records: Sequence[RunRecord]) -> bytes:
    """The comparison as UTF-8 CSV with lines that end in a line feed; no text in it can run as a formula."""
    table = comparison(records)
    for name, kind in COLUMNS.items():
        if kind == "str":
            table[name] = table[name].map(_harmless, na_action="ignore")
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()


def published_table(record: RunRecord) -> pd.DataFrame:
    """The rows of the published table as text: Metric, Original, Compressed, Change.

    GFLOPs and parameters are of the training graph. Missing values read "not measured" or "not published".
    """
    missing = f"not {record.provenance}"
    before, after = record.costs_original, record.costs
    found, kept = record.metrics_original, record.metrics
    rows = [
        ("GFLOPs", _gflops_text(before.gflops), _gflops_text(after.gflops), before.gflops, after.gflops),
        ("Parameters", _count_text(before.params), _count_text(after.params), before.params, after.params),
        ("mAP50", _accuracy_text(found.map50), _accuracy_text(kept.map50), found.map50, kept.map50),
        ("mAP50-95", _accuracy_text(found.map50_95), _accuracy_text(kept.map50_95), found.map50_95, kept.map50_95),
        ("Precision", _accuracy_text(found.precision), _accuracy_text(kept.precision), found.precision, kept.precision),
        ("Recall", _accuracy_text(found.recall), _accuracy_text(kept.recall), found.recall, kept.recall),
    ]
    table = [
        (name, old_text or missing, new_text or missing, _change_text(change_pct(old, new)) or missing)
        for name, old_text, new_text, old, new in rows
    ]
    return pd.DataFrame(table, columns=["Metric", "Original", "Compressed", "Change"])


def _row(record: RunRecord) -> dict[str, Cell]:
    return {
        "model": record.model,
        "data": record.data,
        "level": record.level,
        "provenance": record.provenance,
        "imgsz": record.imgsz,
        "head": record.head,
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
        "classes": _classes(record, spec.classes),
        "seed": spec.seed,
        "epochs": spec.epochs,
        "batch": spec.batch,
        "patience_epochs": spec.patience,
        "gflops_kept_target_pct": _rounded(target.gflops_kept and 100 * target.gflops_kept, 2),
        "params_kept_target_pct": _rounded(target.params_kept and 100 * target.params_kept, 2),
        "weights_sha256": spec.weights_sha256,
        "data_fingerprint": spec.data_fingerprint,
        "device": spec.device or None,
    }


def _classes(record: RunRecord, classes: tuple[int, ...]) -> str | None:
    """The only classes that were kept, by name where accuracies of each tell them, else by index; None for all."""
    names = list(record.metrics.per_class)
    return ", ".join(names if len(names) == len(classes) else map(str, classes)) or None


def _costs(original: Costs, costs: Costs) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for name in COSTS:
        value = getattr(costs, name)
        cells[name] = _rounded(value, 3) if name.startswith("gflops") else value
        cells[f"{name}_change_pct"] = _rounded(change_pct(getattr(original, name), value), 2)
    return cells


def _metrics(original: Metrics, metrics: Metrics) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for name in METRICS:
        value = getattr(metrics, name)
        cells[name] = _rounded(value, 5)
        cells[f"{name}_change_pct"] = _rounded(change_pct(getattr(original, name), value), 2)
    return cells


def _on_the_way(record: RunRecord) -> dict[str, Cell]:
    """Accuracies that are not the result's own, as far as they were measured."""
    untrained = record.metrics_recovered or record.metrics_pruned
    cells: dict[str, Cell] = {}
    for name in ("map50", "map50_95"):
        before = getattr(untrained, name, None)
        cells[f"{name}_before_recovery"] = _rounded(getattr(record.metrics_pruned, name, None), 5)
        cells[f"{name}_no_training"] = _rounded(before, 5)
        change = change_pct(getattr(record.metrics_original, name), before)
        cells[f"{name}_no_training_change_pct"] = _rounded(change, 2)
        cells[f"{name}_test"] = _rounded(getattr(record.metrics_test, name, None), 5)
    return cells


def _circumstances(record: RunRecord) -> dict[str, Cell]:
    """How a measured result came about."""
    if record.provenance == "published":
        return {}
    return {
        "epochs_run": len(record.curve),
        "duration_s": _rounded(sum(record.seconds.values()), 1),
        **{name: record.environment.get(name) for name in ENVIRONMENT},
    }


def _rounded(value: float | None, digits: int) -> float | None:
    # Adding 0.0 turns -0.0 into 0.0.
    return None if value is None else round(value, digits) + 0.0


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _gflops_text(gflops: float | None) -> str | None:
    """One decimal as in the published table, two for a model so small that one would hide a level's step."""
    return None if gflops is None else f"{gflops:.1f}" if gflops >= 10 else f"{gflops:.2f}"


def _count_text(count: int | None) -> str | None:
    return None if count is None else f"{count:,}"


def _accuracy_text(part: float | None) -> str | None:
    return None if part is None else f"{part:.3f}"


def _change_text(percent: float | None) -> str | None:
    rounded = _rounded(percent, 1)
    return None if rounded is None else f"{rounded:+.1f}%" if rounded else "0.0%"
