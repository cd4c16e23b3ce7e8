"""Accuracy of a model in the form in which it is deployed, measured on the exported file itself."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cache.accuracy import AccuracyRecord, AccuracySpec
from cache.record import Metrics, Progress
from cache.store import own_store
from compression.accuracy.evaluation import check_fits, validate
from compression.data.dataset import Dataset
from compression.deployment.backends import BACKENDS, Setting, bench_here, compile_openvino
from compression.deployment.export_formats import FORMATS, head_of
from compression.deployment.exported import content_sha256, size_of
from compression.deployment.latency import Timed, calibration_of, place_of
from compression.environment import all_cores, describe_environment
from compression.errors import ModelError
from compression.image_size import in_pixels, longer_side
from compression.models.detector import read_checkpoint
from compression.models.kinds import KINDS
from compression.spec import DEFAULT_BATCH
from compression.telling import Tell


def measure_accuracy(
    subject: Timed, setting: Setting, dataset: Dataset, *, again: bool = False, tell: Tell
) -> AccuracyRecord:
    """Validate a deployed form by Ultralytics in the arithmetic in which it is timed, and store what was found.

    Args:
        subject: the checkpoint.
        setting: backend, precision and image size; its batch and threads change no accuracy.
        dataset: its validation images are looked at; its training images calibrate an int8 file.
        again: measure also what is stored.
        tell: receives the progress.

    Raises:
        TrimboardError: the checkpoint does not fit the data set, or cannot be exported, or the file cannot be run.
    """
    spec = _spec(subject, setting, dataset)
    known = None if again else own_store().find_accuracy(spec.key)
    if known is not None:
        return known
    module, _ = read_checkpoint(subject.checkpoint)
    check_fits(module, subject.checkpoint.name, dataset, setting.head)
    setting = replace(setting, batch=1, threads=os.cpu_count() or 1)
    place = place_of(subject, setting, dataset, tell)
    tell(Progress(stage=f"validating {place.name} on {setting.backend}, {in_pixels(setting.imgsz)} px"))
    with all_cores():
        metrics, arithmetic = _validated(place, setting, dataset)
    record = AccuracyRecord(
        spec=spec,
        model=subject.model,
        level=subject.level,
        data=dataset.name,
        n_images=dataset.n_val,
        metrics=metrics,
        arithmetic=arithmetic,
        size_bytes=size_of(place),
        sha256=content_sha256(place),
        environment=describe_environment(setting.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=dataset.task,
    )
    own_store().save_accuracy(record)
    return record


def _spec(subject: Timed, setting: Setting, dataset: Dataset) -> AccuracySpec:
    return AccuracySpec(
        weights_sha256=subject.sha256,
        backend=setting.backend,
        precision=setting.precision,
        imgsz=longer_side(setting.imgsz),
        head=setting.head,
        data_fingerprint=dataset.fingerprint,
        calibration=calibration_of(setting, dataset),
        **asdict(bench_here(setting.backend)),
    )


def _validated(place: Path, setting: Setting, dataset: Dataset) -> tuple[Metrics, str]:
    """Accuracy, and what OpenVINO says it computed in."""
    format_ = BACKENDS[setting.backend].format
    model = read_checkpoint(place)[0] if format_ is None else place
    told: list[str] = []

    class AsTimed(KINDS[dataset.task].validator):  # type: ignore[misc]
        """Opens a file of OpenVINO as it is timed: in full precision where that is asked for."""

        def init_metrics(self, model: Any) -> None:
            if setting.backend == "openvino":
                compiled = compile_openvino(place, setting)
                model.backend.ov_compiled_model = compiled
                told.append(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
            super().init_metrics(model)

    try:
        metrics = validate(
            model,
            dataset,
            imgsz=longer_side(setting.imgsz),
            batch=DEFAULT_BATCH,
            device=setting.device,
            head=setting.head if format_ is None else head_of(format_, setting.precision, setting.head),
            rect=False,
            half=format_ is None and setting.precision == "fp16",
            validator_class=AsTimed,
        )
    except Exception as error:
        if format_ is None:
            raise
        # Each runtime has errors of its own.
        reason = str(error).split("\n", 1)[0].rstrip(".") or type(error).__name__
        raise ModelError(f"{place.name!r}, made by {FORMATS[format_].label}, cannot be run: {reason}.") from error
    return metrics, "".join(told)
