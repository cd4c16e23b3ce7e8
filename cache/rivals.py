"""Who competes with the levels of a series: its original and smaller siblings, as candidates of `cache.judgement`.

A narrower model that was trained from scratch is no rival: its record does not tell it from one that was pruned
elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cache.judgement import Axis, Candidate
from cache.record import Costs, RunRecord
from cache.series import Series, cut_in_words
from cache.siblings import Neighbours, is_uncut, neighbours_of, repeats_of, tuned_alike
from cache.spread import Spread, pooled
from cache.timings import Setting, Times
from compression.catalog import CATALOG
from compression.levels import ORIGINAL
from compression.spec import LatencyTarget

DEPLOYED = Axis(name="deployed GFLOPs", form="{:.3g} deployed GFLOPs")
TRAINING = Axis(name="GFLOPs of the training graph", form="{:.3g} GFLOPs of the training graph")


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """What the levels of some series are judged by.

    Attributes:
        original: the model that they were cut from.
        siblings: smaller unpruned models, measured alike.
        published: the family as published, for the same image size and head.
        tuned: accuracies of original and siblings are after the fine-tuning that the levels got, not as they are.
        axes: costs to compare at, the preferred one first.
        spread: of seeds, pooled over everything that was repeated; None where nothing was.
    """

    original: Candidate
    siblings: tuple[Candidate, ...]
    published: tuple[Candidate, ...]
    tuned: bool
    axes: tuple[Axis, ...]
    spread: Spread | None


def rivals_of(same_conditions: Sequence[Series], on_same_data: Sequence[RunRecord], times: Times) -> Rivals:
    """Find the rivals of what was cut from one model under one set of conditions.

    Original and siblings count after the fine-tuning that the levels got where that was measured of all of them;
    otherwise they count as they are, since one alone would be flattered.

    Args:
        same_conditions: series that differ in their seed only.
        on_same_data: all records on the data set, or those of them that `rivals_among` gives.
        times: of checkpoints, as ratios to the original.
    """
    series = same_conditions[0]
    own = series.any_record
    neighbours = neighbours_of(own.architecture, series, on_same_data)
    smaller = [one for one in neighbours.siblings if one.architecture in smaller_siblings(own.architecture)]
    own_tuned = tuned_alike(own, series, on_same_data)
    others_tuned = [tuned_alike(one, series, on_same_data) for one in smaller]
    tuned = bool(own_tuned) and all(others_tuned)
    others = others_tuned if tuned else [repeats_of(one, on_same_data) for one in smaller]
    as_it_is = own.metrics_original.map50_95
    return Rivals(
        original=Candidate(
            name=own.model,
            accuracies=accuracies_of(own_tuned) if tuned else () if as_it_is is None else (as_it_is,),
            costs={**dict.fromkeys(map(time_axis, times), 1.0), **gflops_of(own.costs_original)},
        ),
        siblings=tuple(
            Candidate(name=one.architecture, accuracies=accuracies_of(records), costs=costs_of(one, times))
            for one, records in zip(smaller, others, strict=True)
        ),
        published=published_rivals(neighbours),
        tuned=tuned,
        axes=(*map(time_axis, times), DEPLOYED, TRAINING),
        spread=pooled(map(accuracies_of, [*by_cut(same_conditions).values(), own_tuned, *others])),
    )


def published_rivals(neighbours: Neighbours) -> tuple[Candidate, ...]:
    """The unpruned models of a publication."""
    return tuple(
        Candidate(name=one.architecture, accuracies=accuracies_of([one]), costs=gflops_of(one.costs), published=True)
        for one in neighbours.siblings_published
    )


def smaller_siblings(architecture: str) -> list[str]:
    """Smaller models of the same family in the catalog, the next one first; none of what is not in it."""
    family = [name for name in CATALOG if CATALOG[name] == CATALOG.get(architecture)]
    return family[: family.index(architecture)][::-1] if family else []


def originals_of(series: Series) -> set[str]:
    """Hashes that the original of a series is known by: of the file that was given, and of the one that was kept."""
    original = series.levels.get(ORIGINAL)
    known = (series.spec.weights_sha256, original.checkpoint_sha256 if original else None)
    return {sha256 for sha256 in known if sha256}


def accuracies_of(records: Iterable[RunRecord]) -> tuple[float, ...]:
    """MAP50-95 on the validation images, as far as it is known."""
    return tuple(r.metrics.map50_95 for r in records if r.metrics.map50_95 is not None)


def costs_of(record: RunRecord, times: Times) -> dict[Axis, float]:
    """Costs of a result on all axes, as far as they are known.

    A time that cannot be told from the original's is left out: by it a level would be as slow as the original, or not,
    by chance.
    """
    ratios: dict[Axis, float] = {}
    for setting, own in times.items():
        time = own.get(record.checkpoint_sha256 or "")
        if time and time.ratio and time.ratio_low and time.ratio_high and not time.ratio_low <= 1 <= time.ratio_high:
            ratios[time_axis(setting)] = time.ratio
    return {**ratios, **gflops_of(record.costs)}


def time_axis(setting: Setting) -> Axis:
    """The axis of measured times."""
    return Axis(name=f"time on {setting.label}", form=f"{{:.2f}} of the original's time on {setting.backend}")


def gflops_of(costs: Costs) -> dict[Axis, float]:
    """Costs that need no checkpoint: of a result, or of a plan."""
    known = {DEPLOYED: costs.gflops_deployed, TRAINING: costs.gflops}
    return {axis: cost for axis, cost in known.items() if cost is not None}


def by_cut(same_conditions: Sequence[Series]) -> dict[tuple[str, LatencyTarget | None], list[RunRecord]]:
    """What was cut, one record a seed, by how far it was cut, in words; equal times of two machines are two cuts."""
    groups: dict[tuple[str, LatencyTarget | None], list[RunRecord]] = defaultdict(list)
    for record in (record for series in same_conditions for record in series.compressed):
        if record.spec is not None and not is_uncut(record):
            groups[cut_in_words(record.spec), record.spec.target.latency].append(record)
    # The mildest cut first.
    return dict(sorted(groups.items(), key=lambda item: -(item[1][0].costs.gflops or 0)))
