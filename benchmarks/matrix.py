"""Every architecture of the catalog at 640 pixels: planned, cut, counted, saved and loaded by plain Ultralytics.

python -m benchmarks.matrix run       # add what is missing to docs/families.csv, each model in a process of its own
python -m benchmarks.matrix table     # the table of docs/families.md from it
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

from benchmarks.engine import KIB, counted_gflops
from compression.catalog import CATALOG
from compression.graph.trace import Trace
from compression.levels import target_of
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector
from compression.pruning.planner import Planner
from compression.pruning.surgery import apply_plan, raw_outputs
from compression.spec import DEFAULT_IMGSZ

RESULTS = Path(__file__).parents[1] / "docs" / "families.csv"
PAGE = RESULTS.with_suffix(".md")

LEVELS = (1, 3, 5)
# Raw outputs are compared at this size: couplings do not depend on it, and the largest strides are 64.
COMPARED_IMGSZ = 128

COLUMNS = (
    *("model", "gflops", "params", "gflops_5", "params_5", "target_error_points", "counted_error_pct"),
    *("free_pct", "locked", "zero_cut_equal", "reload_equal", "seconds", "memory_mb"),
)

# In the page; what stands before it is written by hand.
TABLE_STARTS = "<!-- What follows is written by benchmarks/matrix.py. -->"


def examine(name: str) -> dict[str, Any]:
    """One architecture, see COLUMNS."""
    torch.set_num_threads(1)
    module = open_detector(f"{name}.yaml").module
    start = time.perf_counter()
    planner = Planner(module, DEFAULT_IMGSZ)
    plans = {level: planner.plan(target_of(level)) for level in LEVELS}
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // KIB
    errors, counted = [], []
    for plan in plans.values():
        pruned = apply_plan(module, planner.trace, plan)
        before, after, target = plan.before, plan.after, plan.target
        assert before.gflops is not None
        assert before.params is not None
        assert after.gflops is not None
        assert after.params is not None
        assert after.gflops_deployed is not None
        assert target.gflops_kept is not None
        assert target.params_kept is not None
        errors += [after.gflops / before.gflops - target.gflops_kept, after.params / before.params - target.params_kept]
        counted += [
            after.gflops / counted_gflops(pruned, deployed=False) - 1,
            after.gflops_deployed / counted_gflops(pruned, deployed=True) - 1,
            after.params / sum(parameter.numel() for parameter in pruned.parameters()) - 1,
        ]
    same = apply_plan(module, planner.trace, planner.plan(target_of(0)))
    deepest = plans[LEVELS[-1]]
    return {
        "model": name,
        "gflops": round(deepest.before.gflops or 0, 2),
        "params": deepest.before.params,
        "gflops_5": round(deepest.after.gflops or 0, 2),
        "params_5": deepest.after.params,
        "target_error_points": round(100 * max(map(abs, errors)), 3),
        "counted_error_pct": round(100 * max(map(abs, counted)), 6),
        "free_pct": round(100 * _free(planner.trace), 1),
        "locked": "; ".join(sorted({group.locked for group in planner.trace.groups if group.locked})),
        "zero_cut_equal": _equal(module, same),
        "reload_equal": _reloads(apply_plan(module, planner.trace, deepest)),
        "seconds": round(seconds, 2),
        "memory_mb": memory,
    }


def _free(trace: Trace) -> float:
    widths = [(group.width, group.locked is None) for group in trace.groups]
    return sum(width for width, free in widths if free) / sum(width for width, _ in widths)


def _equal(one: DetectionModel, other: DetectionModel) -> bool:
    image = torch.rand(1, 3, COMPARED_IMGSZ, COMPARED_IMGSZ, generator=torch.Generator().manual_seed(1))
    pairs = zip(raw_outputs(one, image), raw_outputs(other, image), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


def _reloads(pruned: DetectionModel) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pruned.pt"
        write_checkpoint(pruned, file, {})
        loaded = YOLO(str(file)).model.float()
    return _equal(pruned.half().float(), loaded)


def run(names: Iterable[str]) -> None:
    """Examine what the file does not hold yet; a row is written as soon as it is there."""
    rows = _rows() if RESULTS.exists() else []
    done = {row["model"] for row in rows}
    for name in names:
        if name in done:
            continue
        process = [sys.executable, "-m", "benchmarks.matrix", "one", "--models", name]
        row = json.loads(subprocess.run(process, capture_output=True, text=True, check=True).stdout)
        sys.stderr.write(f"{row}\n")
        rows.append({column: str(row[column]) for column in COLUMNS})
        rows.sort(key=lambda each: list(CATALOG).index(each["model"]))
        with RESULTS.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _rows() -> list[dict[str, str]]:
    with RESULTS.open(newline="") as stream:
        return list(csv.DictReader(stream))


def page() -> str:
    """The text of docs/families.md."""
    lines = [
        "| Model | GFLOPs, level 5 | Parameters, level 5 | Largest error | Counted | Free | Equal | Time | Memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in _rows():
        equal = "yes" if row["zero_cut_equal"] == row["reload_equal"] == "True" else "**no**"
        lines.append(
            f"| {row['model']} | {float(row['gflops']):.2f} -> {float(row['gflops_5']):.2f} | "
            f"{int(row['params']):,} -> {int(row['params_5']):,} | {float(row['target_error_points']):.2f} points | "
            f"{float(row['counted_error_pct']):.4f}% | {row['free_pct']}% | {equal} | {float(row['seconds']):.1f} s | "
            f"{row['memory_mb']} MB |"
        )
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(TABLE_STARTS)
    return "\n".join([f"{before}{TABLE_STARTS}", "", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "one", "table"])
    parser.add_argument("--models", nargs="*", help="catalog names (default: all)")
    arguments = parser.parse_args()
    if arguments.what == "table":
        PAGE.write_text(page(), encoding="utf-8")
    elif arguments.what == "run":
        run(arguments.models or CATALOG)
    else:
        results = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        json.dump(examine(arguments.models[0]), results)
        results.close()


if __name__ == "__main__":
    main()
