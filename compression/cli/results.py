"""The commands that hand results from one store to another."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cache.record import SHORT_KEY
from compression.cli.commands import Add

if TYPE_CHECKING:
    from cache.exchange import Exchanged


def add_results_commands(add: Add) -> None:
    """Add the commands to the parser of all commands."""
    exported = add("export-results", _export, "Write results of your own into one file, for another machine or person.")
    exported.add_argument("file", type=Path, metavar="FILE", help="the zip file to write")
    exported.add_argument("--model", help="only of this model")
    exported.add_argument("--data", help="only on this data set")
    exported.add_argument("--checkpoints", action="store_true", help="put the checkpoints in too")

    imported = add("import-results", _import, "Take the results of a file that export-results wrote.")
    imported.add_argument("file", type=Path, metavar="FILE", help="the zip file to read")
    imported.add_argument("--replace", action="store_true", help="where both differ, take the file's result")


def _export(options: argparse.Namespace, results: TextIO) -> None:
    from cache.exchange import export_results
    from cache.store import own_store
    from compression.catalog import model_label

    model = model_label(options.model) if options.model else None
    done = export_results(own_store(), options.file, model=model, data=options.data, checkpoints=options.checkpoints)
    _write(done, options.json, results)
    sys.stderr.write(f"{len(done)} results written to {options.file}\n")
    missing = sum(each.n_files < len(each.record.artifacts) for each in done)
    if options.checkpoints and missing:
        sys.stderr.write(f"{missing} of them went without their checkpoint, which is neither here nor shared.\n")


def _import(options: argparse.Namespace, results: TextIO) -> None:
    from cache.exchange import import_results
    from cache.store import own_store

    done = import_results(own_store(), options.file, replace=options.replace)
    _write(done, options.json, results)
    count = Counter(each.state for each in done)
    sys.stderr.write(f"{', '.join(f'{number} {state}' for state, number in count.items())}\n")
    if count["conflict"]:
        sys.stderr.write(
            "Where the file has another result of the same key, yours was kept; --replace takes the file's.\n"
        )


def _write(done: Sequence[Exchanged], as_json: bool, results: TextIO) -> None:
    rows = [
        {
            "key": each.record.key if as_json else each.record.key[:SHORT_KEY],
            "model": each.record.model,
            "data": each.record.data,
            "level": "custom" if each.record.level is None else each.record.level,
            "state": each.state,
            "files": each.n_files,
        }
        for each in done
    ]
    if as_json:
        json.dump(rows, results, indent=1)
        results.write("\n")
        return
    import pandas as pd

    results.write(f"{pd.DataFrame(rows).to_string(index=False)}\n")
