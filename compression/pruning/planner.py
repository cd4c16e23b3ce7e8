"""How many channels each group keeps, so that the GFLOPs (or the predicted time) and the parameters meet their target.

An allocation (see `allocation`) gives a cut for each depth and tilt; the depth and the tilt that meet both targets are
found by root finding. Counts are then rounded to steps that kernels like, and single steps are moved between groups
until the rounding error of the whole is gone.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from ultralytics.nn.tasks import DetectionModel

from cache.record import Costs, LayerRow, TimeKept
from compression.data.calibration import Calibration
from compression.errors import ModelError, TargetError
from compression.graph.channels import channels_out
from compression.graph.cost_sheet import Numbers
from compression.graph.costs import CostModel
from compression.graph.layer_groups import MIN_GROUP_KEPT, SMALLEST_BLOCK, LayerGroups
from compression.graph.trace import ChannelGroup, Trace, trace
from compression.image_size import ImageSize
from compression.models.kinds import check_image_size
from compression.pruning.allocation import ALLOCATIONS, Units
from compression.pruning.criteria import CRITERIA, Subject, strongest_channels
from compression.pruning.latency_model import LatencyModel
from compression.spec import DEFAULT_ALIGN, AllocationName, CriterionName, Target
from compression.wishes import Wish, in_short

# Both targets are to be met within half a percentage point; steps are moved until the error is a fifth of that.
TOLERANCE = 0.005
AIM = 0.001
# Tilts are looked for up to the first of these; where prices differ much, it takes more to outweigh them.
TILTS = (4.0, 32.0)
MAX_MOVES = 400
# Steps are moved for so long; what is found by then is the plan.
TIME_LIMIT_S = 120.0
# How far, as a part of the parameters, moved steps may still have to bring a cut to a target that no tilt meets.
MOVABLE = 0.05
# How much a group's distance from the common cut counts beside the targets' error when steps are moved.
EVENNESS = 0.02
# The least time that a channel counts as saving, as a part of the mean.
LEAST_SAVED = 1e-3
# How often the costs of the budget-aware allocation are looked at again, at the cut that they led to.
COST_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class PruningPlan:
    """Which channels go.

    Attributes:
        target: the costs asked for.
        kept: for each group of the trace the channels that stay, ascending.
        before: costs of the original.
        after: costs of the pruned model.
        layers: one row a layer.
        warnings: a sentence for each target that could not be met within half a point, and for each class of blocks
            that is left as it is.
        seconds: time it took, tracing not included.
        time: what is kept of a forward pass's time; None where no latency was asked for.
    """

    target: Target
    kept: tuple[NDArray[np.int64], ...]
    before: Costs
    after: Costs
    layers: tuple[LayerRow, ...]
    warnings: tuple[str, ...]
    seconds: float
    time: TimeKept | None = None


class Planner:
    """Plans of one model at one image size; the model is traced and its channels are scored once for all of them.

    Args:
        model: an unfused Ultralytics `DetectionModel`; not modified.
        imgsz: size of the input.
        criterion: how channels are ranked.
        allocation: how the cut is shared out among the layers.
        calibration: labelled training images, for a criterion that looks at them.
        seed: of a criterion that draws lots.
        device: where a criterion computes.
        original: the model before any earlier cut, of whose widths the floors are parts; `model` itself where None.
        align: channels are removed in steps of up to so many, a power of two.

    Raises:
        ModelError: the model cannot be traced, or a side of the image is no multiple of its largest stride.
        SpecError: the criterion needs training images and there are none.
    """

    def __init__(
        self,
        model: DetectionModel,
        imgsz: ImageSize,
        *,
        criterion: CriterionName = "l2",
        allocation: AllocationName = "uniform",
        calibration: Calibration | None = None,
        seed: int = 0,
        device: torch.device | None = None,
        original: DetectionModel | None = None,
        align: int = DEFAULT_ALIGN,
    ) -> None:
        check_image_size(model, imgsz)
        self._model = model
        self.trace: Trace = trace(model)
        self.costs = CostModel(model, self.trace, imgsz)
        self._clock: LatencyModel | None = None
        self._wishes: tuple[Wish, ...] = ()
        self._allocation = allocation
        self._align = align
        self.layer_groups = LayerGroups(self.costs, align)
        self._members = self.layer_groups.units
        if not self._members:
            locks = [block.reason for block in self.trace.unknown] + [group.locked for group in self.trace.groups]
            raise ModelError(
                f"Every channel of this model is locked, the first since {next(filter(None, locks))}; there is nothing "
                f"that could be pruned."
            )
        self._widths, self._steps = self.layer_groups.widths, self.layer_groups.steps
        full = self.costs.training_costs(self.costs.widths)
        self._gflops, self._params = float(full[0]), float(full[1])
        subject = Subject(
            model=model,
            trace=self.trace,
            calibration=calibration,
            seed=seed,
            device=device or torch.device("cpu"),
        )
        self._scores = CRITERIA[criterion].score(subject)
        self._units = Units(
            widths=self._widths,
            floors=self._floors(original or model),
            prices=[np.sum([np.sort(self._scores[group]) for group in unit], axis=0) for unit in self._members],
            kinds=[tuple(_structure(model, self.trace.groups[group]) for group in unit) for unit in self._members],
            **self._savings(self._widths),
        )

    def timed_by(self, clock: LatencyModel) -> Planner:
        """The same planner, which counts predicted time wherever this one counts GFLOPs."""
        timed = copy.copy(self)
        timed._clock = clock
        saved = timed._savings(self._widths)
        timed._units = replace(self._units, gflops=saved["gflops"], params=saved["params"])
        return timed

    def widths_for(self, parts: Sequence[float], seed: int) -> list[tuple[NDArray[np.int64], ...]]:
        """Cuts in which each unit keeps each of the parts once, in an order of its own: all widths, hardly correlated.

        Args:
            parts: of the channels of each unit, as many as cuts are wanted.
            seed: of the orders.

        Returns:
            For each cut the channels that each group keeps; which they are does not matter.
        """
        order = np.random.default_rng(seed)
        steps = self._steps
        mixed = np.array([order.permutation(parts) for _ in self._members]).T
        counts = [np.maximum(self._widths - steps * np.round(self._widths * (1 - row) / steps), steps) for row in mixed]
        return [tuple(np.arange(round(count)) for count in self.layer_groups.per_group(each)) for each in counts]

    def wishing(self, wishes: Sequence[Wish]) -> Planner:
        """The same planner, by whose plans some layers keep what is wished.

        Raises:
            SpecError: a layer is unknown or cannot keep that, or wishes about coupled layers contradict each other.
        """
        pins = self.layer_groups.pins(wishes)
        made = copy.copy(self)
        # A unit of which something is wished is as wide as that, and has its floor there.
        made._widths, floors, prices = self._widths.copy(), self._units.floors.copy(), list(self._units.prices)
        for unit, count in pins.items():
            made._widths[unit] = floors[unit] = count
            # Whatever is ranked goes before these channels.
            prices[unit] = np.full(count, np.inf)
        made._wishes = tuple(wishes)
        saved = made._savings(made._widths)
        made._units = replace(
            self._units,
            widths=made._widths,
            floors=floors,
            prices=prices,
            gflops=saved["gflops"],
            params=saved["params"],
        )
        return made

    def cut_alone(self, part: float) -> dict[tuple[int, ...], tuple[NDArray[np.int64], ...]]:
        """Cuts of one unit each: groups that must keep equally many channels, every other group left whole.

        Args:
            part: of the unit's channels that goes, the weakest ones; in whole steps, and no further than to its floor.

        Returns:
            For the unit, by the indices of its groups, the channels that each group of the trace keeps.
        """
        steps, whole = self._steps, [np.arange(len(scores)) for scores in self._scores]
        counts = np.clip(self._widths - steps * np.round(self._widths * part / steps), self._least(steps), self._widths)
        return {
            unit: tuple(
                strongest_channels(self._scores[index], round(count)) if index in unit else channels
                for index, channels in enumerate(whole)
            )
            for unit, count in zip(self._members, counts, strict=True)
        }

    def scores_of(self, unit: tuple[int, ...]) -> NDArray[np.float64]:
        """The scores of all channels of some groups by the criterion, ascending."""
        return np.sort(np.concatenate([self._scores[index] for index in unit]))

    def plan(self, target: Target) -> PruningPlan:
        """Choose the channels to keep; a latency is met by prediction, and only by a planner that has a clock.

        Raises:
            SpecError: a wish about a layer cannot be met, see `wishing`.
            TargetError: the model cannot be cut that far, or not both costs together.
        """
        if target.layers and not self._wishes:
            return self.wishing(target.layers).plan(target)
        start = time.perf_counter()
        counts = self._counts(target, start + TIME_LIMIT_S)
        kept = tuple(
            strongest_channels(scores, round(count))
            for scores, count in zip(self._scores, self.layer_groups.per_group(counts), strict=True)
        )
        n_kept = np.array([len(channels) for channels in kept], dtype=np.float64)
        return PruningPlan(
            target=target,
            kept=kept,
            before=self.costs.costs(self.costs.widths),
            after=self.costs.costs(n_kept),
            layers=self.layer_groups.marked(self.costs.rows(n_kept), self._wishes),
            warnings=(*self.trace.warnings, *self._warnings(target, counts), *_stopped(start)),
            seconds=time.perf_counter() - start,
            time=self._clock.time_kept(n_kept) if self._clock else None,
        )

    @property
    def _counted(self) -> str:
        """What is counted first, beside the parameters."""
        return "latency" if self._clock else "GFLOPs"

    @property
    def _as_wished(self) -> str:
        return f" with {in_short(self._wishes)}" if self._wishes else ""

    def _goals(self, target: Target) -> tuple[float | None, float | None]:
        """The parts to keep: of GFLOPs or predicted time, and of the parameters."""
        assert (target.latency is None) == (self._clock is None), "a latency takes a clock, and nothing else does"
        return target.parts.get(self._counted), target.params_kept

    def _floors(self, original: DetectionModel) -> Numbers:
        return np.clip(np.ceil(self._widths_in(original) * MIN_GROUP_KEPT), 1, self._widths)

    def _widths_in(self, other: DetectionModel) -> Numbers:
        """Channels that the groups of each unit have in a narrower or wider form of the model, [units]."""
        widths = []
        for unit in self._members:
            name = self.trace.groups[unit[0]].name
            more = channels_out(other.get_submodule(name)) - channels_out(self._model.get_submodule(name))
            # How often that layer gives each of the unit's channels.
            places = sum(
                len(member.positions)
                for group in (self.trace.groups[index] for index in unit)
                for member in group.members
                if (member.layer, member.side) == (name, "out")
            )
            width = self.trace.groups[unit[0]].width
            widths.append(width + more * width / places)
        return np.array(widths, dtype=np.float64)

    def outcome(self, module: DetectionModel, wishes: Sequence[Wish] = ()) -> tuple[Costs, tuple[LayerRow, ...]]:
        """Costs of a narrower copy of the model, and one row a layer, both against the model itself.

        Args:
            module: what surgery, once or several times, left of the model.
            wishes: about layers, that it was cut by.
        """
        kept = self.layer_groups.per_group(self._widths_in(module))
        return self.costs.costs(kept), self.layer_groups.marked(self.costs.rows(kept), wishes)

    def _counts(self, target: Target, deadline: float) -> Numbers:
        self._check_reach(target)
        if all(goal in (1, None) for goal in self._goals(target)):
            return self._widths
        ideal = self._ideal_cut(target)
        steps = self._steps
        # A block that is cut into costs as much as a whole one, so the steps stay while the targets allow it.
        near_enough = AIM if self._align < SMALLEST_BLOCK else TOLERANCE
        for divisor in (1, 2, 4, 8):
            counts = self._round(ideal, np.maximum(steps / divisor, 1), target, deadline)
            if np.abs(self._errors(counts, target)).max() <= near_enough:
                break
        return counts

    def _check_reach(self, target: Target) -> None:
        least, most = self._kept_parts(self._units.floors), self._kept_parts(self._widths)
        names = (self._counted, "parameters")
        but = f", but for those that are wished otherwise ({in_short(self._wishes)})," if self._wishes else ""
        for name, asked, low, high in zip(names, self._goals(target), least, most, strict=True):
            if asked is not None and asked < low:
                raise TargetError(
                    f"Keeping {asked:g} of the {name} is out of reach: with every layer at its floor of "
                    f"{MIN_GROUP_KEPT:g} of its channels{but} this model keeps {low:.3f}; ask for more than that."
                )
            if asked is not None and asked > high + TOLERANCE:
                raise TargetError(
                    f"Keeping {asked:g} of the {name} is out of reach: by what is wished ({in_short(self._wishes)}) "
                    f"this model keeps {high:.3f} where no other layer is cut; ask for less than that."
                )

    def _ideal_cut(self, target: Target) -> Numbers:
        """Channels to keep before rounding; what a channel saves depends on the cut, and is looked at again."""
        units = self._units
        ideal = self._tilted_cut(units, target)
        for _ in range(COST_ROUNDS if self._allocation == "budget" else 0):
            now = self._savings(ideal)
            # Half of the way, since cut and costs would swing around each other.
            units = replace(
                units, gflops=np.sqrt(units.gflops * now["gflops"]), params=np.sqrt(units.params * now["params"])
            )
            ideal = self._tilted_cut(units, target)
        return ideal

    def _tilted_cut(self, units: Units, target: Target) -> Numbers:
        """Channels to keep from one depth and one tilt."""
        first, params = self._goals(target)
        if first is None:
            return self._at_depth(units, 1.0 if self._allocation == "budget" else 0.0, target)
        if params is None:
            return self._at_depth(units, 0.0, target)

        def excess_params(tilt: float) -> float:
            assert params is not None
            return float(self._kept_parts(self._at_depth(units, tilt, target))[1]) - params

        for most in TILTS:
            low, high = excess_params(-most), excess_params(most)
            if low * high <= 0:
                return self._at_depth(units, float(brentq(excess_params, -most, most, xtol=1e-4)), target)
        nearest, tilt = min((low, -most), (high, most), key=lambda end: abs(end[0]))
        if abs(nearest) > MOVABLE:
            raise TargetError(
                f"Keeping {first:g} of the {self._counted} and {params:g} of the parameters contradict each other for "
                f"this model{self._as_wished}; with that part of the {self._counted} it keeps {params + nearest:.3f} "
                f"of the parameters at the nearest."
            )
        return self._at_depth(units, tilt, target)

    def _at_depth(self, units: Units, tilt: float, target: Target) -> Numbers:
        """The cut of a tilt that meets the target of GFLOPs or time, or of parameters where there is no other."""
        goals = self._goals(target)
        which, goal = (0, goals[0]) if goals[0] is not None else (1, goals[1])
        assert goal is not None
        keep = ALLOCATIONS[self._allocation](units, tilt)

        def excess(depth: float) -> float:
            return float(self._kept_parts(keep(depth))[which]) - goal

        return keep(float(brentq(excess, 0.0, 1.0, xtol=1e-9)) if excess(0.0) > 0 else 0.0)

    def _savings(self, counts: Numbers) -> dict[str, Numbers]:
        """What one channel less of each unit saves, as a part of the model's costs, at given counts."""
        part = 0.1 * counts
        trials = counts[:, None] - np.diag(part)
        now, less = self._kept_parts(counts), self._kept_parts(trials)
        saved = (now[0] - less[0]) / part
        if self._clock:
            # Channels that save no time have no price.
            saved = np.maximum(saved, LEAST_SAVED * saved.mean())
        return {"gflops": saved, "params": (now[1] - less[1]) / part}

    def _round(self, ideal: Numbers, step: Numbers, target: Target, deadline: float) -> Numbers:
        """Whole steps nearest to the ideal cut, then single steps moved while the targets' error shrinks."""
        floor = self._least(step)
        counts = np.clip(self._widths - step * np.round((self._widths - ideal) / step), floor, self._widths)
        best = self._badness(counts[:, None], ideal, step, target)[0]
        moves = np.concatenate([np.diag(step), -np.diag(step)], axis=1)
        # Coarse steps are few, so that two moved at once meet what one alone cannot.
        seconds = moves.T if self._align >= SMALLEST_BLOCK else ()
        for _ in range(MAX_MOVES):
            here, found = counts, best
            for first in (np.zeros_like(counts), *seconds):
                if time.perf_counter() > deadline:
                    return counts
                trials = here[:, None] + first[:, None] + moves
                badness = self._badness(trials, ideal, step, target)
                allowed = ((trials >= floor[:, None]) & (trials <= self._widths[:, None])).all(axis=0)
                badness[~allowed] = np.inf
                choice = int(badness.argmin())
                if badness[choice] < best:
                    counts, best = trials[:, choice], badness[choice]
            if best >= found:
                break
        return counts

    def _least(self, step: Numbers) -> Numbers:
        """The fewest channels of each unit that whole steps leave without going below its floor."""
        return self._widths - step * np.floor((self._widths - self._units.floors) / step)

    def _badness(self, trials: Numbers, ideal: Numbers, step: Numbers, target: Target) -> Numbers:
        errors = self._errors(trials, target) / AIM
        unevenness = (((trials - ideal[:, None]) / step[:, None]) ** 2).mean(axis=0)
        return (errors**2).sum(axis=0) + EVENNESS * unevenness

    def _errors(self, counts: Numbers, target: Target) -> Numbers:
        """Kept minus asked part of each cost that is asked for, [costs] or [costs, plans]."""
        parts = zip(self._kept_parts(counts), self._goals(target), strict=True)
        return np.array([part - goal for part, goal in parts if goal is not None])

    def _kept_parts(self, counts: Numbers) -> tuple[Numbers, Numbers]:
        per_group = self.layer_groups.per_group(counts)
        gflops, params = self.costs.training_costs(per_group)
        first = self._clock.kept(per_group) if self._clock else gflops / self._gflops
        return first, params / self._params

    def _warnings(self, target: Target, counts: Numbers) -> list[str]:
        names = (self._counted, "parameters")
        return [
            f"{100 * asked:.1f}% of the {name} were to be kept; whole channels allow {100 * part:.1f}% at the nearest."
            for name, asked, part in zip(names, self._goals(target), self._kept_parts(counts), strict=True)
            if asked is not None and abs(part - asked) > TOLERANCE
        ]


def _stopped(start: float) -> Iterator[str]:
    if time.perf_counter() > start + TIME_LIMIT_S:
        yield f"Planning was stopped after {TIME_LIMIT_S:g} s; the cut may lie further from its targets than it could."


def _structure(model: DetectionModel, group: ChannelGroup) -> tuple[tuple[Any, ...], ...]:
    """What a group's channels run through, without names and sizes; equal for groups of isomorphic structure."""
    layers = ((member.side, model.get_submodule(member.layer)) for member in group.members)
    return tuple((side, type(layer).__name__, getattr(layer, "kernel_size", None)) for side, layer in layers)
