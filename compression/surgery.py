"""A plan applied to a model: what comes back is made of stock Ultralytics modules, only narrower."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch_pruning as tp
from torch import nn
from ultralytics.nn.modules import Attention, C2f
from ultralytics.nn.tasks import DetectionModel

from compression.planner import PruningPlan
from compression.trace import Indices, Side, Trace, is_depthwise


def apply_plan(model: DetectionModel, trace: Trace, plan: PruningPlan) -> DetectionModel:
    """Remove the channels that a plan does not keep.

    Args:
        model: the detector that was traced; not modified.
        trace: its channel groups.
        plan: which channels of each group stay.

    Returns:
        A narrower copy. Its weights are those of the original at the places that stay.
    """
    return keep_channels(model, trace, plan.kept)


def keep_channels(model: DetectionModel, trace: Trace, kept: Sequence[Indices]) -> DetectionModel:
    """The same, of the channels that each group keeps."""
    pruned = copy.deepcopy(model)
    for (name, side), positions in sorted(_positions_to_remove(trace, kept).items()):
        if positions:
            _remove(pruned.get_submodule(name), side, sorted(positions))
    for module in pruned.modules():
        if isinstance(module, C2f):
            module.c = module.cv1.conv.out_channels // 2
        elif isinstance(module, Attention):
            # `scale` stays that of the full width: queries times keys lose only what was removed.
            module.key_dim = (module.qkv.conv.out_channels // module.num_heads - module.head_dim) // 2
    return pruned


def kept_outputs(model: DetectionModel, trace: Trace, plan: PruningPlan) -> dict[str, Indices]:
    """For each convolution of the original the output channels that stay, ascending.

    Args:
        model: the detector that was traced.
        trace: its channel groups.
        plan: which channels of each group stay.
    """
    removed = _positions_to_remove(trace, plan.kept)
    return {
        name: np.setdiff1d(np.arange(module.out_channels), sorted(removed.get((name, "out"), ())))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    }


def _positions_to_remove(trace: Trace, kept: Sequence[Indices]) -> dict[tuple[str, Side], set[int]]:
    remove: dict[tuple[str, Side], set[int]] = {}
    for group, channels in zip(trace.groups, kept, strict=True):
        for member in group.members:
            gone = member.positions[~np.isin(member.channels, channels)]
            remove.setdefault((member.layer, member.side), set()).update(gone.tolist())
    return remove


def _remove(layer: nn.Module, side: Side, positions: list[int]) -> None:
    if isinstance(layer, nn.BatchNorm2d):
        tp.prune_batchnorm_out_channels(layer, positions)
    elif not isinstance(layer, nn.Conv2d):
        raise AssertionError(f"a {type(layer).__name__} has no channels to remove")
    elif is_depthwise(layer):
        tp.prune_depthwise_conv_out_channels(layer, positions)
    elif side == "out":
        tp.prune_conv_out_channels(layer, positions)
    else:
        tp.prune_conv_in_channels(layer, positions)
