"""A plan applied to a model: what comes back is made of stock Ultralytics modules, only narrower."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from compression.errors import ModelError
from compression.graph.blocks import is_own, known_block
from compression.graph.channels import Indices, Side, channels_out, is_depthwise
from compression.graph.trace import TRACE_IMGSZ, Convolution, Trace, Weighted, blocks_entered, failure
from compression.pruning.planner import PruningPlan

# How far sums of another order may differ, as a part of the largest output.
CHECK_TOLERANCE = 1e-3

NOT_FOLLOWED = "layers of it hang together unseen; keep the channels of the block that fails by --lock"


def apply_plan(model: DetectionModel, trace: Trace, plan: PruningPlan) -> DetectionModel:
    """Remove the channels that a plan does not keep.

    Args:
        model: the detector that was traced; not modified.
        trace: its channel groups.
        plan: which channels of each group stay.

    Returns:
        A narrower copy. Its weights are those of the original at the places that stay.

    Raises:
        ModelError: the model holds blocks of the user's, and what was told of them does not hold; or the narrower copy
            does not run.
    """
    return keep_channels(model, trace, plan.kept)


def keep_channels(model: DetectionModel, trace: Trace, kept: Sequence[Indices]) -> DetectionModel:
    """The same, of the channels that each group keeps."""
    pruned = copy.deepcopy(model)
    removed = _positions_to_remove(trace, kept)
    for (name, side), positions in sorted(removed.items()):
        if positions:
            _remove(pruned.get_submodule(name), side, sorted(positions))
    outputs = _kept_outputs(model, removed)
    left_out = tuple(f"{block.name}." for block in trace.unknown)
    for name, module in pruned.named_modules():
        block = None if f"{name}.".startswith(left_out) else known_block(module)
        if block is not None and block.after_cut is not None:
            inside = f"{name}."
            own = {layer.removeprefix(inside): outputs[layer] for layer in outputs if layer.startswith(inside)}
            try:
                block.after_cut(module, own)
            except Exception as error:  # code of the user's raises whatever it runs into
                raise ModelError(
                    f"What compression.graph.blocks was told of {type(module).__name__} fails after a cut "
                    f"({type(error).__name__}: {error}); see docs/blocks.md."
                ) from error
    if any(is_own(type(module)) and known_block(module) for module in model.modules()):
        _check_against(_silenced(model, removed), pruned)
        _check_training(model, pruned)
    else:
        _outputs_of_noise(pruned, NOT_FOLLOWED)
    return pruned


def without_channels(model: DetectionModel, trace: Trace, plan: PruningPlan) -> DetectionModel:
    """A copy as wide as before, in which the channels that a plan removes are zero, and read by nobody.

    Args:
        model: the detector that was traced; not modified.
        trace: its channel groups.
        plan: which channels of each group stay.
    """
    return silence_others(model, trace, plan.kept)


def silence_others(model: DetectionModel, trace: Trace, kept: Sequence[Indices]) -> DetectionModel:
    """The same, of the channels that each group keeps."""
    return _silenced(model, _positions_to_remove(trace, kept))


def _silenced(model: DetectionModel, removed: dict[tuple[str, Side], set[int]]) -> DetectionModel:
    silenced = copy.deepcopy(model)
    for (name, side), positions in removed.items():
        _silence_(silenced.get_submodule(name), side, sorted(positions))
    return silenced


@torch.no_grad()
def _silence_(layer: nn.Module, side: Side, positions: list[int]) -> None:
    # Kernels are [out, in, H, W], those of a transposed convolution [in, out, H, W], a linear layer's [out, in].
    second = (side == "in") != isinstance(layer, nn.ConvTranspose2d)
    weight: Tensor | None = getattr(layer, "weight", None)
    if weight is not None:  # a BatchNorm may have no scale
        (weight.transpose(0, 1) if second else weight)[positions] = 0
    for name in ("bias", "running_mean") if side == "out" else ():
        values = getattr(layer, name, None)
        if values is not None:
            values[positions] = 0


@torch.no_grad()
def _check_against(silenced: DetectionModel, pruned: DetectionModel) -> None:
    """Compare raw outputs on one image of noise.

    Raises:
        ModelError: they differ, or the pruned model does not run.
    """
    said = _does_not_hold(silenced)
    ours, theirs = _outputs_of_noise(pruned, said), _outputs_of_noise(silenced, said)
    if not all(
        torch.allclose(our, their, rtol=0, atol=CHECK_TOLERANCE * float(their.abs().max()))
        for our, their in zip(ours, theirs, strict=True)
    ):
        raise ModelError(f"The narrower model does not give what the original gives without those channels: {said}.")


def _check_training(model: DetectionModel, pruned: DetectionModel) -> None:
    """Run a pass as a training does, where blocks may take other ways.

    Raises:
        ModelError: the pruned model fails where the original does not.
    """
    # Of one image alone a small map has no variance.
    images = _noise(model, 2)
    with blocks_entered(pruned) as entered:
        try:
            _train_pass(pruned, images)
        except Exception as error:
            try:
                _train_pass(model, images)
            except Exception:  # so it fails without the cut too
                return
            raise ModelError(
                f"The narrower model does not run in training {failure(error, entered)}: {_does_not_hold(model)}."
            ) from error


@torch.no_grad()
def _train_pass(model: DetectionModel, images: Tensor) -> None:
    copy.deepcopy(model).train()(images)


def _does_not_hold(model: nn.Module) -> str:
    own = sorted({type(module).__name__ for module in model.modules() if is_own(type(module))})
    return f"what compression.graph.blocks was told of {' and '.join(own)} does not hold; see docs/blocks.md"


def _noise(model: nn.Module, n_images: int) -> Tensor:
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n_images, first.in_channels, TRACE_IMGSZ, TRACE_IMGSZ, generator=generator)


def _outputs_of_noise(model: DetectionModel, said: str) -> list[Tensor]:
    """Raw outputs on one image of noise.

    Raises:
        ModelError: the model does not run; `said` tells why.
    """
    with blocks_entered(model) as entered:
        try:
            return raw_outputs(model, _noise(model, 1))
        except Exception as error:  # whatever the shapes that do not fit run into
            raise ModelError(f"The narrower model does not run {failure(error, entered)}: {said}.") from error


@torch.no_grad()
def raw_outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """What each head gives before it is decoded: boxes and scores, masks, key points or angles; scores of a classifier.

    Args:
        model: a detector of any task; not modified.
        image: float32 [B, 3, H, W].
    """
    raw = copy.deepcopy(model).eval()(image)[1]
    if isinstance(raw, Tensor):
        return [raw]
    heads = [raw] if "boxes" in raw else raw.values()
    return [value for head in heads for part, value in head.items() if part != "feats"]


def kept_outputs(model: DetectionModel, trace: Trace, plan: PruningPlan) -> dict[str, Indices]:
    """For each convolution of the original the output channels that stay, ascending.

    Args:
        model: the detector that was traced.
        trace: its channel groups.
        plan: which channels of each group stay.
    """
    return _kept_outputs(model, _positions_to_remove(trace, plan.kept))


def _kept_outputs(model: DetectionModel, removed: dict[tuple[str, Side], set[int]]) -> dict[str, Indices]:
    return {
        name: np.setdiff1d(np.arange(channels_out(module)), sorted(removed.get((name, "out"), ())))
        for name, module in model.named_modules()
        if isinstance(module, Weighted)
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
    elif isinstance(layer, nn.Linear):
        (tp.prune_linear_out_channels if side == "out" else tp.prune_linear_in_channels)(layer, positions)
    elif not isinstance(layer, Convolution):
        raise AssertionError(f"a {type(layer).__name__} has no channels to remove")
    elif isinstance(layer, nn.Conv2d) and is_depthwise(layer):
        tp.prune_depthwise_conv_out_channels(layer, positions)
    elif side == "out":
        tp.prune_conv_out_channels(layer, positions)
    else:
        tp.prune_conv_in_channels(layer, positions)
