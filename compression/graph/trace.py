"""Which channels of a detector hang together: coupled channel groups, followed through one forward pass.

A copy of the model runs on a small image under `channels.ChannelTracer`, with the stand-ins of `blocks` for what moves
channels about. Channels that run through the same layers are one group: they can be ranked against each other, and only
their number matters to the costs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from ultralytics.nn.modules import DFL
from ultralytics.nn.tasks import DetectionModel

from compression.errors import ModelError, TrimboardError
from compression.graph.blocks import known_block, training_only, unknown_blocks
from compression.graph.channels import IMAGE, ChannelTracer, Indices, Side, channels_out, is_depthwise, opaque_forward
from compression.image_size import ImageSize, height_width, in_pixels

# Channel couplings do not depend on the image size. Feature maps grow linearly with it on multiples of the stride (at
# most 64, in P6 models), so that two small images tell the size at any other.
TRACE_IMGSZ = 64
SECOND_IMGSZ = 128

UNEQUAL_PARTS = "split into parts that hold other channels"
ONLY_CHANNEL = "the only channel of its layer"

Convolution = nn.Conv2d | nn.ConvTranspose2d
# What gives channels of its own.
Weighted = Convolution | nn.Linear


@dataclass(frozen=True, kw_only=True)
class Member:
    """One side of one layer that a group's channels run through.

    Attributes:
        layer: name of the convolution, linear layer or BatchNorm in the model.
        side: "out" for the channels it gives, "in" for those it takes; a BatchNorm or depthwise convolution has "out".
        positions: channel positions in that layer.
        channels: the group's channel at each position, same length.
    """

    layer: str
    side: Side
    positions: Indices
    channels: Indices


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels that can only be removed together, wherever they run.

    Attributes:
        name: the convolution or linear layer that gives them.
        width: number of channels.
        members: every layer side that they run through.
        locked: why they must stay; None where they may go.
        couplings: the same as a group of torch-pruning's on the trace's copy, for its importance measures.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    locked: str | None
    couplings: tp.dependency.Group


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """Height and width of a convolution's output: `slope` x image size + `offset`, each (height, width).

    Of a transposed convolution it is the input, at each of whose cells the kernel is laid down.
    """

    slope: tuple[float, float]
    offset: tuple[float, float]

    def cells(self, imgsz: ImageSize) -> int:
        """Height x width at an image of that size."""
        sides = zip(self.slope, height_width(imgsz), self.offset, strict=True)
        height, width = (round(a * side + b) for a, side, b in sides)
        return height * width


@dataclass(frozen=True, kw_only=True)
class UnknownBlock:
    """A block that is left as it is.

    Attributes:
        name: its path in the model.
        type: its class.
        channels: output channels.
    """

    name: str
    type: str
    channels: int

    @property
    def reason(self) -> str:
        """Why the channels that it reads and gives must stay."""
        return f"block {self.name} ({self.type}) is not known"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The channel groups of a model.

    Attributes:
        groups: in the order in which a forward pass meets them.
        ties: indices of the groups that must keep equally many channels, each group in one of them.
        feature_maps: of each convolution of the training graph, by name; one for each time that it runs.
        unknown: the blocks that are left as they are.
        twin: the copy of the model that the groups' couplings refer to.
    """

    groups: tuple[ChannelGroup, ...]
    ties: tuple[tuple[int, ...], ...]
    feature_maps: dict[str, tuple[FeatureMap, ...]]
    unknown: tuple[UnknownBlock, ...]
    twin: DetectionModel

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each class of blocks that is left as it is."""
        places: dict[str, list[str]] = {}
        for block in self.unknown:
            places.setdefault(block.type, []).append(block.name)
        return tuple(
            f"{type_name} ({', '.join(names)}) is not a block that can be followed; it keeps its channels, and so do "
            f"the layers beside it. docs/blocks.md shows how to make it known."
            for type_name, names in places.items()
        )


def trace(model: DetectionModel) -> Trace:
    """Find the coupled channel groups of a detector.

    Args:
        model: an unfused Ultralytics `DetectionModel`; not modified.

    Raises:
        ModelError: a block of the model fails on an image of 64 pixels, or takes far too long there.
    """
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    unknown, channels = unknown_blocks(twin), ChannelTracer(twin)
    image = blank_image(twin, TRACE_IMGSZ)
    with _stand_ins(twin, unknown, channels) as widths:
        with torch.no_grad(), channels:
            channels.source(image, IMAGE)
            run_on(twin, image)
        with channels.paused():
            feature_maps = _feature_maps(twin)
    groups, ties = _tied(channels, *_groups(channels, twin))
    return Trace(
        groups=groups,
        ties=ties,
        feature_maps=feature_maps,
        unknown=tuple(
            UnknownBlock(name=name, type=type(block).__name__, channels=widths.get(name, 1))
            for name, block in unknown.items()
        ),
        twin=twin,
    )


def convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    """A detector's convolutions, and the linear layer of a classifier, with their names.

    Without those in blocks that are not known, those that only a loss reads, and the one that decodes boxes, whose
    weights are fixed.
    """
    left_out = (*(f"{name}." for name in unknown_blocks(model)), *training_only(model))
    for name, module in model.named_modules():
        followed = isinstance(module, nn.Conv2d | nn.Linear) and not f"{name}.".startswith(left_out)
        if followed and not isinstance(model.get_submodule(name.rpartition(".")[0]), DFL):
            yield name, module


# The pass


@contextmanager
def _stand_ins(model: nn.Module, unknown: dict[str, nn.Module], channels: ChannelTracer) -> Iterator[dict[str, int]]:
    """Let blocks run their stand-ins meanwhile; gives the widths of what unknown blocks give, filled when they run."""
    widths: dict[str, int] = {}
    left_out = tuple(f"{name}." for name in unknown)
    replaced = []
    for name, module in model.named_modules():
        if name in unknown:
            block = UnknownBlock(name=name, type=type(module).__name__, channels=0)
            replaced.append((module, opaque_forward(_noting(module.forward, name, widths), channels, block.reason)))
        elif name and not name.startswith(left_out):
            known = known_block(module)
            if known is not None and known.stand_in is not None:
                replaced.append((module, _bound(known.stand_in, module, channels)))
    for module, forward in replaced:
        module.forward = forward
    try:
        yield widths
    finally:
        for module, _ in replaced:
            del module.forward


def _bound(stand_in: Callable[..., Any], module: nn.Module, channels: ChannelTracer) -> Callable[..., Any]:
    return lambda *inputs: stand_in(module, *inputs, channels)


def _noting(forward: Callable[..., Any], name: str, widths: dict[str, int]) -> Callable[..., Any]:
    def run(*inputs: Any, **keys: Any) -> Any:
        out = forward(*inputs, **keys)
        if isinstance(out, Tensor) and out.dim() > 1:
            widths[name] = out.shape[1]
        return out

    return run


def run_on(model: nn.Module, image: Tensor) -> None:
    """One pass of which nothing is wanted but what hooks see.

    Raises:
        ModelError: the model does not run on that image; the block is named.
    """
    height, width = image.shape[-2:]
    with blocks_entered(model) as entered:
        try:
            model(image)
        except TrimboardError:
            raise
        except Exception as error:  # blocks of the user's raise whatever they run into
            raise ModelError(
                f"This model does not run on an image of {in_pixels(width if height == width else (height, width))} "
                f"pixels {failure(error, entered)}; its blocks have to fit together, and at more sizes than one, as "
                f"channels are followed on images of {TRACE_IMGSZ} and {SECOND_IMGSZ} pixels."
            ) from error


@contextmanager
def blocks_entered(model: nn.Module) -> Iterator[list[str]]:
    """The blocks that are running, each with its class, outermost first; after an error those that it came out of."""
    entered: list[str] = []

    def enter(block: str) -> Callable[..., None]:
        return lambda *_: entered.append(block)

    def leave(block: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            # With all that came in between, where a block catches errors of its own.
            del entered[entered.index(block) :]

        return hook

    hooks: list[Any] = []
    for name, module in model.named_modules():
        if name:
            block = f"{name}, {type(module).__name__}"
            hooks += [module.register_forward_pre_hook(enter(block)), module.register_forward_hook(leave(block))]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


def failure(error: Exception, entered: list[str]) -> str:
    """An error with the innermost block that it came out of, in brackets."""
    where = f"{entered[-1]}: " if entered else ""
    return f"({where}{type(error).__name__}: {' '.join(str(error).split())})"


def blank_image(model: nn.Module, imgsz: ImageSize) -> Tensor:
    """An image of zeros as a model takes it, on its device, [1, C, H, W]."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return first.weight.new_zeros(1, first.in_channels, *height_width(imgsz))


