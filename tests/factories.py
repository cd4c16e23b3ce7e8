"""Made-up records for tests. The figures are invented; only their shape is real."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from cache.accuracy import AccuracyRecord, AccuracySpec
from cache.latency import LatencyRecord, LatencySpec
from cache.layer_times import LayerTime, LayerTimesRecord, LayerTimesSpec, TimedForm
from cache.record import Artifact, Costs, LayerRow, Metrics, PlanRecord, RunRecord
from cache.sensitivity import GroupSensitivity, SensitivityRecord, SensitivitySpec
from compression.levels import target_of
from compression.spec import RunSpec

GFLOPS = 1.52
PARAMS = 2_572_280
BLOCKS = 24


def costs(level: int, scale: float = 1.0) -> Costs:
    """Costs that fall by the level's target."""
    target = target_of(level)
    assert target.gflops_kept is not None
    assert target.params_kept is not None
    return Costs(
        gflops=round(GFLOPS * scale * target.gflops_kept, 4),
        params=round(PARAMS * scale * target.params_kept),
        gflops_deployed=round(0.89 * GFLOPS * scale * target.gflops_kept, 4),
        params_deployed=round(0.93 * PARAMS * scale * target.params_kept),
    )


def metrics(level: int, best: float = 0.72) -> Metrics:
    """Accuracy that falls with the square of the level."""
    map50_95 = round(best - 0.004 * level**2, 5)
    return Metrics(
        map50=round(map50_95 + 0.17, 5),
        map50_95=map50_95,
        precision=round(map50_95 + 0.15, 5),
        recall=round(map50_95 + 0.08, 5),
        per_class={"disc": map50_95, "ring": map50_95},
    )


def layers(level: int) -> tuple[LayerRow, ...]:
    """Three layers a block; the middle one of each is cut, later blocks deeper; one block keeps everything."""
    rows = []
    for block in range(BLOCKS):
        for part in ("cv1", "m.0.cv1", "cv2"):
            width = 16 * (1 + block % 8)
            cut = int(width * 0.09 * level * (0.3 + block / BLOCKS)) if part != "cv2" and block != 10 else 0
            kept = (width - cut) / width
            rows.append(
                LayerRow(
                    name=f"model.{block}.{part}.conv",
                    type="Conv2d",
                    channels_before=width,
                    channels_after=width - cut,
                    gflops_before=0.02,
                    gflops_after=round(0.02 * kept, 5),
                    params_before=width * 90,
                    params_after=round(width * 90 * kept),
                )
            )
    return tuple(rows)


def spec(level: int | None = 3, **changes: Any) -> RunSpec:
    """A spec on the built-in data set."""
    values: dict[str, Any] = {
        "model": "yolo26n.pt",
        "weights_sha256": "ab" * 32,
        "data": "shapes",
        "data_fingerprint": "cd" * 32,
        "level": level,
        "target": target_of(0 if level is None else level),
        "head": "e2e",
        "epochs": 20,
        "imgsz": 320,
        **changes,
    }
    return RunSpec(**values)


def record(level: int = 3, *, scale: float = 1.0, best: float = 0.72, **changes: Any) -> RunRecord:
    """A measured record; `changes` are fields of the record, `spec` among them."""
    own = changes.pop("spec", None) or spec(level)
    values: dict[str, Any] = {
        "key": own.key,
        "provenance": "measured",
        "model": "yolo26n",
        "architecture": "yolo26n",
        "data": own.data,
        "level": own.level,
        "head": own.head,
        "imgsz": own.imgsz,
        "costs_original": costs(0, scale),
        "costs": costs(level, scale),
        "metrics_original": metrics(0, best),
        "metrics": metrics(level, best),
        "created": f"2026-05-2{level}T10:00:00+00:00",
        "spec": own,
        "layers": layers(level),
        "environment": {"processor": "a processor, 2 cores", "gpu": "none", "commit": "0123456"},
        **changes,
    }
    return RunRecord(**values)


def series(levels: tuple[int, ...] = (0, 1, 2, 3, 4, 5), **changes: Any) -> list[RunRecord]:
    """Measured records of several levels that differ in nothing else; `changes` are fields of the spec."""
    return [record(level, spec=spec(level, **changes)) for level in levels]


