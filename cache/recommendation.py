"""Which level to take within a budget, how sure that is, and which levels seeds do not tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from cache.judgement import signed
from cache.latency import LatencyRecord
from cache.record import Costs, RunRecord
from cache.rivals import Rivals, accuracies_of, by_cut
from cache.series import Series, capitalized, cut_named
from cache.spread import Spread
from cache.timings import original_ms
from compression.levels import LEVELS, ORIGINAL

CostName = Literal["gflops", "params", "size", "time"]
BudgetName = Literal["loss", CostName]

# Units of costs within a sentence; parameters and sizes are in millions.
UNITS: dict[CostName, str] = {"gflops": "GFLOPs", "params": "M parameters", "size": "MB", "time": "ms"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent at most.

    Attributes:
        name: accuracy lost against the original, or a cost.
        limit: points of mAP50-95; GFLOPs or millions of parameters of the training graph; megabytes of the checkpoint;
            or milliseconds a pass.
    """

    name: BudgetName
    limit: float


@dataclass(frozen=True, kw_only=True)
class Option:
    """A model that can be recommended.

    Attributes:
        name: within a sentence: "level 3", "the original", "the cut to 40% of the GFLOPs".
        level: 0 to 5; None for a custom target.
        accuracies: mAP50-95 of each seed, parts of 1; one at least.
        costs: in the units of `Budget.limit`, as far as they are known.
        key: of the first seed's result; empty of an original that has none of its own.
        seed: of the same; None of the original.
        tuned: an original after the fine-tuning that the levels got, and not as it was given.
    """

    name: str
    level: int | None
    accuracies: tuple[float, ...]
    costs: Mapping[CostName, float]
    key: str = ""
    seed: int | None = None
    tuned: bool = False

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return fmean(self.accuracies)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to take.

    Attributes:
        option: the recommended one; None where none is within the budget.
        lead: the answer in a few words: "Take level 4".
        text: why, with its figures.
        sureness: what seeds say of it.
        missing: which levels are not known; empty where all are.
    """

    option: Option | None
    lead: str
    text: str
    sureness: str = ""
    missing: str = ""


def options_of(
    same_conditions: Sequence[Series], rivals: Rivals, times: Mapping[str, LatencyRecord] | None
) -> list[Option]:
    """What was measured under one set of conditions: the original first, then the mildest cut first.

    Args:
        same_conditions: series that differ in their seed only.
        rivals: of the same; its original counts after the same fine-tuning where that was measured.
        times: of one setting, by hash of the checkpoint; None where nothing was timed.
    """
    base = original_ms(times) if times else None
    cuts = by_cut(same_conditions)
    options = [_option_of(cut, records, times or {}, base) for (cut, _), records in cuts.items()]
    return [*_original(same_conditions[0], rivals, base), *(one for one in options if one.accuracies)]


def _original(series: Series, rivals: Rivals, base: float | None) -> list[Option]:
    if not rivals.original.accuracies:
        return []
    record = series.levels.get(ORIGINAL)
    return [
        Option(
            name="the original after the same fine-tuning" if rivals.tuned else "the original",
            level=ORIGINAL,
            accuracies=rivals.original.accuracies,
            costs=_costs(series.any_record.costs_original, record, base),
            tuned=rivals.tuned,
        )
    ]


def _option_of(
    cut: str, records: Sequence[RunRecord], times: Mapping[str, LatencyRecord], base: float | None
) -> Option:
    record = records[0]
    timed = times.get(record.checkpoint_sha256 or "")
    time = base * timed.ratio if base is not None and timed is not None and timed.ratio is not None else None
    return Option(
        name=cut if record.level is not None else cut_named(cut),
        level=record.level,
        accuracies=accuracies_of(records),
        costs=_costs(record.costs, record, time),
        key=record.key,
        seed=record.spec.seed if record.spec else None,
    )


def _costs(costs: Costs, record: RunRecord | None, time: float | None) -> dict[CostName, float]:
    size = record.checkpoint_mb if record else None
    params = costs.params / 1e6 if costs.params is not None else None
    known: dict[CostName, float | None] = {"gflops": costs.gflops, "params": params, "size": size, "time": time}
    return {name: value for name, value in known.items() if value is not None}


def advise(options: Sequence[Option], budget: Budget, spread: Spread | None, accuracy: str = "mAP50-95") -> Advice:
    """The cheapest option that loses no more accuracy than allowed, or the most accurate one that costs no more.

    Args:
        options: of `options_of`.
        budget: what may be spent.
        spread: of seeds, parts of 1; None where nothing was repeated.
        accuracy: what it is called.
    """
    known = {option.level for option in options}
    missing = [level for level in LEVELS if level not in known]
    within = _within_loss if budget.name == "loss" else _within_cost
    advice = within(options, budget, spread, accuracy)
    if not missing:
        return advice
    noun = "Level" if len(missing) == 1 else "Levels"
    verb = "is" if len(missing) == 1 else "are"
    said = f"{noun} {_listed(map(str, missing))} {verb} not measured under these conditions."
    return replace(advice, missing=said)


def _within_loss(options: Sequence[Option], budget: Budget, spread: Spread | None, accuracy: str) -> Advice:
    original = next((option for option in options if option.level == ORIGINAL), None)
    cuts = [option for option in options if option.level != ORIGINAL and "gflops" in option.costs]
    if original is None or not cuts:
        text = "the original or all of its levels are not measured."
        return Advice(option=None, lead="Nothing to recommend yet", text=text)
    # As it is shown, so that no sentence contradicts its own figures.
    fitting = [option for option in cuts if round(_loss(option, original), 1) <= round(budget.limit, 1)]
    limit = f"at most {_points(budget.limit)}"
    if not fitting:
        mildest = min(cuts, key=lambda option: _loss(option, original))
        text = (
            f"nothing that is measured loses {limit}; {mildest.name} loses least, {_points(_loss(mildest, original))}."
        )
        return Advice(option=original, lead=_uncut(original), text=text, sureness=_sure(mildest, cuts, spread))
    chosen = min(fitting, key=lambda option: option.costs["gflops"])
    text = (
        f"the smallest that loses {limit} of {accuracy}: {chosen.accuracy:.3f} against {original.accuracy:.3f} of "
        f"{original.name} ({signed(-_loss(chosen, original))} points), with {_saved(chosen, original)}."
    )
    said = [_interval_of_loss(chosen, original, budget, spread), _sure(chosen, cuts, spread)]
    return Advice(option=chosen, lead=f"Take {chosen.name}", text=text, sureness=" ".join(filter(None, said)))


def _within_cost(options: Sequence[Option], budget: Budget, spread: Spread | None, accuracy: str) -> Advice:
    assert budget.name != "loss"
    name = budget.name
    priced = [option for option in options if name in option.costs]
    if not priced:
        return Advice(option=None, lead="Nothing to recommend yet", text="this cost is not known of any level.")
    fitting = [option for option in priced if _shown(option.costs[name], name) <= _shown(budget.limit, name)]
    limit = _cost(budget.limit, name)
    if not fitting:
        least = min(priced, key=lambda option: option.costs[name])
        needed = _cost(least.costs[name], name)
        text = f"nothing that is measured needs at most {limit}; {least.name} needs least, {needed}."
        return Advice(option=None, lead="Nothing fits", text=text)
    chosen = max(fitting, key=lambda option: (option.accuracy, -option.costs[name]))
    cost = _cost(chosen.costs[name], name)
    text = f"the most accurate that needs at most {limit}: {accuracy} {chosen.accuracy:.3f} at {cost}"
    original = next((option for option in options if option.level == ORIGINAL), None)
    if original is not None and original is not chosen:
        text += f", {signed(-_loss(chosen, original))} points against the {original.accuracy:.3f} of {original.name}"
    lead = _uncut(chosen) if chosen.level == ORIGINAL else f"Take {chosen.name}"
    return Advice(option=chosen, lead=lead, text=f"{text}.", sureness=_sure(chosen, fitting, spread))


def _uncut(original: Option) -> str:
    return "Cut nothing, and fine-tune the original" if original.tuned else "Keep the original"


def _loss(option: Option, original: Option) -> float:
    """Points of mAP50-95."""
    return 100 * (original.accuracy - option.accuracy)


def _saved(option: Option, original: Option) -> str:
    """What an option costs less, or more, of the costs that both have."""
    nouns: dict[CostName, tuple[str, str]] = {
        "gflops": ("fewer", "GFLOPs"),
        "params": ("fewer", "parameters"),
        "time": ("less", "time"),
    }
    parts = []
    for name, (less, noun) in nouns.items():
        if name in option.costs and original.costs.get(name):
            saved = round(100 * (1 - option.costs[name] / original.costs[name]))
            parts.append(f"{abs(saved)}% {less if saved >= 0 else 'more'} {noun}")
    return _listed(parts)


def _interval_of_loss(option: Option, original: Option, budget: Budget, spread: Spread | None) -> str:
    if spread is None:
        return ""
    half = 100 * spread.half_width(1 / len(option.accuracies) + 1 / len(original.accuracies))
    loss = _loss(option, original)
    said = f"95% interval of the difference: {signed(-loss - half)} to {signed(-loss + half)} points"
    return f"{said}, so it may lose more." if loss + half > budget.limit else f"{said}."


def _sure(chosen: Option, others: Iterable[Option], spread: Spread | None) -> str:
    """Which other options seeds do not tell from the chosen one."""
    if spread is None:
        return "With one seed of each nothing tells how far they differ by chance."
    alike = [one for one in others if one is chosen or _is_alike(one, chosen, spread)]
    if len(alike) < 2:
        return ""
    levels = sorted(one.level for one in alike if one.level is not None)
    names = [f"levels {_listed(map(str, levels))}"] if len(levels) > 1 else [f"level {level}" for level in levels]
    names += [one.name for one in alike if one.level is None]
    return f"{capitalized(_listed(names))} cannot be told apart with {_seeds(alike)}."


def _is_alike(one: Option, other: Option, spread: Spread) -> bool:
    half = spread.half_width(1 / len(one.accuracies) + 1 / len(other.accuracies))
    return abs(one.accuracy - other.accuracy) <= half


def _seeds(options: Sequence[Option]) -> str:
    counts = sorted({len(option.accuracies) for option in options})
    words = [_NUMBERS[count] if count < len(_NUMBERS) else str(count) for count in counts]
    if len(words) > 1:
        return f"{words[0]} to {words[-1]} seeds"
    return f"{words[0]} seed{'s' * (counts[0] != 1)}" + (" of each" if counts[0] == 1 else "")


def _cost(cost: float, name: CostName) -> str:
    return f"{_number(cost, name)} {UNITS[name]}"


def _number(cost: float, name: CostName) -> str:
    if name == "size":
        return f"{cost:,.1f}"
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"


def _shown(cost: float, name: CostName) -> float:
    """The number that is shown of a cost."""
    return float(_number(cost, name).replace(",", ""))


def _points(points: float) -> str:
    return f"{points:.1f} point{'s' * (f'{points:.1f}' != '1.0')}"


def _listed(words: Iterable[str]) -> str:
    """ "1, 2 and 3"."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last
