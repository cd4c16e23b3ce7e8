"""Whether a pruned model beats unpruned siblings at the same cost: numbers alone, the words are in `cache.verdict`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from cache.spread import Spread

# Points of mAP50-95 are given with one decimal; what rounds to nothing is no difference.
LEAST_POINTS = 0.05

Outcome = Literal["better", "worse", "undecided"]


def signed(points: float) -> str:
    """Points as they stand within a sentence: "+1.2", "-0.4"; what rounds to nothing has no sign."""
    return f"{points:+.1f}" if round(points, 1) else "0.0"


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A cost that models are compared at.

    Attributes:
        name: "deployed GFLOPs".
        form: how a cost is written, "{:.3g} deployed GFLOPs".
    """

    name: str
    form: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that could be taken.

    Attributes:
        name: within a sentence: "level 3", "yolo26n".
        accuracies: mAP50-95 of each seed, parts of 1; empty where it was not measured.
        costs: by axis, as far as they are known.
        published: the figures are a publication's, not measured here.
    """

    name: str
    accuracies: tuple[float, ...]
    costs: Mapping[Axis, float]
    published: bool = False

    @property
    def accuracy(self) -> float:
        """Mean over the seeds."""
        return fmean(self.accuracies)


@dataclass(frozen=True, kw_only=True)
class Share:
    """A sibling's part in what siblings give at a cost; parts add up to 1."""

    sibling: Candidate
    part: float


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A pruned model against unpruned siblings at the same cost.

    Attributes:
        level: the pruned model.
        axis: the cost that both were compared at.
        shares: what the siblings' accuracy is made of: one sibling that costs no more, or two with the level between.
        cheaper: the most accurate sibling that costs no more.
        spread: of seeds, parts of 1; None where nothing was repeated.
    """

    level: Candidate
    axis: Axis
    shares: tuple[Share, ...]
    cheaper: Candidate
    spread: Spread | None

    @property
    def cost(self) -> float:
        """Of the level, on the axis."""
        return self.level.costs[self.axis]

    @property
    def line(self) -> float:
        """MAP50-95 that siblings give at that cost."""
        return sum(share.part * share.sibling.accuracy for share in self.shares)

    @property
    def difference(self) -> float | None:
        """How far the level lies above, points of mAP50-95; None where the level was not measured."""
        return 100 * (self.level.accuracy - self.line) if self.level.accuracies else None

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95% interval of the difference, points; None where seeds tell none."""
        if self.spread is None or not self.level.accuracies:
            return None
        variance = 1 / len(self.level.accuracies)
        variance += sum(share.part**2 / len(share.sibling.accuracies) for share in self.shares)
        return 100 * self.spread.half_width(variance)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the difference, points."""
        if self.difference is None or self.half_width is None:
            return None
        return self.difference - self.half_width, self.difference + self.half_width

    @property
    def published(self) -> bool:
        """Whether any of the figures is a publication's."""
        return self.level.published or any(share.sibling.published for share in self.shares)

    @property
    def outcome(self) -> Outcome:
        """What the difference says: with an interval, only where it leaves out 0."""
        assert self.difference is not None, "a level without accuracy"
        low, high = self.interval or (self.difference, self.difference)
        if abs(self.difference) < LEAST_POINTS or low <= 0 <= high:
            return "undecided"
        return "better" if low > 0 else "worse"

    @property
    def dominating(self) -> Candidate | None:
        """The most accurate sibling that costs no more, where it is at least as accurate as the level."""
        return self.cheaper if self.level.accuracies and self.cheaper.accuracy >= self.level.accuracy else None


def judge(
    level: Candidate,
    siblings: Sequence[Candidate],
    axes: Sequence[Axis],
    spread: Spread | None,
    *,
    dearer: Collection[str] = (),
) -> Judgement | None:
    """Compare a level with the straight line between the siblings to both sides of its cost.

    The line is straight in the cost itself, as the plots draw it. A family's accuracy rises less and less with its
    cost, so a model between two siblings would lie above that line: it favours the level. Where a sibling that costs
    no more is more accurate than the line, that sibling counts.

    Args:
        level: the pruned model.
        siblings: unpruned models, the original among them; all measured or all published.
        axes: the costs to compare at, the preferred one first; the first on which a sibling costs no more decides.
        spread: of seeds, taken to be alike for all of them.
        dearer: names of models that are known to cost more than the level by a better axis than these.

    Returns:
        None where on no axis a sibling is known that costs no more. One that costs more on a preferred axis does not
        count on a later one: a model that was measured slower is no way to be as fast, whatever its GFLOPs.
    """
    barred = set(dearer)
    for axis in axes:
        known = sorted((one for one in siblings if axis in one.costs and one.accuracies), key=lambda s: s.costs[axis])
        if axis not in level.costs:
            continue
        no_more = [one for one in known if one.costs[axis] <= level.costs[axis]]
        below = [one for one in no_more if one.name not in barred]
        barred |= {one.name for one in known[len(no_more) :]}
        if below:
            cheaper = max(below, key=lambda sibling: sibling.accuracy)
            line = _line(below[-1], known[len(no_more) :], level.costs[axis], axis)
            shares: tuple[Share, ...] = (Share(sibling=cheaper, part=1.0),)
            if sum(share.part * share.sibling.accuracy for share in line) > cheaper.accuracy:
                shares = line
            return Judgement(level=level, axis=axis, shares=shares, cheaper=cheaper, spread=spread)
    return None


def _line(low: Candidate, above: Sequence[Candidate], cost: float, axis: Axis) -> tuple[Share, ...]:
    """The straight line from the sibling below a cost to the first one above it; nothing where none is above."""
    if not above:
        return ()
    high = above[0]
    part = (cost - low.costs[axis]) / (high.costs[axis] - low.costs[axis])
    return (Share(sibling=low, part=1 - part), Share(sibling=high, part=part))
