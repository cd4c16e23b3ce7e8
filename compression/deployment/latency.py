"""Measured time of a forward pass, of several checkpoints in turn with one that the others are compared with."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.latency import LatencyRecord, LatencySpec
from cache.record import Progress, RunRecord
from cache.store import own_store
from compression.catalog import TaskName
from compression.data.dataset import Dataset
from compression.deployment.backends import (
    BACKENDS,
    Bench,
    Setting,
    bench_here,
    open_pass,
    peak_memory_mb,
    told_plainly,
)
from compression.deployment.deploy import exported_file
from compression.deployment.exported import size_of
from compression.deployment.timing import TIMED_PASSES, ratio_of, take_turns
from compression.environment import describe_environment
from compression.errors import ModelError, TrimboardError
from compression.home import home
from compression.levels import ORIGINAL
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import Detector, open_detector
from compression.models.kinds import largest_stride
from compression.models.stored import KEY, checkpoint_of, find_checkpoint, original_of
from compression.process import python_process
from compression.telling import Tell

# Rounds of turns: enough that the interval of a ratio is a percent or two on a machine that does little else.
N_ROUNDS = 15
INCLUDED = "forward pass only: reading and scaling the image, and non-maximum suppression, are not in it"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A checkpoint whose passes are timed.

    Attributes:
        checkpoint: its file.
        sha256: of the file; or a name for the channel counts of a model whose weights do not matter.
        model: label.
        level: 0 to 5; None for a custom target, or where nothing is known of it.
        imgsz: that it was measured or trained at, pixels; None where nothing is known of it.
        stride: the image size is a multiple of it, pixels.
        has_e2e_head: whether it predicts end to end.
        record: the result that it belongs to; None where nothing is known of it.
        task: what it predicts.
    """

    checkpoint: Path
    sha256: str
    model: str
    level: int | None
    imgsz: int | None
    stride: int
    has_e2e_head: bool
    record: RunRecord | None
    task: TaskName = "detect"


def opened(model: str) -> Timed:
    """A checkpoint by its path, its name or the beginning of its result's key; an architecture gets random weights.

    Raises:
        ModelError: there is no such model, or it cannot be opened.
        SpecError: several results have a key that begins so.
    """
    if model.lower().endswith((".yaml", ".yml")):
        detector = open_detector(model)
        content = json.dumps(detector.module.yaml, sort_keys=True, default=str)
        folder = home() / "architectures" / hashlib.sha256(content.encode()).hexdigest()
        file = folder / f"{detector.label}.pt"
        if not file.is_file():
            write_checkpoint(detector.module, file, {})
        return timed_of(file, None)
    if not Path(os.path.expanduser(model)).is_file() and not KEY.fullmatch(model):
        file_of_name = open_detector(model).file
        assert file_of_name is not None
        return timed_of(file_of_name, None)
    stored = find_checkpoint(model)
    return timed_of(stored.file, stored.record)


def timed_of(file: Path, record: RunRecord | None) -> Timed:
    """A checkpoint by its file, and the result that it belongs to, None where there is none.

    Raises:
        ModelError: it cannot be opened.
    """
    detector = open_detector(str(file))
    assert detector.weights_sha256 is not None
    return Timed(
        checkpoint=file,
        sha256=detector.weights_sha256,
        model=record.model if record else detector.label,
        level=record.level if record else None,
        imgsz=record.imgsz if record else _training_size(detector),
        stride=largest_stride(detector.module),
        has_e2e_head=detector.has_e2e_head,
        record=record,
        task=detector.task,
    )


def _training_size(detector: Detector) -> int | None:
    """What a checkpoint notes of it, pixels: Trimboard, else Ultralytics."""
    noted = detector.info.get("imgsz") or detector.module.args.get("imgsz")
    return noted if isinstance(noted, int) else None


def reference_of(subjects: Sequence[Timed]) -> Timed | None:
    """What to compare with: level 0 of the first result, else the first of several checkpoints, else nothing."""
    first = subjects[0]
    original = original_of(first.record) if first.record and first.level != ORIGINAL else None
    if original is not None:
        return timed_of(checkpoint_of(original), original)
    return first if len(subjects) > 1 else None


def measure(
    subjects: Sequence[Timed],
    reference: Timed | None,
    setting: Setting,
    *,
    of_reference: Setting | None = None,
    dataset: Dataset | None = None,
    n_rounds: int | None = None,
    again: bool = False,
    tell: Tell,
) -> list[LatencyRecord]:
    """Time checkpoints in turn, and store what was found.

    Args:
        subjects: each gets a record; what this machine has measured before is taken from the store.
        reference: what ratios are against; it takes turns with the others. None gives times alone.
        setting: backend, precision, sizes and threads.
        of_reference: those of the reference; None for the same.
        dataset: whose training images an int8 file is calibrated on.
        n_rounds: at least 2; N_ROUNDS where None.
        again: measure also what is stored.
        tell: receives the progress.

    Raises:
        TrimboardError: a checkpoint cannot be opened or exported.
    """
    of_reference = of_reference or setting
    specs = [
        latency_spec(subject.sha256, reference.sha256 if reference else None, setting, of_reference, dataset)
        for subject in subjects
    ]
    found = {} if again else {spec.key: record for spec in specs if (record := own_store().find_latency(spec.key))}
    missing = [pair for pair in zip(subjects, specs, strict=True) if pair[1].key not in found]
    if missing:
        places = [(place_of(subject, setting, dataset, tell), setting) for subject, _ in missing]
        if reference:
            places.append((place_of(reference, of_reference, dataset, tell), of_reference))
        seconds = _seconds(places, n_rounds or N_ROUNDS, tell)
        for (subject, spec), (place, _), own in zip(missing, places, seconds, strict=False):
            record = _record(subject, spec, place, setting, own, seconds[-1] if reference else None)
            own_store().save_latency(record)
            found[spec.key] = record
    return [found[spec.key] for spec in specs]