def _feature_maps(model: nn.Module) -> dict[str, tuple[FeatureMap, ...]]:
    small, large = (map_sizes(model, blank_image(model, imgsz)) for imgsz in (TRACE_IMGSZ, SECOND_IMGSZ))
    return {name: tuple(map(_feature_map, low, large[name])) for name, low in small.items()}


def _feature_map(low: tuple[int, int], high: tuple[int, int]) -> FeatureMap:
    """The line through a map's sizes at two image sizes."""
    slope = tuple((b - a) / (SECOND_IMGSZ - TRACE_IMGSZ) for a, b in zip(low, high, strict=True))
    offset = tuple(a - each * TRACE_IMGSZ for a, each in zip(low, slope, strict=True))
    return FeatureMap(slope=(slope[0], slope[1]), offset=(offset[0], offset[1]))


@torch.no_grad()
def map_sizes(model: nn.Module, image: Tensor) -> dict[str, list[tuple[int, int]]]:
    """Height and width of the maps that tell each convolution's costs, in the order in which it runs.

    Args:
        model: in eval mode.
        image: float32 [1, C, H, W].

    Raises:
        ModelError: the model does not run on it.
    """
    sizes: dict[str, list[tuple[int, int]]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            seen = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
            sizes.setdefault(name, []).append((seen.shape[-2], seen.shape[-1]))

        return hook

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if isinstance(module, Convolution)
    ]
    run_on(model, image)
    for hook in hooks:
        hook.remove()
    return sizes


