"""Verdicts and measured times of many results, as they stand beside a comparison."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cache.latency import LatencyRecord
from cache.record import RunRecord
from cache.rivals import originals_of
from cache.series import Series, by_label, series_of
from cache.siblings import rivals_among
from cache.summary import Cell
from cache.timings import LATENCY_COLUMNS, Times, latency_cells, times_of
from cache.verdict import VERDICT_COLUMNS, Verdict, published_verdicts, verdicts_of

# Column -> pandas type, behind those of `cache.summary`.
BESIDE_COLUMNS = {**VERDICT_COLUMNS, **LATENCY_COLUMNS}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One model on one data set under one set of conditions.

    Attributes:
        model: label.
        data: name of the data set.
        conditions: label of the series, or "published".
        verdicts: of its levels and custom targets.
        beside: cells of BESIDE_COLUMNS, by key of the result; missing ones are left out.
    """

    model: str
    data: str
    conditions: str
    verdicts: tuple[Verdict, ...]
    beside: dict[str, dict[str, Cell]]


def judged(records: Sequence[RunRecord], latencies: Iterable[LatencyRecord], model: str | None = None) -> list[Judged]:
    """Judge all results, in their order.

    Args:
        records: all that is known of the data sets, also of other models: siblings are among them.
        latencies: of any checkpoints.
        model: judge only results of this label.
    """
    latencies = list(latencies)
    on_data: dict[str, list[RunRecord]] = {}
    for record in records:
        on_data.setdefault(record.data, []).append(record)
    # A few of thousands, so that not each set of conditions goes through all.
    rivals = {data: rivals_among(known) for data, known in on_data.items()}
    chosen = dict.fromkeys((record.model, record.data) for record in records if model in (None, record.model))
    mine = {(label, data): [one for one in on_data[data] if one.model == label] for label, data in chosen}
    return [one for pair, own in mine.items() for one in _judged_pair(*pair, own, rivals[pair[1]], latencies)]


def beside_of(
    records: Sequence[RunRecord], latencies: Iterable[LatencyRecord], model: str | None = None
) -> dict[str, dict[str, Cell]]:
    """The cells of BESIDE_COLUMNS by key of the result; see `judged`."""
    return {key: cells for one in judged(records, latencies, model) for key, cells in one.beside.items()}


def times_of_series(same_conditions: Sequence[Series], latencies: Iterable[LatencyRecord]) -> Times:
    """Times of whatever can be compared with the original of a series, as ratios to it."""
    record = same_conditions[0].any_record
    return times_of(latencies, originals_of(same_conditions[0]), imgsz=record.imgsz, head=record.head)


def checkpoints_of(records: Iterable[RunRecord]) -> Collection[str]:
    """Hashes of the checkpoints that results left."""
    return {record.checkpoint_sha256 for record in records if record.checkpoint_sha256}


def _judged_pair(
    model: str, data: str, mine: list[RunRecord], rivals: list[RunRecord], latencies: list[LatencyRecord]
) -> list[Judged]:
    found = []
    for conditions, same in by_label(series_of(mine)).items():
        times = times_of_series(same, latencies)
        verdicts = verdicts_of(same, rivals, times)
        beside: dict[str, dict[str, Cell]] = {}
        for record in (record for series in same for record in (*series.levels.values(), *series.custom)):
            beside[record.key] = latency_cells(record, times)
        found.append(_judged(model, data, conditions, verdicts, beside))
    published = published_verdicts(model, rivals) if any(one.provenance == "published" for one in mine) else []
    return [*found, *([_judged(model, data, "published", published, {})] if published else [])]


def _judged(
    model: str, data: str, conditions: str, verdicts: Sequence[Verdict], beside: dict[str, dict[str, Cell]]
) -> Judged:
    for verdict in verdicts:
        for key in verdict.keys:
            beside[key] = {**beside.get(key, {}), **verdict.cells()}
    return Judged(model=model, data=data, conditions=conditions, verdicts=tuple(verdicts), beside=beside)
