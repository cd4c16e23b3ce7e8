"""The command that writes a report: one HTML file on the levels of a model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TextIO

from compression.cli.commands import Add
from compression.errors import DatasetError, SpecError


def add_report_command(add: Add) -> None:
    """Add the command to the parser of all commands."""
    report = add("report", _report, "Write one HTML file on a model's levels, which opens offline.")
    report.add_argument("model", metavar="MODEL", help="label as `trimboard compare` lists it, or a file")
    report.add_argument("--data", required=True, help="name of the data set, or the path of its data.yaml")
    report.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: trimboard-MODEL-DATA.html)")
    report.add_argument("--conditions", help="how the levels were cut and trained, as the dashboard names it")
    report.add_argument("--seed", type=int, help="of the results that give plots and layers (default: most levels)")
    report.add_argument(
        "--without-places", action="store_true", help="leave out where model and data set lie on this machine"
    )


def _report(options: argparse.Namespace, results: TextIO) -> None:
    from datetime import datetime

    from cache.judged import checkpoints_of
    from cache.store import own_store
    from compression.catalog import model_label
    from pages.report.findings import findings_of
    from pages.report.page import file_stem, report_html

    store, model, data = own_store(), model_label(options.model), _data_label(options.data)
    records = store.records(data=data)
    if options.without_places:
        records = [record.without_places() for record in records]
    latencies = store.latencies(checkpoints_of(records))
    findings = findings_of(
        records,
        latencies,
        model=model,
        data=data,
        conditions=options.conditions,
        seed=options.seed,
        find_sensitivities=store.sensitivities,
    )
    out: Path = options.out or Path(f"{file_stem(model, data)}.html")
    written = report_html(findings, made=datetime.now().astimezone())
    try:
        out.write_bytes(written)
    except OSError as error:
        raise SpecError(f"{out} cannot be written ({error.strerror}); name another file by --out.") from error
    if options.json:
        keys = [record.key for record in findings.records]
        json.dump({"out": str(out), "bytes": len(written), "results": keys}, results, indent=1)
        results.write("\n")
        return
    results.write(f"{out}\n")
    sys.stderr.write(f"{len(findings.records)} results, {len(written) / 1e6:.1f} MB; any browser opens it offline.\n")


def _data_label(data: str) -> str:
    """The label of a data set that lies here, or that only results know by name."""
    from compression.data.dataset import data_label

    try:
        return data_label(data)
    except DatasetError:
        return data
