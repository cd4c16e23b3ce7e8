"""How channels are ranked: one registry from a criterion's name to its scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor
from ultralytics.nn.tasks import DetectionModel

from compression.data.calibration import Calibration
from compression.errors import SpecError
from compression.graph.trace import ChannelGroup, Trace
from compression.pruning.evidence import mean_gradients, moments
from compression.pruning.surgeon import elimination_prices
from compression.spec import CriterionName

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is scored.

    Attributes:
        model: the detector.
        trace: its channel groups.
        calibration: labelled training images; None where none are at hand.
        seed: of a criterion that draws lots.
        device: where to compute.
    """

    model: DetectionModel
    trace: Trace
    calibration: Calibration | None
    seed: int
    device: torch.device

    @property
    def images(self) -> Calibration:
        """The training images of a criterion that needs them."""
        if self.calibration is None:
            raise SpecError(
                "This criterion looks at training images; name the data set with --data, or choose --criterion l2."
            )
        return self.calibration


def _by_importance(subject: Subject, importance: tp.importance.Importance) -> list[Scores]:
    return [_scores_of(group, importance) if group.locked is None else _equal(group) for group in subject.trace.groups]


def _scores_of(group: ChannelGroup, importance: tp.importance.Importance) -> Scores:
    found = importance(group.couplings)
    if found is None:  # what it looks at is nowhere in the group
        found = tp.importance.GroupMagnitudeImportance(p=2)(group.couplings)
    assert isinstance(found, Tensor)
    return found.detach().cpu().numpy().astype(np.float64)


def _equal(group: ChannelGroup) -> Scores:
    return np.ones(group.width)


def magnitude_l1(subject: Subject) -> list[Scores]:
    """L1 norm of the weights that a channel's removal takes away, relative to the mean of its group.

    Over every layer of the group: filters, the kernels that read the channel, and BatchNorm scales. Biases, BatchNorm
    shifts and depthwise kernels do not count.

    Source: torch-pruning's GroupMagnitudeImportance, https://arxiv.org/abs/2301.12900.
    """
    return _by_importance(subject, tp.importance.GroupMagnitudeImportance(p=1))


def magnitude_l2(subject: Subject) -> list[Scores]:
    """Squared L2 norm of the same weights as `magnitude_l1`."""
    return _by_importance(subject, tp.importance.GroupMagnitudeImportance(p=2))


def bn_scale(subject: Subject) -> list[Scores]:
    """Size of the BatchNorm scales of a channel, relative to the mean of its group.

    A group without any, as of a bare convolution, is ranked by `magnitude_l2`, which is relative to its mean as well.

    Source: network slimming, https://arxiv.org/abs/1708.06519, by torch-pruning's BNScaleImportance.
    """
    return _by_importance(subject, tp.importance.BNScaleImportance())


def lamp(subject: Subject) -> list[Scores]:
    """Squared L2 norm over the sum of all norms of the group that are not smaller.

    Source: https://arxiv.org/abs/2010.07611, by torch-pruning's LAMPImportance.
    """
    return _by_importance(subject, tp.importance.LAMPImportance())


def taylor(subject: Subject) -> list[Scores]:
    """First-order change of the loss when a channel's weights go, summed over the weights.

    Source: https://arxiv.org/abs/1906.10771, by torch-pruning's GroupTaylorImportance.
    """
    gradients = mean_gradients(subject.model, subject.images, subject.device, squared=False)
    _hand_over(gradients, subject)
    return _by_importance(subject, tp.importance.GroupTaylorImportance(normalizer=None))


def fisher(subject: Subject) -> list[Scores]:
    """Second-order change of the loss when a channel's weights go, by the diagonal of the empirical Fisher matrix.

    Source: optimal brain damage, by torch-pruning's GroupHessianImportance. The squares of the images' gradients are
    summed up here: its own sum keeps those of the last image only.
    """
    gradients = mean_gradients(subject.model, subject.images, subject.device, squared=True)
    _hand_over(gradients, subject)
    return _by_importance(subject, tp.importance.GroupHessianImportance(normalizer=None))


def obs(subject: Subject) -> list[Scores]:
    """Error that a channel's removal leaves after the layers that read it were refitted, see `surgeon`."""
    seen = moments(subject.model, subject.images, subject.device)
    return [
        elimination_prices(group, subject.model, seen) if group.locked is None else _equal(group)
        for group in subject.trace.groups
    ]


def random(subject: Subject) -> list[Scores]:
    """Lots, drawn anew for each seed: the control."""
    generator = np.random.default_rng(subject.seed)
    return [generator.random(group.width) for group in subject.trace.groups]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One way to rank channels.

    Attributes:
        score: gives each group's channels their scores, [channels]; what scores low goes first.
        needs_images: whether it looks at labelled training images.
    """

    score: Callable[[Subject], list[Scores]]
    needs_images: bool = False


CRITERIA: dict[CriterionName, Criterion] = {
    "l1": Criterion(score=magnitude_l1),
    "l2": Criterion(score=magnitude_l2),
    "bn_scale": Criterion(score=bn_scale),
    "lamp": Criterion(score=lamp),
    "taylor": Criterion(score=taylor, needs_images=True),
    "fisher": Criterion(score=fisher, needs_images=True),
    "obs": Criterion(score=obs, needs_images=True),
    "random": Criterion(score=random),
}


def _hand_over(gradients: dict[str, Tensor], subject: Subject) -> None:
    """Give the parameters of the trace's copy, which torch-pruning looks at, the gradients of the original's."""
    for name, parameter in subject.trace.twin.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].clone()


def strongest_channels(scores: Scores, n_kept: int) -> NDArray[np.int64]:
    """The channels that stay, ascending.

    Args:
        scores: of all channels of a group, [channels].
        n_kept: how many stay, 1 to all.
    """
    # A stable sort makes the choice among equal scores the same on every machine.
    return np.sort(np.argsort(-scores, kind="stable")[:n_kept])
