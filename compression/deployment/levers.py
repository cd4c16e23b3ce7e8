"""Everything that can be turned to make a detector faster, side by side: the level, the precision, the image size, and
a smaller sibling. Of each combination the accuracy of what is deployed and its time are measured, and kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from cache.accuracy import AccuracyRecord
from cache.groups import originals_like, weights_of
from cache.latency import LatencyRecord
from cache.record import RunRecord
from cache.siblings import rivals_among
from cache.store import own_store
from compression.catalog import TaskName, model_label, weights_file
from compression.data.classes import class_subset
from compression.data.dataset import Dataset
from compression.deployment.accuracy import measure_accuracy
from compression.deployment.backends import Setting, why_not_here
from compression.deployment.latency import Timed, measure, opened, timed_of
from compression.errors import ModelError, SpecError, TrimboardError
from compression.levels import ORIGINAL
from compression.models.detector import file_sha256
from compression.models.stored import KEY, checkpoint_of, find_checkpoint, find_result, levels_like, original_of
from compression.request import listed
from compression.spec import DEFAULT_IMGSZ, BackendName, HeadName, PrecisionName
from compression.telling import Tell

# Of the training size; below it, detectors miss most of what they were trained to see.
LEAST_PART = 0.25


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A combination with what was measured of it.

    Attributes:
        accuracy: of what is deployed.
        latency: of the same, in turn with level 0 in full precision at the full size.
    """

    accuracy: AccuracyRecord
    latency: LatencyRecord

    def to_dict(self) -> dict[str, Any]:
        """Both as plain data."""
        return {"accuracy": self.accuracy.to_dict(), "latency": self.latency.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Levers:
    """What is to be measured.

    Attributes:
        reference: what ratios are against, in full precision at the full size: level 0, else the first checkpoint.
        subjects: the levels and models to be measured in each combination.
        missing: what was asked for and is not here, a sentence each.
    """

    reference: Timed
    subjects: tuple[Timed, ...]
    missing: tuple[str, ...] = ()

    @property
    def imgsz(self) -> int:
        """The full size: that of the reference's training, pixels."""
        return self.reference.imgsz or DEFAULT_IMGSZ

    @property
    def head(self) -> HeadName:
        """End-to-end predictions where all have them, unless the reference was measured otherwise."""
        if self.reference.record:
            return self.reference.record.head
        return "e2e" if all(one.has_e2e_head for one in self.subjects) else "nms"


def find_levers(models: Sequence[str], dataset: Dataset, *, levels: Sequence[int] | None, siblings: bool) -> Levers:
    """What stands behind models, checkpoints and keys.

    Args:
        models: labels of measured models, checkpoints, or the beginnings of keys. A model or an original stands for its
            levels as well, the key or checkpoint of another result for itself.
        dataset: what they were measured on.
        levels: only these, also of a result; None for all that are measured.
        siblings: also the measured originals of the first model's family.

    Raises:
        TrimboardError: there is no such model, or nothing of all that was asked for is here.
    """
    found: list[Timed] = []
    missing: list[str] = []
    for model in models:
        for subject in _stands_for(model, dataset, levels):
            try:
                found.append(subject())
            except ModelError as error:
                missing.append(str(error))
    if levels is not None:
        known = {one.level for one in found}
        missing += [
            f"Level {one} is not measured on {dataset.name}, or not here." for one in levels if one not in known
        ]
    if not found:
        raise ModelError(" ".join(missing))
    reference = next((one for one in found if one.level == ORIGINAL), None)
    if reference is None:
        reference = _original_of(found[0], missing) or found[0]
    if siblings:
        found += _siblings(reference, missing)
    by_file = {one.sha256: one for one in found}
    return Levers(reference=reference, subjects=tuple(by_file.values()), missing=tuple(dict.fromkeys(missing)))


def _stands_for(model: str, dataset: Dataset, levels: Sequence[int] | None) -> list[Callable[[], Timed]]:
    """What a text stands for; each is opened when it is called, as its checkpoint may not be here."""
    file = Path(os.path.expanduser(model))
    if file.is_file() or KEY.fullmatch(model):
        record = find_checkpoint(model).record if file.is_file() else find_result(model)
        if record is None:
            return _of_file(file, levels)
        if record.level != ORIGINAL and levels is None:
            return [_opener(record)]
        return _of_levels(levels_like(record), levels)
    of_model = [one for one in own_store().heads(model_label(model), dataset.name) if one.spec is not None]
    fitting = [one for one in of_model if one.level is not None and _is_on(one, dataset)]
    if not fitting:
        return [lambda: opened(model)]
    newest = max(fitting, key=lambda one: (one.level != ORIGINAL, one.created))
    return _of_levels(levels_like(newest), levels)


def task_of_model(model: str) -> TaskName:
    """What a model predicts that is named as for `find_levers`; one of a result need not be here.

    Raises:
        TrimboardError: there is no such model.
    """
    is_file = Path(os.path.expanduser(model)).is_file()
    measured = [] if is_file or KEY.fullmatch(model) else own_store().heads(model_label(model))
    return measured[0].task if measured else opened(model).task


def _of_file(file: Path, levels: Sequence[int] | None) -> list[Callable[[], Timed]]:
    """A checkpoint that is no result itself, with the levels that were cut from it."""
    by_level = _cut_from(file)

    def given() -> Timed:
        return replace(opened(str(file)), level=ORIGINAL if by_level else None)

    wants_given = not by_level or levels is None or ORIGINAL in levels
    return [given] * wants_given + _of_levels(by_level, levels)


def _of_levels(by_level: Mapping[int, RunRecord], levels: Sequence[int] | None) -> list[Callable[[], Timed]]:
    return [_opener(one) for level, one in by_level.items() if levels is None or level in levels]


def _is_on(record: RunRecord, dataset: Dataset) -> bool:
    """Whether a result was measured on this data set, or on some of its classes."""
    return record.spec is not None and (
        bool(record.spec.classes) or record.spec.data_fingerprint == dataset.fingerprint
    )


def _opener(record: RunRecord) -> Callable[[], Timed]:
    return lambda: _opened(record)


def _opened(record: RunRecord) -> Timed:
    """A result's checkpoint; of an original also the file that was given, where it is still the same."""
    try:
        return timed_of(checkpoint_of(record), record)
    except ModelError:
        spec = record.spec
        if record.level == ORIGINAL and spec and spec.weights_sha256:
            for file in (Path(spec.model), weights_file(record.model)):
                if file.is_file() and file_sha256(file) == spec.weights_sha256 == weights_of(record):
                    return timed_of(file, record)
        raise


def _cut_from(file: Path) -> dict[int, RunRecord]:
    """The levels that were cut from a checkpoint which is no result itself, under the newest conditions."""
    sha256 = file_sha256(file)
    cut = [one for one in own_store().heads() if one.spec and one.level not in (None, ORIGINAL)]
    newest = max((one for one in cut if weights_of(one) == sha256), key=lambda one: one.created, default=None)
    return {level: one for level, one in levels_like(newest).items() if level != ORIGINAL} if newest else {}


def _original_of(subject: Timed, missing: list[str]) -> Timed | None:
    original = original_of(subject.record) if subject.record else None
    try:
        return _opened(original) if original else None
    except ModelError as error:
        missing.append(str(error))
        return None


def _siblings(reference: Timed, missing: list[str]) -> list[Timed]:
    if reference.record is None:
        missing.append(f"Nothing is stored of {reference.model!r}, so its siblings are not known.")
        return []
    others = originals_like(reference.record, rivals_among(own_store().heads(data=reference.record.data)))
    found = []
    for architecture, record in others.items():
        if architecture == reference.record.architecture:
            continue
        try:
            found.append(_opened(record))
        except ModelError as error:
            missing.append(str(error))
    if not found:
        missing.append(f"No sibling of {reference.model} is measured on {reference.record.data} and here.")
    return found


def sizes_of(text: str, full: int, stride: int) -> list[int]:
    """Image sizes as typed, each once: parts of the full size, rounded to the stride, or pixels.

    Args:
        text: "1,0.75,0.5" or "640,480".
        full: the training size, pixels.
        stride: of the model, pixels.

    Raises:
        SpecError: one is no number, or too small.
    """
    sizes = []
    for part in listed(text):
        try:
            number = float(part)
        except ValueError:
            number = 0.0
        if LEAST_PART <= number <= 1:
            sizes.append(max(round(number * full / stride), 1) * stride)
        elif number >= stride and number == int(number):
            sizes.append(int(number))
        else:
            raise SpecError(
                f"Image size {part!r} is not possible; give parts of the training size from {LEAST_PART} to 1, or "
                f"pixels from {stride} up."
            )
    if not sizes:
        raise SpecError(f"{text!r} names no image size; give parts of the training size or pixels, as in 1,0.75,0.5.")
    return list(dict.fromkeys(sizes))


def measure_levers(
    levers: Levers,
    dataset: Dataset,
    *,
    backends: Sequence[BackendName],
    precisions: Sequence[PrecisionName],
    sizes: Sequence[int],
    threads: int,
    head: HeadName | None = None,
    again: bool = False,
    tell: Tell,
) -> tuple[list[Measured], list[str]]:
    """Measure all combinations, on each backend the reference first; what is stored already is taken from there.

    Args:
        levers: which models.
        dataset: whose training images calibrate int8 files, and whose validation images are looked at.
        backends: what runs them.
        precisions: of the files and the arithmetic.
        sizes: of the images, pixels.
        threads: of the processor.
        head: whose predictions; None for those of the reference.
        again: measure also what is stored.
        tell: receives the progress.

    Returns:
        What was measured, and why other combinations were not, a sentence each.
    """
    done: list[Measured] = []
    left_out = list(levers.missing)
    for backend in backends:
        if reason := why_not_here(backend):
            left_out.append(reason)
            continue
        full = Setting(
            backend=backend, precision="fp32", imgsz=levers.imgsz, batch=1, threads=threads, head=head or levers.head
        )
        wanted = {(levers.reference.sha256, full): levers.reference}
        for precision, imgsz in product(precisions, sizes):
            try:
                setting = replace(full, precision=precision, imgsz=imgsz)
            except SpecError as error:
                left_out.append(str(error))
                continue
            wanted |= {(subject.sha256, setting): subject for subject in levers.subjects}
        for number, ((_, setting), subject) in enumerate(wanted.items(), start=1):
            named = f"{backend}, {number} of {len(wanted)}"
            try:
                done.append(_measured(levers.reference, full, subject, setting, dataset, again, _numbered(named, tell)))
            except TrimboardError as error:
                left_out.append(str(error))
    return done, list(dict.fromkeys(left_out))


def _numbered(named: str, tell: Tell) -> Tell:
    return lambda progress: tell(replace(progress, stage=f"{named}: {progress.stage}"))


def _measured(
    reference: Timed,
    full: Setting,
    subject: Timed,
    setting: Setting,
    dataset: Dataset,
    again: bool,
    tell: Tell,
) -> Measured:
    spec = subject.record.spec if subject.record else None
    # A model of some classes is measured on the view that it was trained on.
    seen = class_subset(dataset, spec.classes) if spec and spec.classes else dataset
    accuracy = measure_accuracy(subject, setting, seen, again=again, tell=tell)
    (latency,) = measure([subject], reference, setting, of_reference=full, dataset=seen, again=again, tell=tell)
    return Measured(accuracy=accuracy, latency=latency)
