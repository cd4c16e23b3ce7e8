"""Which channels can be spared if the layers that read them are refitted: optimal brain surgeon on whole channels.

When a channel goes, least squares lets the channels that stay stand in for it as far as they are correlated with it.
What is left is an error of the reading layers' outputs. It follows from the covariance of their inputs, with nothing
refitted; weighted by how much each output matters it is the price of the channel. Channels are eliminated one after
the other, the cheapest first, and prices rise as the channels that could stand in for them go.

How much an output matters is the geometric mean of two measures: the squared gradient of the loss, which tells layers
apart but holds for small errors only, and one over the output's variance, which bounds what an error can destroy.

Sources: optimal brain surgeon, https://doi.org/10.1109/ICNN.1993.298572; on channels with a factored curvature,
https://arxiv.org/abs/1905.05934.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compression.graph.channels import Indices
from compression.graph.trace import ChannelGroup, Weighted
from compression.pruning.evidence import Moments

Numbers = NDArray[np.float64]

# Added to the variance of each input channel, as a part of their mean: the same caution as the ridge of the recovery.
DAMPING = 1e-3


@dataclass
class _Reader:
    """What one layer makes of the group's channels that are left.

    Attributes:
        channels: the group's channel at each of the layer's input positions that belong to the group.
        inverse: inverse covariance of the layer's inputs, at these positions, [positions, positions].
        weights: weighted inner products of the kernels that read these positions, [positions, positions].
    """

    channels: Indices
    inverse: Numbers
    weights: Numbers

    def prices(self) -> Numbers:
        """Error of the layer's outputs for each position's removal, [positions]."""
        return self.weights.diagonal() / self.inverse.diagonal()

    def remove(self, channel: int) -> None:
        """Take a channel out, and let the others stand in for it."""
        for position in np.flatnonzero(self.channels == channel)[::-1]:
            share = self.inverse[:, position] / self.inverse[position, position]
            row = self.weights[position]
            self.inverse = self.inverse - np.outer(share, self.inverse[position])
            self.weights = self.weights - np.outer(share, row) - np.outer(row, share)
            self.weights += row[position] * np.outer(share, share)
            left = np.arange(len(self.channels)) != position
            self.channels = self.channels[left]
            self.inverse, self.weights = self.inverse[np.ix_(left, left)], self.weights[np.ix_(left, left)]


def elimination_prices(group: ChannelGroup, model: nn.Module, moments: Mapping[str, Moments]) -> Numbers:
    """The error that each channel's removal adds when channels are removed one by one, the cheapest first.

    Args:
        group: coupled channels of `model`.
        model: the detector that was traced.
        moments: of its convolutions, see `evidence.moments`.

    Returns:
        Prices [channels] that do not fall along the order of removal, so that sorting them gives that order back.
    """
    readers = list(_readers(group, model, moments))
    if not readers:
        return _own_prices(group, moments)
    prices = np.zeros(group.width)
    left, last = set(range(group.width)), 0.0
    while left:
        now = np.zeros(group.width)
        for reader in readers:
            np.add.at(now, reader.channels, reader.prices())
        cheapest = min(left, key=lambda channel: now[channel])
        last = max(last, float(now[cheapest]))
        prices[cheapest] = last
        left.remove(cheapest)
        for reader in readers:
            reader.remove(cheapest)
    return prices


def _readers(group: ChannelGroup, model: nn.Module, moments: Mapping[str, Moments]) -> Iterator[_Reader]:
    for member in group.members:
        conv = model.get_submodule(member.layer)
        # What the loss alone reads is in no forward pass.
        if member.side == "in" and isinstance(conv, Weighted) and member.layer in moments:
            seen = moments[member.layer]
            # [in, out, kh x kw], as a transposed convolution has them; a linear layer has one weight a pair.
            by_input = conv.weight if isinstance(conv, nn.ConvTranspose2d) else conv.weight.transpose(0, 1)
            kernels = by_input.detach().double()[member.positions].reshape(len(member.positions), by_input.shape[1], -1)
            importance = _importance(seen)[:, None]
            kernels = (kernels * importance.sqrt()).flatten(1)
            yield _Reader(
                channels=member.channels,
                inverse=_inverse(seen.inputs.numpy())[np.ix_(member.positions, member.positions)],
                weights=(kernels @ kernels.T).numpy(),
            )


def _own_prices(group: ChannelGroup, moments: Mapping[str, Moments]) -> Numbers:
    """The error of queries and keys that fall to their means; no layer reads them that could be refitted."""
    prices = np.zeros(group.width)
    for member in group.members:
        if member.layer in moments:
            seen = moments[member.layer]
            error = (_importance(seen) * seen.outputs).numpy()[member.positions]
            np.add.at(prices, member.channels, error)
    return prices


def _inverse(covariance: Numbers) -> Numbers:
    damping = DAMPING * max(float(covariance.diagonal().mean()), float(np.finfo(np.float32).tiny))
    return np.asarray(np.linalg.inv(covariance + damping * np.eye(len(covariance))), dtype=np.float64)


def _importance(seen: Moments) -> Tensor:
    """How much each output channel matters, [channels out]."""
    least = DAMPING * seen.outputs.mean().clamp_min(torch.finfo(torch.float32).tiny)
    return (seen.gradients / (seen.outputs + least)).sqrt()
