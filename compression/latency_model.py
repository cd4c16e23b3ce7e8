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
from compression.costs import CostModel

Numbers = NDArray[np.float64]


class LatencyModel:
    """Predicted time as a function of how many channels each group keeps.

    Args:
        costs: of the same model; knows which channels each layer reads and gives.
        forms: measured times, the original's first.
    """

    def __init__(self, costs: CostModel, forms: Sequence[TimedForm]) -> None:
        self._costs = costs
        self._depthwise = np.array([layer.depthwise for layer in costs.layers])
        self._reads = np.where(self._depthwise, 1.0, [layer.channels_in for layer in costs.layers])
        self._gives = np.array([layer.channels_out for layer in costs.layers], dtype=np.float64)
        self._parts_ms = self._fitted(forms)
        self._rest_ms = float(np.mean([form.rest_ms for form in forms]))
        self._original_ms = float(self.milliseconds(costs.widths))

    def _fitted(self, forms: Sequence[TimedForm]) -> Numbers:
        """Milliseconds of each part of each layer at its full width, [layers, parts]; none for what is not deployed."""
        timed = [{layer.name: layer for layer in form.layers} for form in forms]
        parts = np.zeros((len(self._costs.layers), 4))
        for row, layer in enumerate(self._costs.layers):
            seen = [form[layer.shown_as] for form in timed if layer.shown_as in form]
            if seen:
                read = np.array([one.channels_in for one in seen]) / self._reads[row]
                given = np.array([one.channels_out for one in seen]) / self._gives[row]
                parts[row], _ = nnls(_features(read, given), np.array([one.ms for one in seen]))
        return parts

    def milliseconds(self, kept: Numbers) -> Numbers:
        """Predicted time of a pass.

        Args:
            kept: channels that each group keeps, [groups] or [groups, plans].

        Returns:
            Milliseconds, [] or [plans].
        """
        column = (-1,) + (1,) * (kept.ndim - 1)
        taken, given = self._costs.channels(kept)
        read = np.where(self._depthwise.reshape(column), 1.0, taken) / self._reads.reshape(column)
        features = _features(read, given / self._gives.reshape(column))
        return np.asarray(np.einsum("l...f,lf->...", features, self._parts_ms) + self._rest_ms)

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


def _features(read: Numbers, given: Numbers) -> Numbers:
    """What the parts of a layer's time grow with, [..., parts]; channels are parts of the original's."""
    return np.stack([np.ones_like(given), read, given, read * given], axis=-1)
