"""Where the figures of a report come from: what was asked, on what, by which versions, where and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache.record import RunRecord
from cache.series import cut_in_words
from compression.levels import ORIGINAL
from pages.parts import formats
from pages.report.levels import Level
from pages.report.reproduction import Reproduction, reproduction_of

_ENVIRONMENT = {
    "trimboard": "Trimboard",
    "commit": "Commit",
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "ultralytics": "Ultralytics",
    "torch-pruning": "torch-pruning",
    "numpy": "NumPy",
    "python": "Python",
    "system": "System",
    "processor": "Processor",
    "threads": "Threads",
    "gpu": "GPU",
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where one result comes from.

    Attributes:
        name: of the result.
        facts: what differs from other results, by name.
        warnings: a sentence each.
        reproduction: the command that repeats it.
    """

    name: str
    facts: dict[str, str]
    warnings: tuple[str, ...]
    reproduction: Reproduction


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where all results of a report come from.

    Attributes:
        shared: facts that all of them share, by name.
        origins: one a result.
    """

    shared: dict[str, str]
    origins: tuple[Origin, ...]


def provenance_of(levels: Sequence[Level]) -> Provenance:
    """Sort facts into those that all results share, and those of each."""
    named = [(level.name, record) for level in levels for record in level.records]
    records = [record for _, record in named]
    facts = [_facts(record) for record in records]
    # The first result decides the order of what all share.
    shared = {name: text for name, text in facts[0].items() if all(own.get(name) == text for own in facts)}
    return Provenance(
        shared=shared if len(records) > 1 else {},
        origins=tuple(
            Origin(
                name=name if record.level == ORIGINAL else f"{name}, seed {record.spec.seed if record.spec else 0}",
                facts={name: text for name, text in own.items() if len(records) == 1 or name not in shared},
                warnings=record.warnings,
                reproduction=_reproduction(record),
            )
            for (name, record), own in zip(named, facts, strict=True)
        ),
    )


def measured_between(records: Sequence[RunRecord]) -> str:
    """The days of the first and the last measurement: "22 May 2026", "22 May 2026 to 3 June 2026"."""
    days = [formats.day(created) for created in sorted(record.created for record in records)]
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def hardware_of(records: Sequence[RunRecord]) -> str:
    """What results were measured on, each once."""
    found = [
        gpu if (gpu := record.environment.get("gpu", "none")) != "none" else record.environment.get("processor", "")
        for record in records
    ]
    return "; ".join(dict.fromkeys(filter(None, found))) or formats.UNKNOWN


def _reproduction(record: RunRecord) -> Reproduction:
    found = reproduction_of(record)
    assert found is not None, "a measured record without a spec"
    return found


def _facts(record: RunRecord) -> dict[str, str]:
    spec = record.spec
    assert spec is not None, "a measured record without a spec"
    classes = ", ".join(record.metrics.per_class) if spec.classes else "all"
    return {
        "Model": spec.model,
        "Architecture": record.architecture,
        "Weights, SHA-256": spec.weights_sha256 or "random weights",
        "Data set": spec.data_source or spec.data,
        "Data set, fingerprint": spec.data_fingerprint,
        "Classes": classes,
        "Asked for": cut_in_words(spec),
        "Channels ranked by": spec.criterion,
        "Cut shared out by": spec.allocation,
        "Channels in steps of": str(spec.align),
        "Recovery": spec.recovery,
        "Training images looked at": f"at most {spec.calibration_images}" if spec.calibration_images else "none",
        "Rounds of cut and training": str(spec.steps),
        "Recipe": spec.recipe,
        "Epochs": f"at most {spec.epochs}" if spec.epochs else "no training",
        "Epochs run": str(len(record.curve)),
        "Patience, epochs": str(spec.patience),
        "Batch": str(spec.batch),
        "Seed": str(spec.seed),
        "Image size": f"{spec.imgsz} px",
        **({} if record.task == "classify" else {"Head measured": spec.head}),
        "Device asked for": spec.device or "chosen by Ultralytics",
        "Checkpoint, SHA-256": record.checkpoint_sha256 or "no checkpoint was kept",
        **{label: record.environment[name] for name, label in _ENVIRONMENT.items() if name in record.environment},
        "Measured": record.created,
        "Took": _took(record.seconds),
        "Key of the result": record.key,
    }


def _took(seconds: dict[str, float]) -> str:
    if not seconds:
        return "not recorded"
    stages = ", ".join(f"{stage} {formats.duration(time)}" for stage, time in seconds.items())
    return f"{formats.duration(sum(seconds.values()))} ({stages})"
