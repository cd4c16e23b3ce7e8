"""Which measured models can be exported here: those whose checkpoint lies on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.record import CHECKPOINT, RunRecord
from cache.series import Series, cut_in_words, series_of
from cache.store import known_of
from pages.parts.choices import choices_of


@dataclass(frozen=True, kw_only=True)
class Deployable:
    """A measured model with its checkpoint.

    Attributes:
        conditions: how it was cut and fine-tuned, as on Explore.
        seed: of the fine-tuning.
        level: "0" to "5", or what a target of its own keeps.
        record: its result.
        checkpoint: the .pt.
        sha256: of the same.
    """

    conditions: str
    seed: int
    level: str
    record: RunRecord
    checkpoint: Path
    sha256: str

    @property
    def model(self) -> str:
        """Label of the model."""
        return self.record.model

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.record.data


def deployables(
    records: Sequence[RunRecord], artifact_path: Callable[[RunRecord], Path | None]
) -> tuple[Deployable, ...]:
    """All of them, in the order in which Explore offers their models, data sets and conditions.

    Args:
        records: all results.
        artifact_path: where a record's checkpoint lies, None if it is not on this machine.
    """
    here = {record.key: path for record in records if (path := artifact_path(record)) is not None}
    choices = choices_of(map(known_of, records), ())
    pairs = list(dict.fromkeys((record.model, record.data) for record in records if record.key in here))
    pairs.sort(key=lambda pair: (choices.models.index(pair[0]), choices.datasets.index(pair[1])))
    found: list[Deployable] = []
    for pair in pairs:
        for series in series_of(record for record in records if (record.model, record.data) == pair):
            found += _of_series(series, here)
    return tuple(found)


def _of_series(series: Series, here: dict[str, Path]) -> list[Deployable]:
    records = [*(record for _, record in sorted(series.levels.items())), *series.custom]
    return [
        Deployable(
            conditions=series.label,
            seed=series.seed,
            level=_level(record),
            record=record,
            checkpoint=here[record.key],
            sha256=next(artifact.sha256 for artifact in record.artifacts if artifact.name == CHECKPOINT),
        )
        for record in records
        if record.key in here
    ]


def _level(record: RunRecord) -> str:
    if record.level is not None:
        return str(record.level)
    assert record.spec is not None, "a measured record without a spec"
    return cut_in_words(record.spec)
