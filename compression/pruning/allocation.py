"""How a cut is shared out among the layers: which groups give how many channels at a given depth of the cut.

Every allocation is a family of cuts with two parameters. `depth` runs from 0 (nothing goes) to 1 (everything goes that
may go); `tilt` shifts the cut toward the groups that hold more parameters than they cost GFLOPs, or away from them, so
that two targets can be met with two parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

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
        gflops: GFLOPs, or predicted time, saved by one channel less, as a part of the model's, [units].
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


# Channels to keep, [units], not necessarily whole numbers, as a function of depth; they do not grow with it.
Family = Callable[[float], Numbers]
Allocation = Callable[[Units, float], Family]


def uniform(units: Units, tilt: float) -> Family:
    """The same part of every group; the scores decide only which channels go."""
    weights = units.heaviness**tilt
    # At depth 1 even the least cut unit stands at its floor.
    deepest = float(np.log1p(1 / weights.min()))

    def keep(depth: float) -> Numbers:
        # On a logarithmic scale, since a strong tilt leaves little to the least cut unit.
        return np.maximum(units.widths * (1 - np.expm1(depth * deepest) * weights), units.floors)

    return keep


def ranked(units: Units, tilt: float) -> Family:
    """One ranking of all channels of the model by their scores."""
    return _lowest_first(units, units.heaviness**-tilt)


def isomorphic(units: Units, tilt: float) -> Family:
    """One ranking for all groups of the same structure; each structure loses the same part of its channels.

    Source: isomorphic pruning, https://arxiv.org/abs/2407.04616.
    """
    known = {kind: number for number, kind in enumerate(dict.fromkeys(units.kinds))}
    return _lowest_first(units, units.heaviness**-tilt, [known[kind] for kind in units.kinds])


def budget(units: Units, tilt: float) -> Family:
    """One ranking of all channels by their scores over what they cost.

    At tilt 0 a channel's cost is its GFLOPs, at tilt 1 its parameters, elsewhere a geometric mean of both.
    """
    return _lowest_first(units, units.gflops ** (tilt - 1) * units.params**-tilt)


ALLOCATIONS: dict[AllocationName, Allocation] = {
    "uniform": uniform,
    "global": ranked,
    "isomorphic": isomorphic,
    "budget": budget,
}


def _lowest_first(units: Units, weights: Numbers, classes: Sequence[int] | None = None) -> Family:
    """Keep all but the channels whose weighted scores are the lowest of their class."""
    owners = np.repeat(np.arange(len(units.widths)), [len(prices) for prices in units.prices])
    values = np.concatenate(list(units.prices)) * weights[owners]
    order = owners[np.argsort(values, kind="stable")]
    of_class = np.zeros(len(weights), dtype=int) if classes is None else np.array(classes)
    orders = [order[of_class[order] == each] for each in np.unique(of_class)]

    def keep(depth: float) -> Numbers:
        gone = np.concatenate([each[: round(depth * len(each))] for each in orders])
        return np.maximum(units.widths - np.bincount(gone, minlength=len(units.widths)), units.floors)

    return keep