# Groups


def _groups(channels: ChannelTracer, twin: nn.Module) -> tuple[list[ChannelGroup], dict[int, int]]:
    """Channels that run through the same layers, and in the same parts of what is split, are one group.

    Returns:
        The groups, and for each class of items (see `ChannelTracer.classes`) the index of its group.
    """
    classes = {place: channels.classes(items) for place, items in channels.members.items()}
    marks: dict[int, list[Any]] = {}
    for place, found in classes.items():
        for each in found.tolist():
            marks.setdefault(each, []).append(place)
    for number, parts in enumerate(channels.parted):
        for part, items in enumerate(parts):
            for each in channels.classes(items).tolist():
                marks.setdefault(each, []).append((number, part))
    reasons = channels.reasons()
    alike: dict[Any, list[int]] = {}
    for each, mark in sorted(marks.items()):
        alike.setdefault((tuple(mark), reasons.get(each)), []).append(each)
    groups: list[ChannelGroup] = []
    owner: dict[int, int] = {}
    for (mark, reason), members in alike.items():
        places = {place: classes[place] for place in dict.fromkeys(mark) if place in classes}
        # What no layer gives is the image, or comes out of a block that is not known.
        if any(side == "out" for _, side in places):
            owner |= dict.fromkeys(members, len(groups))
            groups.append(_group(members, reason, places, twin))
    return groups, owner


def _group(
    of_group: list[int], reason: str | None, places: dict[tuple[str, Side], Indices], twin: nn.Module
) -> ChannelGroup:
    members = []
    for (layer, side), classes in places.items():
        positions = np.flatnonzero(np.isin(classes, of_group))
        members.append(
            Member(layer=layer, side=side, positions=positions, channels=np.searchsorted(of_group, classes[positions]))
        )
    return ChannelGroup(
        name=_name(members, twin),
        width=len(of_group),
        members=tuple(members),
        locked=reason or (ONLY_CHANNEL if len(of_group) == 1 else None),
        couplings=_couplings(members, len(of_group), twin),
    )


