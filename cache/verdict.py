"""Prune, or take the smaller sibling? The answer for each level, in words, with its figures and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cache.further_runs import sibling_request, with_another_seed
from cache.judgement import Axis, Candidate, Judgement, judge, signed
from cache.record import Costs, RunRecord
from cache.rivals import (
    DEPLOYED,
    TRAINING,
    Rivals,
    accuracies_of,
    by_cut,
    costs_of,
    gflops_of,
    published_rivals,
    rivals_of,
    smaller_siblings,
)
from cache.series import Series, capitalized, cut_named
from cache.siblings import neighbours_of
from cache.spread import Spread
from cache.summary import Cell, rounded
from cache.timings import Times
from compression.catalog import CATALOG, TaskName
from compression.levels import LEVELS
from compression.models.tasks import TASKS, head_in_words

Word = Literal["prune", "sibling", "undecided", "none smaller", "unknown"]

# Column -> pandas type, behind those of `cache.summary`. Accuracies are parts of 1, differences points of mAP50-95.
VERDICT_COLUMNS = {
    "verdict": "str",
    "verdict_at": "str",
    "siblings_map50_95": "float64",
    "siblings_difference_points": "float64",
    "siblings_difference_low_points": "float64",
    "siblings_difference_high_points": "float64",
}

_ONE_SEED = "One seed does not tell how sure this is."


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do about one level, and why.

    Attributes:
        name: of the level, within a sentence.
        level: 1 to 5; None for a custom target.
        keys: of the results that it is about, one a seed; empty where only a plan is known.
        word: prune it, take a sibling, undecided between both, no sibling is so small, or not known.
        text: the verdict with its figures.
        sureness: how sure that is; empty where there is nothing to be sure of.
        command: what to run to know it, or to know it better; empty where nothing helps.
        judgement: the figures; None where no sibling could be compared.
    """

    name: str
    level: int | None
    keys: tuple[str, ...]
    word: Word
    text: str
    sureness: str = ""
    command: str = ""
    judgement: Judgement | None = None

    def cells(self) -> dict[str, Cell]:
        """The row of VERDICT_COLUMNS: accuracies rounded to 5 decimals, points to 2."""
        found = self.judgement
        if found is None:
            return {**dict.fromkeys(VERDICT_COLUMNS), "verdict": self.word}
        low, high = found.interval or (None, None)
        points = (rounded(number, 2) for number in (found.difference, low, high))
        return dict(zip(VERDICT_COLUMNS, (self.word, found.axis.name, rounded(found.line, 5), *points), strict=True))

    def to_dict(self) -> dict[str, object]:
        """As plain data."""
        texts = {"text": self.text, "sureness": self.sureness, "command": self.command}
        return {"level": self.level, "name": self.name, "keys": list(self.keys), **self.cells(), **texts}


def verdicts_of(
    same_conditions: Sequence[Series],
    on_same_data: Sequence[RunRecord],
    times: Times,
    planned: Mapping[int, Costs] | None = None,
) -> list[Verdict]:
    """Judge what was cut from one model under one set of conditions.

    Args:
        same_conditions: series that differ in their seed only; the first one that has a level gives its costs.
        on_same_data: all records on the data set, or those of them that `rivals_among` gives.
        times: of checkpoints, as ratios to the original.
        planned: costs of levels that were not measured.

    Returns:
        By level, custom targets last; what cuts nothing is left out.
    """
    rivals = rivals_of(same_conditions, on_same_data, times)
    cuts = by_cut(same_conditions)
    found = [_measured(cut, records, rivals, same_conditions[0], times) for (cut, _), records in cuts.items()]
    known = {verdict.level for verdict in found}
    found += [
        _prospect(level, costs, rivals, same_conditions[0])
        for level, costs in (planned or {}).items()
        if level not in known
    ]
    return sorted(found, key=lambda verdict: verdict.level or len(LEVELS) + 1)


