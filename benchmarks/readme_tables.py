"""Print the README's tables of the results that the repository ships, as Markdown.

python benchmarks/readme_tables.py
"""

from __future__ import annotations

from cache.comparison import change_pct
from cache.record import RunRecord
from cache.shipped import SHIPPED, load_shipped

TITLES = {
    "shapes-defaults": "yolo26n on `shapes` (drawn on first use: 10 classes, 500 + 150 images), 320 pixels, 10 epochs",
    "shapes": "The same by the method of before",
    "bccd": "yolo26n on BCCD (microscope images of blood cells: 3 classes, 205 + 87 images), likewise, 30 epochs",
}


def main() -> None:
    for data, title in TITLES.items():
        print(f"{title}:\n")
        print("| Level | GFLOPs | Parameters | mAP50-95 | Change | mAP50 | Precision | Recall | Before training |")
        print("|---|---|---|---|---|---|---|---|---|")
        # The study of the same data set lies in a folder of its own.
        levels = [item.record for item in load_shipped(SHIPPED / data).by_key.values()]
        for record in sorted(levels, key=lambda record: record.level or 0):
            print(_row(record))
        print()


def _row(record: RunRecord) -> str:
    costs, metrics = record.costs, record.metrics
    change = change_pct(record.metrics_original.map50_95, metrics.map50_95)
    untrained = record.metrics_recovered or record.metrics_pruned
    cells = [
        str(record.level),
        f"{costs.gflops:.3f}",
        f"{costs.params:,}",
        f"{metrics.map50_95:.3f}",
        f"{round(change, 1) + 0.0:+.1f}%" if record.level and change is not None else "",
        f"{metrics.map50:.3f}",
        f"{metrics.precision:.3f}",
        f"{metrics.recall:.3f}",
        f"{untrained.map50_95:.3f}" if untrained else "",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