def published(level: int = 5, model: str = "yolo26s", **changes: Any) -> RunRecord:
    """A published record on COCO."""
    return replace(
        record(level, scale=4.0),
        **{
            "key": f"published:{model}-{level}",
            "provenance": "published",
            "model": model,
            "architecture": model,
            "data": "coco",
            "imgsz": 640,
            "spec": None,
            "layers": (),
            "environment": {},
            "source": "a publication",
            **changes,
        },
    )


def layer_times(subject: str = "ef" * 32, **changes: Any) -> LayerTimesRecord:
    """Times of two layers of an original and of a level; the first keeps half of its GFLOPs and three quarters of its time.

    Args:
        subject: sha256 of the level's checkpoint.
        changes: fields of the spec.
    """
    values: dict[str, Any] = {
        "subject": subject,
        "reference": "ab" * 32,
        "backend": "onnx",
        "precision": "fp32",
        "imgsz": 320,
        "batch": 1,
        "threads": 1,
        "head": "e2e",
        "calibration": "",
        "machine": "a processor, 2 cores",
        "backend_version": "1.2.3",
        **changes,
    }

    def form(first: LayerTime, second: LayerTime) -> TimedForm:
        return TimedForm(layers=(first, second), rest_ms=1.0)

    return LayerTimesRecord(
        spec=LayerTimesSpec(**values),
        model="yolo26n",
        level=3,
        forms=(
            form(
                LayerTime(name="model.0.cv1", channels_in=16, channels_out=32, ms=8.0),
                LayerTime(name="model.1.cv1", channels_in=32, channels_out=32, ms=1.0),
            ),
            form(
                LayerTime(name="model.0.cv1", channels_in=16, channels_out=16, ms=6.0),
                LayerTime(name="model.1.cv1", channels_in=16, channels_out=16, ms=0.25),
            ),
        ),
        environment={"processor": "a processor, 2 cores"},
        created="2026-05-24T10:00:00+00:00",
    )


def sensitivity(**changes: Any) -> SensitivityRecord:
    """Three groups of the layers of `layers`: one that matters, one that does not, and one that is locked.

    Args:
        changes: fields of the spec.
    """
    values: dict[str, Any] = {
        "weights_sha256": "ab" * 32,
        "data_fingerprint": "cd" * 32,
        "imgsz": 320,
        "head": "e2e",
        "n_images": 150,
        "criterion": "l2",
        "part": 0.5,
        "align": 8,
        **changes,
    }

    def group(*layers: str, locked: str | None = None, map50_95: float | None = None) -> GroupSensitivity:
        return GroupSensitivity(
            name=layers[0],
            layers=layers,
            channels_before=16,
            channels_after=16 if locked else 8,
            locked=locked,
            predicts=True,
            map50_95=map50_95,
            gflops_saved=0.0 if locked else 0.0125,
            params_saved=0.0 if locked else 0.02,
            importance=() if locked else (0.5, 1.0, 1.5),
        )

    return SensitivityRecord(
        spec=SensitivitySpec(**values),
        model="yolo26n",
        level=0,
        data="shapes",
        n_val=150,
        map50_95=0.72,
        groups=(
            group("model.0.cv1.conv", "model.1.cv2.conv", map50_95=0.62),
            group("model.1.cv1.conv", "model.1.cv2.conv", map50_95=0.725),
            group("model.2.cv1.conv", "model.1.cv2.conv", locked="the outputs of the head"),
        ),
        n_backbone=11,
        n_blocks=BLOCKS,
        seconds=61.0,
        environment={"processor": "a processor, 2 cores"},
        created="2026-05-24T10:00:00+00:00",
    )


def with_checkpoint(original: RunRecord, content: bytes, sha256: str) -> RunRecord:
    """The record with a checkpoint of that content; the file itself is the test's to write."""
    artifact = Artifact(name="checkpoint", file="best.pt", sha256=sha256, size_bytes=len(content))
    return replace(original, artifacts=(artifact,))


def plan(level: int = 3, **changes: Any) -> PlanRecord:
    """A plan with the costs and layers of `record`."""
    values: dict[str, Any] = {
        "model": "yolo26n",
        "imgsz": 320,
        "nc": 10,
        "level": level,
        "target": target_of(level),
        "before": costs(0),
        "after": costs(level),
        "layers": layers(level),
        "seconds": 0.5,
        **changes,
    }
    return PlanRecord(**values)


