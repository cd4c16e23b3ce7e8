"""The command that checks what a user brings and keeps it for the dashboard."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TextIO

from compression.cli.commands import Add
from compression.errors import DatasetError


def add_brought_commands(add: Add) -> None:
    """Add the command to the parser of all commands."""
    parser = add("add", _add, "Check a model or data set of yours, and offer it in the dashboard.")
    parser.add_argument("file", metavar="FILE", help="a .pt, a .zip with a YOLO data set, or a data.yaml or its folder")
    parser.add_argument("--name", default="", help="that its results are listed under (default: that of the file)")


def _add(options: argparse.Namespace, results: TextIO) -> None:
    from compression.brought import add

    try:
        one = add(options.file, name=options.name)
    except DatasetError as error:
        # The last one is written where all refusals are.
        for fault in error.faults[:-1]:
            sys.stderr.write(f"trimboard: {fault}\n")
        raise DatasetError(error.faults[-1]) from error
    if options.json:
        json.dump(asdict(one), results, indent=1)
        results.write("\n")
        return
    facts = f"{one.n_train} training and {one.n_val} validation images" if one.kind == "data" else one.architecture
    # Pages know it again by the last line.
    results.write(f"{one.name}: {facts}, {len(one.classes)} classes\n{one.path}\n")