def _seconds(places: Sequence[tuple[Path, Setting]], n_rounds: int, tell: Tell) -> NDArray[np.float64]:
    """Time of passes of each, in turn, [places, rounds, passes]."""
    passes = []
    for place, setting in places:
        tell(Progress(stage=f"opening {place.name} on {setting.backend}"))
        with told_plainly(place, setting.backend):
            passes.append(open_pass(place, setting))
            passes[-1]()
    tell(Progress(stage=f"timing on {places[0][1].backend}"))
    return take_turns(passes, n_rounds=n_rounds)


def latency_spec(
    subject: str,
    reference: str | None,
    setting: Setting,
    of_reference: Setting | None = None,
    dataset: Dataset | None = None,
    *,
    bench: Bench | None = None,
) -> LatencySpec:
    """The question of a subject's latency.

    Args:
        subject: sha256 of its checkpoint.
        reference: of the one that it is timed in turn with.
        setting: backend, precision, sizes and threads.
        of_reference: those of the reference; None for the same.
        dataset: whose training images an int8 file is calibrated on.
        bench: where; None for this machine.
    """
    other = of_reference if reference and of_reference else setting
    return LatencySpec(
        weights_sha256=subject,
        reference_sha256=reference,
        reference_precision=None if other.precision == setting.precision else other.precision,
        reference_imgsz=None if other.imgsz == setting.imgsz else other.imgsz,
        **timing_conditions(setting, dataset, bench),
    )


def timing_conditions(setting: Setting, dataset: Dataset | None, bench: Bench | None) -> dict[str, Any]:
    """What decides times besides the model, as fields of a spec; see `latency_spec`."""
    return {
        **asdict(setting),
        "threads": 0 if BACKENDS[setting.backend].on_gpu else setting.threads,
        "calibration": calibration_of(setting, dataset),
        **asdict(bench or bench_here(setting.backend)),
    }


def place_of(subject: Timed, setting: Setting, dataset: Dataset | None, tell: Tell) -> Path:
    """What a backend runs: the checkpoint, or the file that it is exported to, which is made where it is missing.

    Args:
        subject: the checkpoint.
        setting: backend, precision and sizes.
        dataset: calibrates an int8 file.
        tell: receives the progress.

    Raises:
        TrimboardError: the checkpoint cannot be exported.
    """
    format_ = BACKENDS[setting.backend].format
    if format_ is None:
        return subject.checkpoint
    return exported_file(
        subject.checkpoint,
        format_,
        weights_sha256=subject.sha256,
        imgsz=setting.imgsz,
        batch=setting.batch,
        precision=setting.precision,
        head=setting.head,
        dataset=dataset,
        tell=tell,
    )


def calibration_of(setting: Setting, dataset: Dataset | None) -> str:
    """Fingerprint of what calibrates a file; empty where nothing does."""
    return dataset.fingerprint if dataset and setting.precision == "int8" else ""


def _record(
    subject: Timed,
    spec: LatencySpec,
    place: Path,
    setting: Setting,
    seconds: NDArray[np.float64],
    of_reference: NDArray[np.float64] | None,
) -> LatencyRecord:
    ratio = None if of_reference is None else ratio_of(seconds, of_reference)
    return LatencyRecord(
        spec=spec,
        model=subject.model,
        level=subject.level,
        median_ms=1e3 * float(np.median(seconds)),
        p95_ms=1e3 * float(np.percentile(seconds, 95)),
        n_passes=seconds.shape[0] * TIMED_PASSES,
        ratio=ratio.value if ratio else None,
        ratio_low=ratio.low if ratio else None,
        ratio_high=ratio.high if ratio else None,
        peak_memory_mb=_peak_memory_mb(place, setting),
        size_bytes=size_of(place),
        environment=describe_environment(setting.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _peak_memory_mb(place: Path, setting: Setting) -> float:
    """Measured in a process of its own, where nothing else holds memory."""
    process = python_process(
        "-m",
        "compression.deployment.latency",
        str(place),
        json.dumps(asdict(setting)),
        output=subprocess.PIPE,
        errors=subprocess.DEVNULL,
    )
    written, _ = process.communicate()
    if process.returncode:
        raise ModelError(f"{str(place)!r} cannot be run on {setting.backend} in a process of its own.")
    return float(written.split()[-1])


if __name__ == "__main__":
    try:
        print(peak_memory_mb(Path(sys.argv[1]), Setting(**json.loads(sys.argv[2]))))
    except TrimboardError as error:
        sys.exit(str(error))
