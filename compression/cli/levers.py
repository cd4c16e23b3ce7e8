"""The command that measures levels, precisions, image sizes and siblings side by side."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO, get_args

from compression.cli.commands import Add, backend_names, whole_numbers
from compression.deployment.export_formats import parse_precisions
from compression.deployment.pareto import pareto_front
from compression.errors import ModelError
from compression.jobs.local import write_progress
from compression.levels import target_of
from compression.models.tasks import TASKS, head_in_words
from compression.spec import BackendName

if TYPE_CHECKING:
    from compression.deployment.levers import Levers, Measured


def add_levers_command(add: Add) -> None:
    """Add the command to the parser of all commands."""
    levers = add(
        "levers",
        _levers,
        "Measure accuracy and time of levels, precisions, image sizes and siblings, on the files that are deployed.",
    )
    levers.add_argument(
        "models",
        metavar="MODEL|CKPT|KEY",
        nargs="+",
        help="a measured model or its original, for all its levels; or a result by its .pt or the beginning of its key",
    )
    levers.add_argument("--data", required=True, help="shapes, a known data set, or the path of a data.yaml")
    levers.add_argument("--levels", help="as in 0,3,5 or 1-5 (default: what the models stand for)")
    names = ", ".join(get_args(BackendName))
    levers.add_argument("--backend", default="onnx,openvino", help=f"some of {names} (default: %(default)s)")
    levers.add_argument("--precision", default="fp32,int8", help="some of fp32, fp16, int8 (default: %(default)s)")
    levers.add_argument(
        "--imgsz",
        default="1,0.75",
        help="parts of the training size, rounded to the stride, or pixels (default: %(default)s)",
    )
    levers.add_argument("--siblings", action="store_true", help="also the measured originals of the same family")
    levers.add_argument("--threads", type=int, default=1, help="of the processor (default: %(default)s)")
    levers.add_argument("--head", choices=["e2e", "nms"], help="whose predictions (default: as level 0 was measured)")
    levers.add_argument("--again", action="store_true", help="measure also what was measured here before")


def _levers(options: argparse.Namespace, results: TextIO) -> None:
    backends, precisions = backend_names(options.backend), parse_precisions(options.precision)
    levels = whole_numbers("levels", options.levels) if options.levels else None
    for level in levels or ():
        target_of(level)
    from compression.data.dataset import open_dataset
    from compression.deployment.levers import find_levers, measure_levers, sizes_of, task_of_model

    dataset = open_dataset(options.data, task_of_model(options.models[0]))
    levers = find_levers(options.models, dataset, levels=levels, siblings=options.siblings)
    done, left_out = measure_levers(
        levers,
        dataset,
        backends=backends,
        precisions=precisions,
        sizes=sizes_of(options.imgsz, levers.imgsz, levers.reference.stride),
        threads=options.threads,
        head=options.head,
        again=options.again,
        tell=write_progress,
    )
    if not done:
        raise ModelError(" ".join(left_out))
    for sentence in left_out:
        sys.stderr.write(f"trimboard: {sentence}\n")
    if options.json:
        json.dump({"measured": [one.to_dict() for one in done], "left_out": left_out}, results, indent=1)
        results.write("\n")
        return
    for backend in dict.fromkeys(one.latency.spec.backend for one in done):
        _write([one for one in done if one.latency.spec.backend == backend], levers, results)


def _write(done: Sequence[Measured], levers: Levers, results: TextIO) -> None:
    import pandas as pd

    # By the ratio: what else the machine did while one was timed befell level 0 as well.
    front = pareto_front([(one.latency.ratio or 0.0, one.accuracy.metrics.map50_95 or 0.0) for one in done])
    rows = [_row(one, place in front) for place, one in enumerate(done)]
    results.write(f"{pd.DataFrame(rows).to_string(index=False, na_rep='-')}\n")
    spec, accuracy = done[0].latency.spec, done[0].accuracy
    threads = f"{spec.threads} thread{'s' * (spec.threads != 1)}, " if spec.threads else ""
    second = TASKS[accuracy.task].second
    told = "" if accuracy.task == "detect" else f", which stands as map50_95; {second} stands as map50"
    results.write(
        f"{spec.backend} {spec.backend_version}, {threads}batch 1, {head_in_words(accuracy.task, spec.head)}, "
        f"{spec.machine}. Accuracy on "
        f"{accuracy.n_images} validation images of {accuracy.data}, of what is deployed. Ratio, with its 95% interval, "
        f"against {levers.reference.model} in fp32 at {levers.imgsz} pixels. * stands on the Pareto front of ratio and "
        f"{TASKS[accuracy.task].main}{told}.\n\n"
    )


def _row(one: Measured, on_front: bool) -> dict[str, Any]:
    accuracy, latency = one.accuracy, one.latency
    return {
        "": "*" if on_front else "",
        "model": latency.model,
        "level": "-" if latency.level is None else latency.level,
        "precision": latency.spec.precision,
        "imgsz": latency.spec.imgsz,
        "map50_95": f"{accuracy.metrics.map50_95:.3f}",
        "map50": f"{accuracy.metrics.map50:.3f}",
        "median_ms": f"{latency.median_ms:.2f}",
        "ratio": f"{latency.ratio:.3f} ({latency.ratio_low:.3f} to {latency.ratio_high:.3f})",
        "memory_mb": f"{latency.peak_memory_mb:.0f}",
        "file_mb": f"{latency.size_mb:.1f}",
    }