def published_verdicts(architecture: str, on_same_data: Sequence[RunRecord]) -> list[Verdict]:
    """Judge the published levels of an architecture by its published siblings.

    Args:
        architecture: catalog name.
        on_same_data: all records on the data set, or those of them that `rivals_among` gives.
    """
    neighbours = neighbours_of(architecture, None, on_same_data)
    siblings = published_rivals(neighbours)
    verdicts = []
    for record in neighbours.published:
        name, accuracies = f"level {record.level}", accuracies_of([record])
        level = Candidate(name=name, accuracies=accuracies, costs=costs_of(record, {}), published=True)
        found = judge(level, siblings, (DEPLOYED, TRAINING), None) if accuracies else None
        if found:
            verdict = _judged(found, architecture, record.level, (record.key,), record.task)
            sureness = "All figures are published, one run each, so nothing tells how sure this is."
            verdicts.append(replace(verdict, sureness=sureness))
    return verdicts


def _measured(cut: str, records: Sequence[RunRecord], rivals: Rivals, series: Series, times: Times) -> Verdict:
    number, keys = records[0].level, tuple(record.key for record in records)
    name = cut if number is not None else cut_named(cut)
    level = Candidate(name=name, accuracies=accuracies_of(records), costs=costs_of(records[0], times))
    found = _by_siblings(level, rivals) if level.accuracies else None
    if found is None:
        verdict = _alone(level, number, keys, rivals, series)
    else:
        verdict = _judged(found, rivals.original.name, number, keys, series.any_record.task)
        verdict = replace(verdict, sureness=_sureness(found, rivals, series))
    if verdict.sureness.startswith(_ONE_SEED):
        verdict = replace(verdict, command=with_another_seed(records))
    return verdict


def _prospect(number: int, costs: Costs, rivals: Rivals, series: Series) -> Verdict:
    """What a level that was only planned has to beat."""
    level = Candidate(name=f"level {number}", accuracies=(), costs=gflops_of(costs))
    found = _by_siblings(level, rivals)
    if found is None:
        return _alone(level, number, (), rivals, series)
    text = (
        f"Not known: {level.name} is not measured. At the {_cost_of(found)} that are planned for it, it has to beat "
        f"{_line_of(found)}."
    )
    return Verdict(name=level.name, level=number, keys=(), word="unknown", text=text, judgement=found)


def _by_siblings(level: Candidate, rivals: Rivals) -> Judgement | None:
    """By what was measured alike; by published siblings where no measured one is small enough."""
    measured = judge(level, (rivals.original, *rivals.siblings), rivals.axes, rivals.spread)
    if measured:
        return measured
    slower = {one.name for one in rivals.siblings for axis in rivals.axes if _costs_more(one, level, axis)}
    return judge(level, rivals.published, rivals.axes, None, dearer=slower)


def _costs_more(one: Candidate, level: Candidate, axis: Axis) -> bool:
    return axis in one.costs and axis in level.costs and one.costs[axis] > level.costs[axis]


def _judged(found: Judgement, original: str, number: int | None, keys: tuple[str, ...], task: TaskName) -> Verdict:
    word, lead = _lead(found, original)
    if found.interval is None:
        lead += f", as far as {'published figures tell' if found.published else 'one seed tells'}"
    side = "above" if (found.difference or 0) > 0 else "below"
    text = (
        f"{lead}: {found.level.name} has {TASKS[task].main} {_accuracy_of(found.level)} at {_cost_of(found)}, "
        f"{abs(found.difference or 0):.1f} points {side} {_line_of(found)}."
    )
    return Verdict(name=found.level.name, level=number, keys=keys, word=word, text=text, judgement=found)


def _lead(found: Judgement, original: str) -> tuple[Word, str]:
    """The verdict in one word, and how its sentence begins.

    Args:
        found: the figures.
        original: name of the model that was cut.
    """

    def turn_to(name: str) -> str:
        return f"keep {name}" if name == original else f"take {name}"

    if found.outcome == "undecided":
        return "undecided", "Cannot be told apart"
    if found.outcome == "better":
        return "prune", "Prune"
    if found.dominating:
        return "sibling", capitalized(turn_to(found.dominating.name))
    low, high = (share.sibling.name for share in found.shares)
    return "sibling", f"Rather {turn_to(low)} or {turn_to(high)}"


def _cost_of(found: Judgement) -> str:
    return found.axis.form.format(found.cost)


