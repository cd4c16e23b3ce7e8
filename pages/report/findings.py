"""What a report is about: one model on one data set under one set of conditions, with all its seeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from cache.judged import times_of_series
from cache.latency import LatencyRecord
from cache.record import RunRecord
from cache.rivals import originals_of
from cache.sensitivity import SensitivityRecord, measured_like
from cache.series import Series, by_label, series_of
from cache.siblings import Neighbours, neighbours_of, rivals_among
from cache.timings import Times
from cache.verdict import Verdict, published_verdicts, verdicts_of
from compression.catalog import TaskName
from compression.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is told.

    Attributes:
        model: label.
        data: name of the data set.
        seeds: series that differ in their seed only; costs and plots are those of the first.
        neighbours: what they are compared with.
        verdicts: on what was measured.
        verdicts_published: on what was published of the architecture.
        latencies: of whatever was timed of these results.
        times: of the same, what can be compared with the original.
        sensitivity: of the layers; None where it was not measured.
        other_conditions: labels of what else was measured of the model on the data set, and is not told.
    """

    model: str
    data: str
    seeds: tuple[Series, ...]
    neighbours: Neighbours
    verdicts: tuple[Verdict, ...]
    verdicts_published: tuple[Verdict, ...]
    latencies: tuple[LatencyRecord, ...]
    times: Times
    sensitivity: SensitivityRecord | None
    other_conditions: tuple[str, ...]

    @property
    def task(self) -> TaskName:
        """What the models are for."""
        return self.series.any_record.task

    @property
    def series(self) -> Series:
        """The first one."""
        return self.seeds[0]

    @property
    def records(self) -> list[RunRecord]:
        """All measured results that are told, each once: by seed, then by level, custom targets last."""
        found = (record for series in self.seeds for _, record in sorted(series.levels.items()))
        custom = (record for series in self.seeds for record in series.custom)
        return list({record.key: record for record in (*found, *custom)}.values())


def findings_of(
    on_same_data: Sequence[RunRecord],
    latencies: Iterable[LatencyRecord],
    *,
    model: str,
    data: str,
    conditions: str | None = None,
    seed: int | None = None,
    key: str | None = None,
    find_sensitivities: Callable[[Collection[str]], Sequence[SensitivityRecord]] | None = None,
) -> Findings:
    """Choose what a report tells.

    Args:
        on_same_data: all results on the data set, also of other models: siblings are among them.
        latencies: of any checkpoints.
        model: label.
        data: name of the data set.
        conditions: label of the series; None for those that the dashboard shows first.
        seed: of the series that comes first; None for that with most levels.
        key: of a result of the wanted series, in place of `conditions`, which other results may change.
        find_sensitivities: of checkpoints, by their hashes, newest first.

    Raises:
        SpecError: nothing was measured of the model on the data set, or not under these conditions.
    """
    known = by_label(series_of(record for record in on_same_data if record.model == model))
    if not known:
        raise SpecError(
            f"Nothing is measured of {model!r} on {data!r}, so there is nothing to report; "
            f"`trimboard compare` lists what is known, `trimboard run` measures."
        )
    label = next(iter(known)) if conditions is None else conditions
    if key is not None:
        label = next((label for label, alike in known.items() if _has(alike, key)), label)
    if label not in known:
        raise SpecError(
            f"{model} on {data} is not measured under the conditions {label!r}; choose one of "
            f"{', '.join(map(repr, known))}."
        )
    seeds = sorted(known[label], key=lambda one: one.seed != seed)
    rivals, latencies = rivals_among(on_same_data), tuple(latencies)
    times = times_of_series(seeds, latencies)
    architecture = seeds[0].any_record.architecture
    return Findings(
        model=model,
        data=data,
        seeds=tuple(seeds),
        neighbours=neighbours_of(architecture, seeds[0], rivals),
        verdicts=tuple(verdicts_of(seeds, rivals, times)),
        verdicts_published=tuple(published_verdicts(architecture, rivals)),
        latencies=latencies,
        times=times,
        sensitivity=measured_like(seeds[0], find_sensitivities(originals_of(seeds[0]))) if find_sensitivities else None,
        other_conditions=tuple(one for one in known if one != label),
    )


def _has(alike: Iterable[Series], key: str) -> bool:
    return any(record.key == key for one in alike for record in (*one.levels.values(), *one.custom))
