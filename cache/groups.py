"""Which results belong together: cut from the same weights, made in the same way, of one family."""

from __future__ import annotations

from collections.abc import Iterable

from cache.record import RunRecord
from compression.catalog import CATALOG
from compression.levels import ORIGINAL
from compression.spec import RunSpec


def basis_of(record: RunRecord) -> tuple[object, ...]:
    """What an original shares with the models that were cut from it: weights, data, image size and head."""
    spec = _spec(record)
    return (weights_of(record), spec.data_fingerprint, record.imgsz, record.head)


def weights_of(record: RunRecord) -> str | None:
    """Hash of the checkpoint that levels are cut from, or that a level was cut from; None of random weights."""
    spec = _spec(record)
    if record.level == ORIGINAL and spec.epochs:
        # An original that was trained for the data set is cut as the checkpoint that it left.
        return record.checkpoint_sha256 or spec.weights_sha256
    return spec.weights_sha256


def conditions_of(record: RunRecord) -> tuple[object, ...]:
    """Everything of the spec that decides the result, but the level and what follows from it."""
    spec = _spec(record)
    cut = (spec.criterion, spec.allocation, spec.recovery, spec.calibration_images, spec.align, spec.target.layers)
    return (*basis_of(record), *cut, *training_of(spec), spec.seed)


def training_of(spec: RunSpec) -> tuple[object, ...]:
    """How a model is fine-tuned, whatever was cut from it and whatever its seed."""
    return (spec.recipe, spec.steps, spec.epochs, spec.patience, spec.batch)


def family_of(architecture: str) -> str:
    """Architectures of the catalog differ within a family in size only; any other has no siblings but itself."""
    return CATALOG.get(architecture, architecture)


def originals_like(record: RunRecord, records: Iterable[RunRecord]) -> dict[str, RunRecord]:
    """The newest original of each architecture of a result's family, measured on the same data in the same way.

    Args:
        record: a measured result.
        records: those to choose from.
    """
    wanted = (_spec(record).data_fingerprint, record.imgsz, record.head, family_of(record.architecture))
    newest: dict[str, RunRecord] = {}
    for one in sorted(records, key=lambda one: one.created):
        if one.spec is None or one.level != ORIGINAL:
            continue
        if (one.spec.data_fingerprint, one.imgsz, one.head, family_of(one.architecture)) == wanted:
            newest[one.architecture] = one
    return newest


def _spec(record: RunRecord) -> RunSpec:
    assert record.spec is not None, "a measured record without a spec"
    return record.spec
