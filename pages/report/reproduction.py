"""The command that repeats a measured result, and what it cannot bring back."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cache.record import RunRecord
from compression.catalog import CATALOG
from compression.data.dataset import is_known_by_name
from compression.request import RunRequest
from compression.spec import RunSpec

# What stands in a command where a result does not know the place.
WEIGHTS, ARCHITECTURE, DATA = "WEIGHTS.pt", "ARCHITECTURE.yaml", "DATA.yaml"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """How to measure a result again.

    Attributes:
        command: as it is typed.
        notes: what has to be put in, and what may come out otherwise; a sentence each.
    """

    command: str
    notes: tuple[str, ...]


def reproduction_of(record: RunRecord) -> Reproduction | None:
    """How to repeat a result, with model and data set as they were given; None of a published one."""
    spec = record.spec
    if spec is None:
        return None
    model, of_model = _model(spec)
    data, of_data = _data(spec)
    command = replace(RunRequest.of_spec(spec), model=model, data=data).command()
    notes = (of_model, of_data, _of_latency(spec), _of_commit(record.environment.get("commit", "")))
    return Reproduction(command=command, notes=tuple(filter(None, notes)))


def _model(spec: RunSpec) -> tuple[str, str]:
    """The model's argument, and what to know of it."""
    if spec.weights_sha256 is None:
        if spec.model.endswith((".yaml", ".yml")):
            return spec.model, ""
        # What was handed on has lost its suffix.
        if spec.model in CATALOG:
            return f"{spec.model}.yaml", ""
        return ARCHITECTURE, f"{ARCHITECTURE} stands for the file that describes {spec.model!r}, which is not in it."
    if spec.model.endswith(".pt"):
        return spec.model, f"{spec.model} has to be the file with SHA-256 {spec.weights_sha256}."
    known = f"which is known here by its SHA-256 only: {spec.weights_sha256}."
    return WEIGHTS, f"{WEIGHTS} stands for the checkpoint of {spec.model!r}, {known}"


def _data(spec: RunSpec) -> tuple[str, str]:
    """The data set's argument, and what to know of it."""
    given = spec.data_source or spec.data
    if spec.classes and given == spec.data:
        # Results on some classes are called "coco [person, car]".
        given = given.rsplit(" [", 1)[0]
    if is_known_by_name(given):
        return given, ""
    if "/" in given or "\\" in given or given.endswith((".yaml", ".yml")):
        return given, f"{given} has to be the data set with fingerprint {spec.data_fingerprint}."
    known = f"which is known here by its fingerprint only: {spec.data_fingerprint}."
    what = "folder" if spec.task == "classify" else "data.yaml"
    return DATA, f"{DATA} stands for the {what} of {given!r}, {known}"


def _of_latency(spec: RunSpec) -> str:
    latency = spec.target.latency
    if latency is None:
        return ""
    on = f"{latency.machine} with {latency.backend} {latency.backend_version}"
    return f"The time was asked for on {on}; elsewhere the same part of the time is another cut."


def _of_commit(commit: str) -> str:
    if commit.endswith(" with changes"):
        return f"It was measured by commit {commit.removesuffix(' with changes')} with changes that are in no commit."
    return ""
