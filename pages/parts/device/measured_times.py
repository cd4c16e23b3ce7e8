"""Measured times of a level, in turn with the original, and the command that measures those that are missing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cache.latency import LatencyRecord
from cache.record import SHORT_KEY, RunRecord
from cache.rivals import originals_of, smaller_siblings
from cache.series import Series
from cache.siblings import is_uncut
from cache.timings import Setting, Times, setting_of
from compression.image_size import in_pixels
from compression.levels import ORIGINAL

# What the bench command's help calls a pass; the same holds for each time here.
INCLUDED = "Forward pass only: without reading the image, and without non-maximum suppression."


@dataclass(frozen=True, kw_only=True)
class MeasuredTimes:
    """What is shown of the times of one level.

    Attributes:
        rows: one for each setting: what ran it, median, 95th percentile, ratio to the original with its interval.
        line: the newest of each backend in full precision, in turn with the original; empty if there is none.
        note: machines and what a time includes.
    """

    rows: pd.DataFrame
    line: str
    note: str


def measured_times(record: RunRecord, latencies: Iterable[LatencyRecord], originals: set[str]) -> MeasuredTimes:
    """Arrange what was measured of one checkpoint; empty where nothing was.

    Args:
        record: the level's result.
        latencies: of any checkpoints.
        originals: hashes that its original is known by; ratios to anything else are not told.
    """
    newest: dict[Setting, LatencyRecord] = {}
    for one in sorted(latencies, key=lambda one: (one.spec.reference_sha256 in originals, one.created)):
        # Other levers, which are compared with the original as it is, have a page of their own.
        if one.spec.weights_sha256 == record.checkpoint_sha256 and one.spec.is_against_its_like:
            newest[setting_of(one.spec)] = one
    found = sorted(newest.items(), key=lambda item: item[1].created, reverse=True)
    machines = list(dict.fromkeys(setting.machine for setting, _ in found))
    by_backend: dict[str, LatencyRecord] = {}
    for setting, one in found:
        alike = (setting.imgsz, setting.head, setting.precision) == (record.imgsz, record.head, "fp32")
        if alike and one.spec.reference_sha256 in originals:
            by_backend.setdefault(setting.backend, one)
    return MeasuredTimes(
        rows=pd.DataFrame([_row(setting, one, record, originals, len(machines) > 1) for setting, one in found]),
        line="; ".join(
            f"{backend} {_ms(one.median_ms)}, {_ratio(one)} of the original's" for backend, one in by_backend.items()
        ),
        note=f"{'; '.join(machines)}. {INCLUDED}" if found else "",
    )


def bench_command(
    series: Series, siblings: Sequence[RunRecord], times: Times, find_checkpoint: Callable[[RunRecord], Path | None]
) -> str:
    """The command that times what was not timed yet: levels, and the siblings that a verdict compares them with.

    Args:
        series: the levels.
        siblings: unpruned models, measured alike.
        times: what is known, as ratios to the original.
        find_checkpoint: where a record's checkpoint lies on this machine, None if it does not.

    Returns:
        Empty where nothing is missing that could be timed on this machine.
    """
    smaller = [one for one in siblings if one.architecture in smaller_siblings(series.any_record.architecture)]
    known = {sha256 for own in times.values() for sha256 in own}
    missing = [
        record.key[:SHORT_KEY]
        for record in [*series.compressed, *smaller]
        if record.checkpoint_sha256 not in known and not is_uncut(record) and find_checkpoint(record)
    ]
    original = series.levels.get(ORIGINAL)
    here = original is not None and find_checkpoint(original)
    against = original.key[:SHORT_KEY] if original and here else series.spec.model
    if not missing or not (here or Path(against).is_file()):
        return ""
    own = series.any_record
    return shlex.join(
        ["trimboard", "bench", *missing, "--against", against, "--imgsz", str(own.imgsz), "--head", own.head]
    )


def ratios_of(series: Series, own: dict[str, LatencyRecord]) -> dict[str, float]:
    """Times as parts of the original's, by hash of the checkpoint, the original among them.

    Args:
        series: whose original is meant.
        own: the times of one setting.
    """
    ratios = {sha256: record.ratio for sha256, record in own.items() if record.ratio is not None}
    return {**ratios, **dict.fromkeys(originals_of(series), 1.0)}


def _row(
    setting: Setting, found: LatencyRecord, record: RunRecord, originals: set[str], several_machines: bool
) -> dict[str, str]:
    size = [] if setting.imgsz == record.imgsz else [f"{in_pixels(setting.imgsz)} px"]
    head = [] if setting.head == record.head else [f"{setting.head} head"]
    ratio = "not timed"
    if found.spec.reference_sha256 in originals:
        ratio = _ratio(found)
    return {
        "Measured on": ", ".join([setting.label if several_machines else setting.without_machine, *size, *head]),
        "Median": _ms(found.median_ms),
        "95% below": _ms(found.p95_ms),
        "Original = 1": ratio,
    }


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.3g} ms"


def _ratio(found: LatencyRecord) -> str:
    return f"{found.ratio:.3f} ({found.ratio_low:.3f} to {found.ratio_high:.3f})"
