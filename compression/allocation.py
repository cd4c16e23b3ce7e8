"""How a cut is shared out among the layers: which groups give how many channels at a given depth of the cut.

Every allocation is a family of cuts with two parameters. `depth` runs from 0 (nothing goes) to 1 (everything goes that
may go); `tilt` shifts the cut toward the groups that hold more parameters than they cost GFLOPs, or away from them, so
that two targets can be met with two parameters.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compression.spec import AllocationName

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Units:
    """What an allocation knows of the groups that may be cut; groups of equal count are one unit.

    Attributes:
        widths: channels of each unit's groups, [units].
        floors: channels that must stay, [units].
        prices: for each unit the scores of its channels, ascending; of several groups their sums.
        gflops: GFLOPs saved by one channel less, as a part of the model's, [units].
        params: parameters saved by one channel less, as a part of the model's, [units].
        kinds: what groups of the same structure have in common.
    """

    widths: Numbers
    floors: Numbers
    prices: Sequence[Numbers]
    gflops: Numbers
    params: Numbers
    kinds: Sequence[Hashable]

    @property
    def heaviness(self) -> Numbers:
        """Share of the parameters over share of the GFLOPs, geometric mean 1, [units]."""
        ratio = self.params / self.gflops
        return np.asarray(ratio / np.exp(np.log(ratio).mean()), dtype=np.float64)


class Allocation(Protocol):
    """Channels to keep, not necessarily whole numbers, as a function of depth and tilt."""

    def __call__(self, units: Units, depth: float, tilt: float) -> Numbers:
        """Channels to keep, [units]; they do not grow with `depth`, which is 0 to 1."""
        ...


def uniform(units: Units, depth: float, tilt: float) -> Numbers:
    """The same part of every group; the scores decide only which channels go."""
    return _cut(units, depth, units.heaviness**tilt)


def ranked(units: Units, depth: float, tilt: float) -> Numbers:
    """One ranking of all channels of the model by their scores."""
    return _lowest(units, depth, units.heaviness**-tilt, np.zeros(len(units.widths), dtype=int))


def isomorphic(units: Units, depth: float, tilt: float) -> Numbers:
    """One ranking for all groups of the same structure; each structure loses the same part of its channels.

    Source: isomorphic pruning, https://arxiv.org/abs/2407.04616.
    """
    known = {kind: number for number, kind in enumerate(dict.fromkeys(units.kinds))}
    return _lowest(units, depth, units.heaviness**-tilt, np.array([known[kind] for kind in units.kinds]))


def budget(units: Units, depth: float, tilt: float) -> Numbers:
    """One ranking of all channels by their scores over what they cost.

    At tilt 0 a channel's cost is its GFLOPs, at tilt 1 its parameters, elsewhere a geometric mean of both.
    """
    cost = units.gflops ** (1 - tilt) * units.params**tilt
    return _lowest(units, depth, 1 / cost, np.zeros(len(units.widths), dtype=int))


ALLOCATIONS: dict[AllocationName, Allocation] = {
    "uniform": uniform,
    "global": ranked,
    "isomorphic": isomorphic,
    "budget": budget,
}


def _cut(units: Units, depth: float, weights: Numbers) -> Numbers:
    # At depth 1 even the least cut unit stands at its floor.
    deepest = 1 / weights.min()
    return np.maximum(units.widths * (1 - depth * deepest * weights), units.floors)


def _lowest(units: Units, depth: float, weights: Numbers, classes: NDArray[np.int_]) -> Numbers:
    """Keep all but the channels whose weighted scores are the lowest of their class."""
    kept = np.empty(len(units.widths))
    for each in np.unique(classes):
        members = np.flatnonzero(classes == each).tolist()
        values = np.concatenate([units.prices[unit] * weights[unit] for unit in members])
        owners = np.concatenate([np.full(len(units.prices[unit]), unit) for unit in members])
        gone = owners[np.argsort(values, kind="stable")[: round(depth * len(values))]]
        lost = np.bincount(gone, minlength=len(kept))
        kept[members] = units.widths[members] - lost[members]
    return np.maximum(kept, units.floors)
