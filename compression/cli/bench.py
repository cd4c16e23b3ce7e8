"""The command that times checkpoints."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from typing import TYPE_CHECKING, Any, TextIO, get_args

from compression.cli.commands import Add, backend_names
from compression.deployment.export_formats import parse_precisions
from compression.deployment.lost_time import REST, lost_time
from compression.errors import SpecError
from compression.image_size import image_size, in_pixels
from compression.jobs.local import write_progress
from compression.models.tasks import head_in_words
from compression.spec import DEFAULT_IMGSZ, BackendName, HeadName

if TYPE_CHECKING:
    from cache.latency import LatencyRecord
    from cache.layer_times import LayerTimesRecord
    from compression.deployment.latency import Timed


DEFAULT_BACKENDS = "torch,onnx,openvino"


def add_bench_command(add: Add) -> None:
    """Add the command to the parser of all commands."""
    bench = add("bench", _bench, "Time a forward pass, in turn with the original, on what runs it in the end.")
    bench.add_argument(
        "models", metavar="MODEL", nargs="+", help="path of a .pt, the beginning of a result's key, or a .yaml"
    )
    bench.add_argument("--against", metavar="MODEL", help="what ratios are against (default: the result's level 0)")
    names = ", ".join(get_args(BackendName))
    bench.add_argument("--backend", default=DEFAULT_BACKENDS, help=f"some of {names} (default: %(default)s)")
    bench.add_argument(
        "--imgsz", type=image_size, help=f"pixels, or H,W (default: the checkpoint's run, else {DEFAULT_IMGSZ})"
    )
    bench.add_argument("--batch", type=int, default=1, help="images a pass (default: %(default)s)")
    bench.add_argument("--threads", type=int, default=1, help="of the processor (default: %(default)s)")
    bench.add_argument("--precision", default="fp32", help="some of fp32, fp16, int8 (default: %(default)s)")
    bench.add_argument("--head", choices=["e2e", "nms"], help="whose predictions (default: e2e where there is one)")
    bench.add_argument("--data", help="data set whose training images calibrate int8")
    bench.add_argument("--layers", action="store_true", help="time each layer too, and show where speed-up is lost")
    bench.add_argument("--again", action="store_true", help="measure also what was measured here before")


def _bench(options: argparse.Namespace, results: TextIO) -> None:
    backends, precisions = backend_names(options.backend), parse_precisions(options.precision)
    from compression.data.dataset import open_dataset
    from compression.deployment.backends import BACKENDS, Setting, why_not_here
    from compression.deployment.latency import INCLUDED, measure, opened, reference_of
    from compression.deployment.layer_times import measure_layers

    subjects = [opened(text) for text in options.models]
    reference = opened(options.against) if options.against else reference_of(subjects)
    head: HeadName = options.head or ("e2e" if all(each.has_e2e_head for each in subjects) else "nms")
    imgsz = options.imgsz or next((each.imgsz for each in subjects if each.imgsz), DEFAULT_IMGSZ)
    dataset = open_dataset(options.data, subjects[0].task) if options.data else None
    records: list[LatencyRecord] = []
    layers: list[LayerTimesRecord] = []
    reasons: dict[str, None] = {}
    for backend, precision in product(backends, precisions):
        if precision not in BACKENDS[backend].precisions and len(backends) * len(precisions) > 1:
            reasons[f"Backend {backend} does not compute in {precision}, which is left out."] = None
            continue
        setting = Setting(
            backend=backend,
            precision=precision,
            imgsz=imgsz,
            batch=options.batch,
            threads=options.threads,
            head=head,
        )
        reason = why_not_here(backend)
        if reason:
            reasons[reason] = None
            continue
        records += measure(subjects, reference, setting, dataset=dataset, again=options.again, tell=write_progress)
        if options.layers:
            how: dict[str, Any] = {"dataset": dataset, "again": options.again, "tell": write_progress}
            layers += [measure_layers(subject, reference, setting, **how) for subject in subjects]
    for reason in reasons:
        sys.stderr.write(f"{reason}\n")
    if not records:
        raise SpecError("None of the backends can run on this machine.")
    if options.json:
        found: Any = [record.to_dict() for record in records]
        if options.layers:
            found = {"latencies": found, "layers": [record.to_dict() for record in layers]}
        json.dump(found, results, indent=1)
        results.write("\n")
        return
    _write(records, reference, results, INCLUDED)
    for record in layers:
        _write_layers(record, results)


def _write(records: list[LatencyRecord], reference: Timed | None, results: TextIO, included: str) -> None:
    import pandas as pd

    results.write(f"{pd.DataFrame([_row(record) for record in records]).to_string(index=False, na_rep='-')}\n")
    spec = records[0].spec
    head = head_in_words(reference.task, spec.head) if reference else f"{spec.head} head"
    against = f"; ratio, with its 95% interval, against {reference.model}" if reference else ""
    threads = f"{spec.threads} thread{'s' * (spec.threads != 1)}, " if spec.threads else ""
    results.write(
        f"{in_pixels(spec.imgsz)} pixels, batch {spec.batch}, {threads}{head}, {spec.machine}{against}; {included}.\n"
    )


def _write_layers(record: LayerTimesRecord, results: TextIO) -> None:
    """The layers of one checkpoint: beside the original's, those that lose most first; alone, the slowest first."""
    import pandas as pd

    spec = record.spec
    if len(record.forms) > 1:
        rows = [
            {
                "layer": row.name,
                "ms_before": f"{row.ms_before:.2f}",
                "ms_after": f"{row.ms_after:.2f}",
                "time_kept": f"{row.time_kept:.0%}",
                "gflops_kept": f"{row.gflops_kept:.0%}",
                "lost_ms": f"{row.lost_ms:+.2f}",
            }
            for row in lost_time(record)
        ]
        told = "lost_ms: what a layer takes longer than if its time had shrunk like its GFLOPs"
    else:
        (form,) = record.forms
        slowest = sorted(form.layers, key=lambda layer: -layer.ms)
        rows = [{"layer": layer.name, "ms": f"{layer.ms:.2f}"} for layer in slowest]
        rows.append({"layer": REST, "ms": f"{form.rest_ms:.2f}"})
        told = "each layer with its activation and what brings its input in place"
    results.write(
        f"\nLayers of {record.model}, {spec.backend} {spec.backend_version}\n"
        f"{pd.DataFrame(rows).to_string(index=False)}\n{told}.\n"
    )


def _row(record: LatencyRecord) -> dict[str, Any]:
    interval = f" ({record.ratio_low:.3f} to {record.ratio_high:.3f})" if record.ratio else ""
    return {
        "model": record.model,
        "level": "-" if record.level is None else record.level,
        "backend": f"{record.spec.backend} {record.spec.backend_version}",
        "precision": record.spec.precision,
        "median_ms": f"{record.median_ms:.2f}",
        "p95_ms": f"{record.p95_ms:.2f}",
        "ratio": f"{record.ratio:.3f}{interval}" if record.ratio else "-",
        "memory_mb": f"{record.peak_memory_mb:.0f}",
        "file_mb": f"{record.size_mb:.1f}",
    }
