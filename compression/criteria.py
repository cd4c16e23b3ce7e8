"""How channels are ranked: one registry from a criterion's name to its scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch_pruning as tp
from numpy.typing import NDArray

from compression.spec import CriterionName
from compression.trace import ChannelGroup

Scores = NDArray[np.float64]


def group_l2(group: ChannelGroup) -> Scores:
    """Squared L2 norm of the weights that a channel's removal takes away, relative to the mean of its group.

    Over every layer of the group: filters, the kernels that read the channel, and BatchNorm scales. Biases, BatchNorm
    shifts and depthwise kernels do not count.

    Source: torch-pruning's GroupMagnitudeImportance, https://arxiv.org/abs/2301.12900.
    """
    scores = tp.importance.GroupMagnitudeImportance(p=2)(group.couplings)
    return scores.detach().cpu().numpy().astype(np.float64)


CRITERIA: dict[CriterionName, Callable[[ChannelGroup], Scores]] = {"l2": group_l2}


def strongest_channels(scores: Scores, n_kept: int) -> NDArray[np.int64]:
    """The channels that stay, ascending.

    Args:
        scores: of all channels of a group, [channels].
        n_kept: how many stay, 1 to all.
    """
    # A stable sort makes the choice among equal scores the same on every machine.
    return np.sort(np.argsort(-scores, kind="stable")[:n_kept])
