"""Which results belong on one line: records that differ in nothing but their level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cache.record import RunRecord
from compression.levels import LEVELS, ORIGINAL
from compression.spec import RunSpec

CHECKPOINT = "checkpoint"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Measured results of one model on one data set under one set of conditions.

    Attributes:
        label: what distinguishes it, for a select box: "320 px · standard · 20 epochs · seed 0 · e2e".
        levels: the newest record of each measured level, 0 to 5.
        custom: records with a target of their own, which have no place on the slider.
    """

    label: str
    levels: dict[int, RunRecord]
    custom: tuple[RunRecord, ...] = ()

    @property
    def any_record(self) -> RunRecord:
        """Some record of the series, for what all of them share; a compressed one, if there is one."""
        compressed = [record for level, record in self.levels.items() if level != ORIGINAL]
        return (compressed or list(self.custom) or list(self.levels.values()))[0]

    @property
    def spec(self) -> RunSpec:
        """The spec of `any_record`."""
        return _spec(self.any_record)

    @property
    def n_measured(self) -> int:
        """How many of the levels 1 to 5 were measured."""
        return sum(level in self.levels for level in LEVELS)


def series_of(records: Iterable[RunRecord]) -> list[Series]:
    """Group the measured records of one model and data set; most measured levels first, then the newest.

    Originals join every series that was cut from their weights; where none was, they are a series of their own.
    """
    compressed: dict[tuple[object, ...], list[RunRecord]] = defaultdict(list)
    originals: dict[tuple[object, ...], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.provenance != "measured" or record.spec is None:
            continue
        if record.level == ORIGINAL:
            originals[_basis(record)].append(record)
        else:
            compressed[_conditions(record)].append(record)
    groups = [[*originals.get(_basis(group[0]), []), *group] for group in compressed.values()]
    cut = {_basis(group[0]) for group in compressed.values()}
    groups += [group for basis, group in originals.items() if basis not in cut]
    return sorted(_named(groups), key=lambda one: (one.n_measured, one.any_record.created), reverse=True)


def newest(all_series: Sequence[Series]) -> Series:
    """The series with the latest result."""
    return max(all_series, key=lambda one: max(record.created for record in (*one.levels.values(), *one.custom)))


def _conditions(record: RunRecord) -> tuple[object, ...]:
    """Everything of the spec that decides the result, but the level and what follows from it."""
    spec = _spec(record)
    return (*_basis(record), spec.recipe, spec.criterion, spec.epochs, spec.patience, spec.batch, spec.seed)


def _basis(record: RunRecord) -> tuple[object, ...]:
    """What an original shares with the models that were cut from it: weights, data, image size and head."""
    spec = _spec(record)
    weights = spec.weights_sha256
    if record.level == ORIGINAL:
        # An original that was trained from random weights is cut as the checkpoint that it left.
        left = (artifact.sha256 for artifact in record.artifacts if artifact.name == CHECKPOINT)
        weights = next(left, weights)
    return (weights, spec.data_fingerprint, record.imgsz, record.head)


def _spec(record: RunRecord) -> RunSpec:
    assert record.spec is not None, "a measured record without a spec"
    return record.spec


def _named(groups: list[list[RunRecord]]) -> list[Series]:
    short = [_label(group) for group in groups]
    alike = {label: [group for group, own in zip(groups, short, strict=True) if own == label] for label in short}
    result = []
    for group, label in zip(groups, short, strict=True):
        by_date = sorted(group, key=lambda record: record.created)
        result.append(
            Series(
                label=" · ".join((label, *_distinction(group, alike[label]))),
                levels={record.level: record for record in by_date if record.level is not None},
                custom=tuple(record for record in by_date if record.level is None),
            )
        )
    return result


def _label(group: list[RunRecord]) -> str:
    # The last one is compressed, if any is.
    record, spec = group[-1], _spec(group[-1])
    if record.level == ORIGINAL:
        return f"{record.imgsz} px · original only · {record.head}"
    epochs = f"{spec.epochs} epoch{'s' * (spec.epochs != 1)}"
    return f"{record.imgsz} px · {spec.recipe} · {epochs} · seed {spec.seed} · {record.head}"


def _distinction(group: list[RunRecord], alike: list[list[RunRecord]]) -> list[str]:
    """What else tells a series from those of the same short label."""
    details = [_details(other) for other in alike]
    return [text for place, text in enumerate(_details(group)) if any(other[place] != text for other in details)]


def _details(group: list[RunRecord]) -> tuple[str, ...]:
    spec = _spec(group[-1])
    weights = f"weights {spec.weights_sha256[:8]}" if spec.weights_sha256 else "random weights"
    data = f"data {spec.data_fingerprint[:8]}"
    return (f"batch {spec.batch}", f"patience {spec.patience}", spec.criterion, weights, data)