def _line_of(found: Judgement) -> str:
    label = ", published" if found.published else ""
    if len(found.shares) == 1:
        sibling = found.shares[0].sibling
        return f"the {found.line:.3f} of {sibling.name} ({found.axis.form.format(sibling.costs[found.axis])}{label})"
    low, high = (share.sibling.name for share in found.shares)
    return f"the {found.line:.3f} of the line from {low} to {high} (unpruned{label})"


def _accuracy_of(candidate: Candidate) -> str:
    n_seeds = len(candidate.accuracies)
    return f"{candidate.accuracy:.3f}" + (f" (mean of {n_seeds} seeds)" if n_seeds > 1 else "")


def _sureness(found: Judgement, rivals: Rivals, series: Series) -> str:
    if found.interval and found.spread:
        said = [_interval(*found.interval, found.spread)]
    elif found.published:
        said = ["The siblings' figures are published, not measured here under the same conditions."]
    else:
        said = [_ONE_SEED]
    if found.axis not in (DEPLOYED, TRAINING):
        said.append(f"By measured {found.axis.name}; that times vary too is not in it.")
    if not found.published:
        said += _flattery(found.level, rivals, series)
    return " ".join(said)


def _flattery(level: Candidate, rivals: Rivals, series: Series) -> list[str]:
    epochs = series.spec.epochs
    if rivals.tuned or not epochs:
        return []
    name = capitalized(level.name)
    return [f"{name} was fine-tuned for up to {epochs} epochs and the unpruned models were not, which flatters it."]


def _interval(low: float, high: float, spread: Spread) -> str:
    return (
        f"95% interval of the difference: {signed(low)} to {signed(high)} points (spread among seeds, pooled over "
        f"all that was repeated here; {spread.degrees} degree{'s' * (spread.degrees != 1)} of freedom)."
    )


def _alone(level: Candidate, number: int | None, keys: tuple[str, ...], rivals: Rivals, series: Series) -> Verdict:
    """No sibling costs as little: because there is none, or because it was not measured."""
    own = series.any_record
    verdict = Verdict(name=level.name, level=number, keys=keys, word="unknown", text="")
    if own.architecture not in CATALOG:
        text = f"Not known: {own.architecture} is not in the catalog, so its siblings are unknown."
        return replace(verdict, text=text)
    known = {one.name for one in (*rivals.siblings, *rivals.published)}
    missing = [name for name in smaller_siblings(own.architecture) if name not in known]
    if missing:
        text = (
            f"Not known: no smaller sibling of {own.model} is measured on {own.data} under these conditions "
            f"({own.imgsz} pixels, {head_in_words(own.task, own.head)}) that costs as little as {level.name}."
        )
        return replace(verdict, text=text, command=sibling_request(missing[0], series).command())
    text, sureness = _only_pruning(level, rivals, series)
    return replace(verdict, word="none smaller", text=text, sureness=sureness)


def _only_pruning(level: Candidate, rivals: Rivals, series: Series) -> tuple[str, str]:
    """Text and sureness where no sibling is so small."""
    architecture = series.any_record.architecture
    smallest = [architecture, *smaller_siblings(architecture)][-1]
    text = f"Only pruning goes there: no {CATALOG[architecture].replace('yolo', 'YOLO')} is smaller than {smallest}."
    original = rivals.original
    axis = next((axis for axis in rivals.axes if axis in level.costs), None)
    if axis is None or not level.accuracies or not original.accuracies:
        return text, ""
    points = 100 * (level.accuracy - original.accuracy)
    tuned = " after the same fine-tuning" if rivals.tuned else ""
    name = TASKS[series.any_record.task].main
    text += (
        f" {capitalized(level.name)} has {name} {_accuracy_of(level)} at {axis.form.format(level.costs[axis])}, "
        f"the unpruned {original.name}{tuned} {_accuracy_of(original)}: {signed(points)} points."
    )
    said = _ONE_SEED
    if rivals.spread is not None:
        half = 100 * rivals.spread.half_width(1 / len(level.accuracies) + 1 / len(original.accuracies))
        said = _interval(points - half, points + half, rivals.spread)
    return text, " ".join([said, *_flattery(level, rivals, series)])
