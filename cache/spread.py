"""How far results scatter: Student's intervals, of one group's mean or with the spread of several groups pooled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

# Of every interval that is given.
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviation, estimated.

    Attributes:
        sd: in the units of the values.
        degrees: of freedom that it was estimated with, at least 1.
    """

    sd: float
    degrees: int

    def half_width(self, variance: float) -> float:
        """Half the width of the interval of a sum of values.

        Args:
            variance: of the sum, in units of the variance of one value: 1/n for the mean of n, 1/n + 1/m for a
                difference of two means.
        """
        # scipy.stats has the same quantile, but takes ten times as long to import.
        from scipy.special import stdtrit

        return float(stdtrit(self.degrees, (1 + CONFIDENCE) / 2)) * self.sd * math.sqrt(variance)


def pooled(groups: Iterable[Sequence[float]]) -> Spread | None:
    """The spread within groups, taken to be alike in all of them; None where no group has two values."""
    repeated = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in repeated)
    if not degrees:
        return None
    squares = sum((value - fmean(group)) ** 2 for group in repeated for value in group)
    return Spread(sd=math.sqrt(squares / degrees), degrees=degrees)


def half_interval(values: Sequence[float]) -> float | None:
    """Half the width of the confidence interval of the mean; None for a single value."""
    spread = pooled([values])
    return spread.half_width(1 / len(values)) if spread else None