def original(model: str, scale: float, best: float, /, **changes: Any) -> RunRecord:
    """The measured original of an architecture, as it was given; `changes` are fields of the spec."""
    values = {"model": f"{model}.pt", "weights_sha256": sha256_of(model), "epochs": 0, **changes}
    return record(0, scale=scale, best=best, spec=spec(0, **values), model=model, architecture=model)


def cut_of(source: RunRecord, level: int, **changes: Any) -> RunRecord:
    """A level of an original, fine-tuned, with a checkpoint of its own; `changes` are fields of the record or spec."""
    assert source.spec is not None
    fields = {name: changes.pop(name) for name in ("metrics", "costs") if name in changes}
    before = source.costs
    own = replace(source.spec, level=level, target=target_of(level), epochs=20, **changes)
    assert before.gflops is not None
    measured = record(level, scale=before.gflops / GFLOPS, best=source.metrics.map50_95 or 0, spec=own)
    named = replace(measured, model=source.model, architecture=source.architecture, **fields)
    return with_checkpoint(named, b"x", sha256_of(named.key))


def sha256_of(text: str) -> str:
    """A hash that stands for a checkpoint."""
    return hashlib.sha256(text.encode()).hexdigest()


def accuracy(map50_95: float = 0.7, *, model: str = "yolo26n", level: int | None = 0, **changes: Any) -> AccuracyRecord:
    """A measured accuracy of a deployed form; `changes` are fields of its spec."""
    values: dict[str, Any] = {
        "weights_sha256": "ab" * 32,
        "backend": "onnx",
        "precision": "fp32",
        "imgsz": 320,
        "head": "e2e",
        "data_fingerprint": "cd" * 32,
        "calibration": "",
        "machine": "a processor, 2 cores",
        "backend_version": "1.27.0",
        **changes,
    }
    return AccuracyRecord(
        spec=AccuracySpec(**values),
        model=model,
        level=level,
        data="shapes",
        n_images=150,
        metrics=replace(metrics(0), map50_95=map50_95),
        arithmetic="",
        size_bytes=5_400_000,
        sha256="12" * 32,
        environment={"ultralytics": "8.4.190", "torch": "2.15"},
        created="2026-05-22T10:00:00+00:00",
    )


def latency(
    median_ms: float = 10.0, *, model: str = "yolo26n", level: int | None = 0, ratio: float | None = 1.0, **changes: Any
) -> LatencyRecord:
    """A measured time, against level 0 of `accuracy`; `changes` are fields of its spec."""
    values: dict[str, Any] = {
        "weights_sha256": "ab" * 32,
        "reference_sha256": "ab" * 32,
        "backend": "onnx",
        "precision": "fp32",
        "imgsz": 320,
        "batch": 1,
        "threads": 1,
        "head": "e2e",
        "calibration": "",
        "machine": "a processor, 2 cores",
        "backend_version": "1.27.0",
        **changes,
    }
    return LatencyRecord(
        spec=LatencySpec(**values),
        model=model,
        level=level,
        median_ms=median_ms,
        p95_ms=1.1 * median_ms,
        n_passes=60,
        ratio=ratio,
        ratio_low=ratio and 0.98 * ratio,
        ratio_high=ratio and 1.02 * ratio,
        peak_memory_mb=120.0,
        size_bytes=5_400_000,
        environment={},
        created="2026-05-22T11:00:00+00:00",
    )


def timed(weights: str, reference: str | None, ratio: float, **changes: Any) -> LatencyRecord:
    """A time of a checkpoint in turn with another one of 20 ms, newer than `latency`; `changes` are of the spec."""
    own = {"machine": "a processor", "backend_version": "1.2", **changes}
    record = latency(20 * ratio, ratio=None, weights_sha256=weights, reference_sha256=reference, **own)
    record = replace(record, created="2026-06-01T10:00:00+00:00")
    if reference is None:
        return record
    return replace(record, ratio=ratio, ratio_low=ratio - 0.01, ratio_high=ratio + 0.01)
