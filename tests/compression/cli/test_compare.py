"""Results side by side on the command line, with a verdict on each level."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from cache.store import own_store
from compression.cli.compare import add_compare_command
from tests import factories
from tests.commands import run_command

SMALL = factories.original("yolo26n", 1.0, 0.66, data="cells")
LARGE = factories.original("yolo26s", 4.0, 0.72, data="cells")
LEVEL = factories.cut_of(LARGE, 3)


def _save() -> None:
    for record in (SMALL, LARGE, LEVEL):
        own_store().save(record)
    assert LEVEL.checkpoint_sha256
    assert LARGE.spec
    own_store().save_latency(factories.timed(LEVEL.checkpoint_sha256, LARGE.spec.weights_sha256, 0.9))


def test_a_verdict_stands_below_the_table() -> None:
    _save()
    written = run_command(add_compare_command, "compare", "--model", "yolo26s", "--data", "cells")
    table, _, verdicts = written.partition("\n\n")
    assert len(table.splitlines()) == 3
    assert verdicts.splitlines()[0] == "yolo26s on cells, default method"
    # The sibling is another model, and is looked at all the same.
    assert verdicts.splitlines()[1].startswith(
        "  Rather take yolo26n or keep yolo26s, as far as one seed tells: level 3"
    )
    assert verdicts.splitlines()[3].startswith("    To know it better: trimboard run yolo26s.pt --data=cells --level=3")


def test_json_holds_rows_and_verdicts_and_nothing_else() -> None:
    _save()
    found = json.loads(run_command(add_compare_command, "compare", "--data", "cells", "--json"))
    assert [row["level"] for row in found["results"]] == [0, 0, 3]
    (verdict,) = found["verdicts"]
    assert (verdict["model"], verdict["conditions"], verdict["keys"]) == ("yolo26s", "default method", [LEVEL.key])
    assert (verdict["verdict"], verdict["siblings_difference_points"]) == ("sibling", -2.54)
    assert found["results"][2]["siblings_map50_95"] == verdict["siblings_map50_95"] == 0.70944


def test_the_csv_has_verdicts_and_times_behind_the_other_columns(tmp_path: Path) -> None:
    _save()
    file = tmp_path / "comparison.csv"
    run_command(add_compare_command, "compare", "--data", "cells", "--csv", str(file))
    with file.open(newline="") as stream:
        original, _, level = csv.DictReader(stream)
    assert list(level)[-12:-6] == [
        "verdict",
        "verdict_at",
        "siblings_map50_95",
        "siblings_difference_points",
        "siblings_difference_low_points",
        "siblings_difference_high_points",
    ]
    assert (level["verdict"], level["verdict_at"], level["siblings_map50_95"]) == (
        "sibling",
        "deployed GFLOPs",
        "0.70944",
    )
    assert (level["latency_on"], level["latency_ms"]) == ("onnx 1.2, fp32, 1 thread, a processor", "18.0")
    assert (level["latency_ratio"], level["latency_ratio_low"], level["latency_ratio_high"]) == ("0.9", "0.89", "0.91")
    assert (original["verdict"], original["latency_ms"]) == ("", "")
