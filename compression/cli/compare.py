"""The command that puts results side by side, with a verdict on each level."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from compression.cli.commands import Add
from compression.errors import SpecError

if TYPE_CHECKING:
    from cache.judged import Judged

SHOWN = ["model", "data", "level", "provenance", "imgsz", "head", "task", "gflops", "params", "map50", "map50_95"]


def add_compare_command(add: Add) -> None:
    """Add the command to the parser of all commands."""
    compare = add("compare", _compare, "Put all known results side by side: prune, or take the smaller sibling?")
    compare.add_argument("--model", help="only of this model")
    compare.add_argument("--data", help="only on this data set")
    compare.add_argument("--csv", type=Path, help="write them to this file")


def _compare(options: argparse.Namespace, results: TextIO) -> None:
    from cache.comparison import document, to_csv
    from cache.judged import checkpoints_of, judged
    from cache.store import own_store
    from compression.catalog import model_label

    store = own_store()
    model = model_label(options.model) if options.model else None
    table = store.table(model=model, data=options.data)
    if table.empty:
        raise SpecError(
            f"Nothing is known of {options.model or 'any model'} on {options.data or 'any data set'}; "
            f"`trimboard compare` without --model and --data lists all."
        )
    # Siblings are other models, so that all of them are looked at.
    records = store.heads(data=options.data)
    found = judged(records, store.latencies(checkpoints_of(records)), model)
    if options.csv:
        beside = {key: cells for one in found for key, cells in one.beside.items()}
        try:
            options.csv.write_bytes(to_csv(table, beside))
        except OSError as error:
            raise SpecError(f"{options.csv} cannot be written ({error.strerror}); name another file.") from error
        sys.stderr.write(f"{len(table)} results written to {options.csv}\n")
        return
    if options.json:
        json.dump(document(table, found), results, indent=1)
        results.write("\n")
        return
    results.write(f"{table[SHOWN].to_string(index=False, na_rep='-')}\n")
    _write_verdicts(found, results)


def _write_verdicts(found: Sequence[Judged], results: TextIO) -> None:
    for one in found:
        if one.verdicts:
            results.write(f"\n{one.model} on {one.data}, {one.conditions}\n")
        for verdict in one.verdicts:
            results.write(f"  {verdict.text}\n")
            if verdict.sureness:
                results.write(f"    {verdict.sureness}\n")
            if verdict.command:
                results.write(f"    To know it better: {verdict.command}\n")
