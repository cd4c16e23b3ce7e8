"""The time of a forward pass under any channel plan, from measured times of its layers at several widths.

Each layer's time is taken for a constant, a part for each channel that it reads, a part for each that it gives, and a
part for each pair of both: what starts it, what its input and its output move, and what it computes. None of them is
negative, so that no time grows where channels go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from cache.layer_times import TimedForm
from cache.record import TimeKept
from compression.graph.cost_sheet import CostSheet

Numbers = NDArray[np.float64]


class LatencyModel:
    """Predicted time as a function of how many channels each group keeps.

    Args:
        costs: of the same model; knows which channels each layer reads and gives.
        forms: measured times, the original's first.
    """

    def __init__(self, costs: CostSheet, forms: Sequence[TimedForm]) -> None:
        self._costs = costs
        self._ms, self._ms_read, self._ms_given, self._ms_pair = _fitted(costs, forms)
        # Convolutions within a block that is not known belong to no layer of the costs; they keep their time.
        known = {layer.shown_as for layer in costs.layers}
        rest = [form.rest_ms + sum(layer.ms for layer in form.layers if layer.name not in known) for form in forms]
        self._rest_ms = float(np.mean(rest))
        self._original_ms = float(self.milliseconds(costs.widths))

    def milliseconds(self, kept: Numbers) -> Numbers:
        """Predicted time of a pass.

        Args:
            kept: channels that each group keeps, [groups] or [groups, plans].

        Returns:
            Milliseconds, [] or [plans].
        """
        taken, given = self._costs.channels(kept)
        pairs = np.einsum("l,l...,l...->...", self._ms_pair, taken, given)
        return np.asarray(self._rest_ms + self._ms.sum() + self._ms_read @ taken + self._ms_given @ given + pairs)

    def kept(self, kept: Numbers) -> Numbers:
        """The same as a part of the original's."""
        return self.milliseconds(kept) / self._original_ms

    def time_kept(self, kept: Numbers) -> TimeKept:
        """What one plan is predicted to keep.

        Args:
            kept: channels that each group keeps, [groups].
        """
        ms = float(self.milliseconds(kept))
        return TimeKept(predicted_ms=ms, predicted_kept=ms / self._original_ms)


def _fitted(costs: CostSheet, forms: Sequence[TimedForm]) -> Numbers:
    """Milliseconds of each layer: alone, for each channel read, given, and pair of both, [4, layers].

    What is not in the measured forms is not deployed and takes no time.
    """
    timed = [{layer.name: layer for layer in form.layers} for form in forms]
    parts = np.zeros((4, len(costs.layers)))
    for column, layer in enumerate(costs.layers):
        seen = [form[layer.shown_as] for form in timed if layer.shown_as in form]
        if not seen:
            continue
        read = np.array([1.0 if layer.depthwise else one.channels_in / layer.channels_in for one in seen])
        given = np.array([one.channels_out / layer.channels_out for one in seen])
        features = np.stack([np.ones_like(read), read, given, read * given], axis=1)
        alone, by_read, by_given, by_pair = nnls(features, np.array([one.ms for one in seen]))[0]
        if layer.depthwise:
            # Each output reads one channel, however many there are.
            alone, by_read, by_given, by_pair = alone + by_read, 0.0, by_given + by_pair, 0.0
        full_in, full_out = layer.channels_in, layer.channels_out
        parts[:, column] = alone, by_read / full_in, by_given / full_out, by_pair / (full_in * full_out)
    return parts
