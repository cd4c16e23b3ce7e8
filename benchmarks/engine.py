"""The engine's figures, as JSON on stdout.

python benchmarks/engine.py targets       # every level of YOLO26, 11 and v8: claimed against asked and counted costs
python benchmarks/engine.py planning      # time and memory of planning all five levels, each model in its own process
python benchmarks/engine.py throughput    # fine-tuning against Ultralytics' own training of the same pruned module
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import DetectionModel

from cache.store import Store
from compression.catalog import CATALOG
from compression.data.shapes import draw_dataset
from compression.environment import describe_environment
from compression.graph.blocks import training_only
from compression.graph.cost_sheet import GIGA
from compression.levels import LEVELS, target_of
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, read_checkpoint
from compression.pipeline import StoreTeller
from compression.pruning.planner import Planner
from compression.pruning.surgery import apply_plan
from compression.spec import DEFAULT_IMGSZ, RunSpec
from compression.telling import silent
from compression.training.finetune import add_teller
from compression.training.trainer import FineTuneTrainer

KIB = 1024
# What is quoted of all levels; benchmarks/matrix.py goes through the others.
FIRST_FAMILIES = ("yolo26", "yolo11", "yolov8")
PLANNED_MODELS = ("yolo26n", "yolo26s", "yolo26m", "yolo26l", "yolo26x")


def counted_gflops(model: DetectionModel, *, deployed: bool) -> float:
    """Count a forward pass at 640 pixels; that of the training graph on the meta device, which computes nothing.

    Operations for the loss alone are left out, as in Ultralytics' summary.
    """
    counted = copy.deepcopy(model)
    device = "cpu" if deployed else "meta"
    if deployed:
        head = counted.model[-1]
        if getattr(head, "one2one_cv2", None) is not None:
            head.end2end = True
        counted = counted.eval().fuse(verbose=False)
    else:
        counted = counted.train().to("meta")
    image = torch.zeros(1, 3, DEFAULT_IMGSZ, DEFAULT_IMGSZ, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        counted(image)
    by_module = counter.get_flop_counts()
    for_loss = sum(
        sum(by_module[f"{type(counted).__name__}.{name}"].values())
        for name, module in counted.named_modules()
        if not deployed and isinstance(module, nn.Conv2d) and f"{name}.".startswith(training_only(counted))
    )
    return (counter.get_total_flops() - for_loss) / GIGA


def targets(models: list[str]) -> dict[str, Any]:
    """What each level reaches, in percentage points from what was asked, and how far claims lie from counts."""
    rows = []
    for name in models:
        module = open_detector(f"{name}.yaml").module
        planner = Planner(module, DEFAULT_IMGSZ)
        for level in LEVELS:
            plan = planner.plan(target_of(level))
            pruned = apply_plan(module, planner.trace, plan)
            before, after = plan.before, plan.after
            assert plan.target.gflops_kept is not None
            assert plan.target.params_kept is not None
            counted = counted_gflops(pruned, deployed=False)
            rows.append(
                {
                    "model": name,
                    "level": level,
                    "gflops": [round(before.gflops or 0, 3), round(after.gflops or 0, 3)],
                    "params": [before.params, after.params],
                    "gflops_error_points": round(100 * (counted / (before.gflops or 1) - plan.target.gflops_kept), 3),
                    "params_error_points": round(
                        100 * ((after.params or 0) / (before.params or 1) - plan.target.params_kept), 3
                    ),
                    "gflops_claimed_minus_counted_pct": round(100 * ((after.gflops or 0) / counted - 1), 4),
                    "gflops_deployed_claimed_minus_counted_pct": round(
                        100 * ((after.gflops_deployed or 0) / counted_gflops(pruned, deployed=True) - 1), 4
                    ),
                    "params_claimed_minus_counted": (after.params or 0) - sum(p.numel() for p in pruned.parameters()),
                }
            )
            sys.stderr.write(f"{rows[-1]}\n")
    errors = [abs(row[key]) for row in rows for key in ("gflops_error_points", "params_error_points")]
    return {"largest_error_points": max(errors), "rows": rows}


def planning(models: list[str]) -> dict[str, Any]:
    """Seconds and peak memory of planning levels 1 to 5, in a fresh process for each model."""
    rows = []
    for name in models:
        done = subprocess.run(
            [sys.executable, __file__, "plan-once", "--models", name], capture_output=True, text=True, check=True
        )
        rows.append(json.loads(done.stdout))
    return {"rows": rows}


def plan_once(name: str) -> dict[str, Any]:
    """Open one model and plan its five levels."""
    start = time.perf_counter()
    module = open_detector(f"{name}.yaml").module
    built = time.perf_counter()
    planner = Planner(module, DEFAULT_IMGSZ)
    for level in LEVELS:
        planner.plan(target_of(level))
    planned = time.perf_counter()
    return {
        "model": name,
        "seconds_to_build_model": round(built - start, 3),
        "seconds_to_plan_five_levels": round(planned - built, 3),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // KIB,
    }


def throughput(rounds: int) -> dict[str, Any]:
    """Epoch times of our trainer, telling its progress to a store, and of Ultralytics' own, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRIMBOARD_HOME"] = folder
        data = draw_dataset(Path(folder) / "throughput", {"train": 96, "val": 16})
        detector = open_detector("yolo26n.yaml", nc=10)
        planner = Planner(detector.module, 320)
        start = Path(folder) / "start.pt"
        write_checkpoint(apply_plan(detector.module, planner.trace, planner.plan(target_of(5))), start, {})
        spec = RunSpec(
            model="yolo26n.yaml",
            weights_sha256=None,
            data="throughput",
            data_fingerprint="",
            level=5,
            target=target_of(5),
            head="e2e",
        )
        Store().queue.begin(spec, lanes="cpu", pid=os.getpid(), log_file="")
        seconds: dict[str, list[float]] = {"trimboard": [], "ultralytics": []}
        for number in range(rounds):
            for name in sorted(seconds, reverse=bool(number % 2)):
                overrides = {
                    "model": str(start),
                    "data": str(data),
                    "epochs": 2,
                    "imgsz": 320,
                    "nms": False,
                    "plots": False,
                    "project": folder,
                    "name": f"{name}{number}",
                    "device": "cpu",
                }
                if name == "trimboard":
                    trainer = FineTuneTrainer(overrides=overrides)
                    add_teller(trainer, StoreTeller(key=spec.key, further=silent), "fine-tuning")
                else:
                    trainer = DetectionTrainer(overrides=overrides)
                    trainer.model = read_checkpoint(start)[0].requires_grad_(True)
                ends: list[float] = []
                trainer.add_callback("on_train_start", lambda _, ends=ends: ends.append(time.perf_counter()))
                trainer.add_callback("on_train_epoch_end", lambda _, ends=ends: ends.append(time.perf_counter()))
                trainer.add_callback("on_train_epoch_start", lambda _, ends=ends: ends.append(time.perf_counter()))
                trainer.train()
                # on_train_start, then start and end of each epoch: the training part of an epoch, without validation.
                seconds[name] += [ends[2] - ends[1], ends[4] - ends[3]]
    ours, stock = (statistics.median(seconds[name]) for name in ("trimboard", "ultralytics"))
    return {"throughput_ratio": round(stock / ours, 4), "seconds_an_epoch": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["targets", "planning", "plan-once", "throughput"])
    parser.add_argument("--models", nargs="*", help="catalog names")
    parser.add_argument("--rounds", type=int, default=5, help="of the throughput")
    arguments = parser.parse_args()
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if arguments.what == "targets":
        found = targets(arguments.models or [name for name, family in CATALOG.items() if family in FIRST_FAMILIES])
    elif arguments.what == "planning":
        found = planning(arguments.models or list(PLANNED_MODELS))
    elif arguments.what == "plan-once":
        found = plan_once(arguments.models[0])
    else:
        found = throughput(arguments.rounds)
    if arguments.what != "plan-once":
        found = {"machine": describe_environment("cpu"), **found}
    json.dump(found, results, indent=1)
    results.write("\n")
    results.close()


if __name__ == "__main__":
    main()
