"""Records, plans and specs for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cache.record import Artifact, Costs, EpochRow, LayerRow, Metrics, PlanRecord, RunRecord
from compression.levels import target_of
from compression.spec import RunSpec, Target

LAYER = LayerRow(
    name="model.0.conv",
    type="Conv2d",
    channels_before=16,
    channels_after=12,
    gflops_before=0.2,
    gflops_after=0.15,
    params_before=432,
    params_after=324,
)
EPOCH = EpochRow(
    epoch=1,
    map50=0.5,
    map50_95=0.3,
    precision=0.6,
    recall=0.4,
    losses={"train/box_loss": 1.25},
    lr=0.001,
    seconds=2.5,
)


def make_spec(**changes: Any) -> RunSpec:
    fields: dict[str, Any] = {
        "model": "weights/my-yolo26n.pt",
        "weights_sha256": "a" * 64,
        "data": "shapes",
        "data_fingerprint": "b" * 64,
        "level": 5,
        "target": target_of(5),
        "head": "e2e",
        "epochs": 30,
        "patience": 10,
        "imgsz": 320,
        "batch": 8,
        "seed": 3,
        "device": "cpu",
    }
    return RunSpec(**(fields | changes))


def make_record(spec: RunSpec | None = None, **changes: Any) -> RunRecord:
    """A measured result: GFLOPs 2.0 -> 1.5, parameters 1,000,000 -> 760,000, mAP50-95 0.8 -> 0.004 -> 0.5 -> 0.6."""
    spec = spec or make_spec()
    record = RunRecord(
        key=spec.key,
        provenance="measured",
        model="my-yolo26n",
        architecture="yolo26n",
        data=spec.data,
        level=spec.level,
        head=spec.head,
        imgsz=spec.imgsz,
        costs_original=Costs(gflops=2.0, params=1_000_000, gflops_deployed=1.6, params_deployed=900_000),
        costs=Costs(gflops=1.5, params=760_000, gflops_deployed=1.2, params_deployed=720_000),
        metrics_original=Metrics(map50=0.9, map50_95=0.8, precision=0.75, recall=0.5, per_class={"disc": 0.8}),
        metrics=Metrics(map50=0.81, map50_95=0.6, precision=0.75, recall=0.55, per_class={"disc": 0.6}),
        metrics_pruned=Metrics(map50=0.0123456, map50_95=0.004, precision=0.1, recall=0.2),
        metrics_recovered=Metrics(map50=0.75, map50_95=0.5, precision=0.7, recall=0.5),
        metrics_test=Metrics(map50=0.8, map50_95=0.59, precision=0.7, recall=0.5),
        created="2026-05-22T10:00:00+00:00",
        spec=spec,
        layers=(LAYER,),
        curve=(EPOCH, replace(EPOCH, epoch=2)),
        environment={"processor": "2 cores", "torch": "2.15.0", "commit": "abc123"},
        artifacts=(Artifact(name="checkpoint", file="compressed.pt", sha256="c" * 64, size_bytes=7),),
        seconds={"pruning": 1.25, "fine-tuning": 5.0},
        warnings=("The data set is small.",),
    )
    return replace(record, **changes)


def make_plan(**changes: Any) -> PlanRecord:
    plan = PlanRecord(
        model="yolo26n",
        imgsz=320,
        nc=10,
        level=None,
        target=Target(gflops_kept=0.7, params_kept=None),
        before=Costs(gflops=2.0, params=1_000_000, gflops_deployed=1.6, params_deployed=900_000),
        after=Costs(gflops=1.4, params=800_000, gflops_deployed=1.1, params_deployed=720_000),
        layers=(LAYER, replace(LAYER, name="model.1.conv")),
        seconds=0.25,
        warnings=("Eights are coarse here.",),
    )
    return replace(plan, **changes)
