"""How much time a level saves beside how many GFLOPs, and how near a cut comes to a latency that is asked for.

    python -m benchmarks.latency yolo26s.yaml --imgsz 640 --backend onnx,openvino --align 8,16,32
    python -m benchmarks.latency yolo26s.yaml --imgsz 640 --backend openvino --align 16 --precision int8
    python -m benchmarks.latency yolo26s.yaml --imgsz 640 --backend onnx,openvino --keep-latency 0.7

Each prints a JSON list and nothing else. The first has one object for each backend and step that channels are removed
in: the latency ratio of level 5 to the original with its interval, the ratio of the deployed GFLOPs, and the first over
the second. `compression.pruning.alignment` holds what came out. The second is the same of level 5 in another precision,
against the original in full precision; an int8 file is calibrated on a few drawn images, as its values change no time.
The third has one object for each backend and latency: what was asked for, predicted, and measured when the cut was
chosen; and what is measured of that cut once more, in turn with the original, over what was asked for. Use a machine
that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from compression.cli.commands import backend_names, stdout_for_results
from compression.data.dataset import Dataset, open_dataset
from compression.data.shapes import draw_dataset
from compression.deployment.backends import Setting, why_not_here
from compression.deployment.latency import Timed, measure, opened
from compression.jobs.local import write_progress
from compression.levels import LEVELS
from compression.pruning.alignment import alignment_for
from compression.pruning.cut import prune
from compression.pruning.latency_target import latency_target
from compression.request import listed
from compression.spec import WITHOUT_IMAGES, BackendName, PrecisionName, Target

LEVEL = LEVELS[-1]
# Enough for the ranges that INT8 is scaled to.
CALIBRATION_IMAGES = {"train": 16, "val": 1}


def cut_in_steps(model: str, imgsz: int, align: int, folder: Path) -> tuple[Timed, float]:
    """The strongest level of a model, and what it keeps of the deployed GFLOPs."""
    file = folder / f"steps-of-{align}.pt"
    made = prune(model, out=file, level=LEVEL, imgsz=imgsz, method=replace(WITHOUT_IMAGES, align=align))
    before, after = made.plan.before.gflops_deployed, made.plan.after.gflops_deployed
    assert before
    assert after
    return opened(str(file)), after / before


def compared(
    model: str,
    backend: BackendName,
    cuts: dict[int, tuple[Timed, float]],
    imgsz: int,
    precision: PrecisionName,
    dataset: Dataset,
) -> list[Any]:
    """One object for each step of channels.

    Args:
        model: the original.
        backend: what runs it, the original in full precision on one thread.
        cuts: by step, see `cut_in_steps`.
        imgsz: side of the square input, pixels.
        precision: of the cuts.
        dataset: calibrates int8.
    """
    full = Setting(backend=backend, precision="fp32", imgsz=imgsz, batch=1, threads=1, head="e2e")
    records = measure(
        [cut for cut, _ in cuts.values()],
        opened(model),
        replace(full, precision=precision),
        of_reference=full,
        dataset=dataset,
        tell=write_progress,
    )
    return [
        {
            "backend": backend,
            "version": record.spec.backend_version,
            "machine": record.spec.machine,
            "precision": precision,
            "align": align,
            "median_ms": record.median_ms,
            "latency_ratio": record.ratio,
            "interval": [record.ratio_low, record.ratio_high],
            "gflops_ratio": kept,
            "quotient": record.ratio / kept if record.ratio else None,
        }
        for record, (align, (_, kept)) in zip(records, cuts.items(), strict=True)
    ]


def met(model: str, backend: BackendName, asked: float, imgsz: int, folder: Path) -> dict[str, Any]:
    """How near a cut comes to a latency, on one thread and in full precision.

    Args:
        model: the original.
        backend: what runs it.
        asked: part of the original's time to keep.
        imgsz: side of the square input, pixels.
        folder: where the cut may be written.
    """
    file = folder / f"{backend}-{asked:g}.pt"
    start = time.perf_counter()
    target = Target(gflops_kept=None, params_kept=None, latency=latency_target(asked, backend, 1))
    method = replace(WITHOUT_IMAGES, align=alignment_for(backend))
    plan = prune(model, out=file, target=target, imgsz=imgsz, method=method, tell=write_progress).plan
    took = time.perf_counter() - start
    start = time.perf_counter()
    prune(model, target=target, imgsz=imgsz, method=method, tell=write_progress)
    took_again = time.perf_counter() - start
    setting = Setting(backend=backend, precision="fp32", imgsz=imgsz, batch=1, threads=1, head="e2e")
    (record,) = measure([opened(str(file))], opened(model), setting, tell=write_progress)
    assert plan.time is not None
    assert record.ratio is not None
    assert plan.before.gflops_deployed
    assert plan.after.gflops_deployed
    return {
        "backend": backend,
        "version": record.spec.backend_version,
        "machine": record.spec.machine,
        "asked": asked,
        "predicted": plan.time.predicted_kept,
        "measured_for_the_choice": plan.time.measured_kept,
        "measured": record.ratio,
        "interval": [record.ratio_low, record.ratio_high],
        "median_ms": record.median_ms,
        "gflops_ratio": plan.after.gflops_deployed / plan.before.gflops_deployed,
        "quotient": record.ratio / asked,
        "seconds": took,
        "seconds_again": took_again,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--backend", default="onnx,openvino")
    parser.add_argument("--align", default="8,16,32")
    parser.add_argument("--keep-latency", default="", help="parts of the latency, as in 0.8,0.6; then nothing else")
    parser.add_argument("--precision", default="fp32", choices=get_args(PrecisionName))
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as name, stdout_for_results() as results:
        os.environ["TRIMBOARD_HOME"] = name
        asked = [float(part) for part in listed(arguments.keep_latency)]
        steps = [] if asked else [int(step) for step in listed(arguments.align)]
        dataset = open_dataset(str(draw_dataset(Path(name) / "drawn", CALIBRATION_IMAGES)))
        cuts = {step: cut_in_steps(arguments.model, arguments.imgsz, step, Path(name)) for step in steps}
        for backend in backend_names(arguments.backend):
            reason = why_not_here(backend)
            if reason:
                sys.stderr.write(f"{reason}\n")
                continue
            if asked:
                found += [met(arguments.model, backend, part, arguments.imgsz, Path(name)) for part in asked]
            else:
                found += compared(arguments.model, backend, cuts, arguments.imgsz, arguments.precision, dataset)
        json.dump(found, results, indent=1)
        results.write("\n")


if __name__ == "__main__":
    main()