def _name(members: list[Member], twin: nn.Module) -> str:
    """The first convolution that gives the channels, if possible one that gives no others."""
    giving = [
        (member, layer)
        for member in members
        if member.side == "out" and isinstance(layer := twin.get_submodule(member.layer), Weighted)
    ]
    alone = [member.layer for member, layer in giving if len(member.positions) == channels_out(layer)]
    return [*alone, *(member.layer for member, _ in giving)][0]


def _couplings(members: list[Member], width: int, twin: nn.Module) -> tp.dependency.Group:
    """The members as torch-pruning's importance measures read them: each place of a channel on a line of its own."""
    group = tp.dependency.Group()
    for member in members:
        layer = twin.get_submodule(member.layer)
        node, remove = tp.dependency.Node(layer, None), _removal(layer, member.side)
        order = np.argsort(member.channels, kind="stable").reshape(width, -1)
        for column in order.T:
            group.add_dep(tp.dependency.Dependency(remove, remove, node, node), member.positions[column].tolist())
            group[-1].root_idxs = list(range(width))
    return group


def _removal(layer: nn.Module, side: Side) -> Any:
    if isinstance(layer, nn.BatchNorm2d):
        return tp.prune_batchnorm_out_channels
    if isinstance(layer, nn.Conv2d) and is_depthwise(layer):
        return tp.prune_depthwise_conv_out_channels
    if isinstance(layer, nn.Linear):
        return tp.prune_linear_out_channels if side == "out" else tp.prune_linear_in_channels
    return tp.prune_conv_out_channels if side == "out" else tp.prune_conv_in_channels


# Ties


def _tied(
    channels: ChannelTracer, groups: list[ChannelGroup], owner: dict[int, int]
) -> tuple[tuple[ChannelGroup, ...], tuple[tuple[int, ...], ...]]:
    """Which groups must keep equally many channels, since a block wants equal parts; and the groups, each locked where
    one that it is tied to is, or where parts are made of more than a tie can tell."""
    one_with = list(range(len(groups)))
    locked: dict[int, str] = {index: group.locked for index, group in enumerate(groups) if group.locked}

    def root(index: int) -> int:
        return index if one_with[index] == index else root(one_with[index])

    for parts in channels.parted:
        runs = [_runs(channels.classes(part).tolist(), owner) for part in parts]
        if _can_be_tied(runs, groups):
            for tie in zip(*runs, strict=True):
                for (index, _), (other, _) in pairwise(tie):
                    assert index is not None
                    assert other is not None
                    one_with[root(other)] = root(index)
        else:
            for index in (index for run in runs for index, _ in run if index is not None):
                locked.setdefault(index, UNEQUAL_PARTS)
    ties: dict[int, list[int]] = {}
    for index in range(len(groups)):
        ties.setdefault(root(index), []).append(index)
    for tied in ties.values():
        reason = next((locked[index] for index in tied if index in locked), None)
        for index in tied:
            groups[index] = replace(groups[index], locked=reason)
    return tuple(groups), tuple(sorted(tuple(tied) for tied in ties.values()))


def _runs(classes: list[int], owner: dict[int, int]) -> list[tuple[int | None, int]]:
    """The groups that stand one after the other in a part, each with its number of channels there."""
    owners = (owner.get(each) for each in classes)
    return [(index, len(list(run))) for index, run in groupby(owners)]


def _can_be_tied(runs: list[list[tuple[int | None, int]]], groups: list[ChannelGroup]) -> bool:
    """Whether the parts are whole groups of equal widths in the same order."""
    whole = all(index is not None and count == groups[index].width for run in runs for index, count in run)
    return whole and len({tuple(count for _, count in run) for run in runs}) == 1
