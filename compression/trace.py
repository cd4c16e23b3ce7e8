"""Which channels of a detector hang together: coupled channel groups, found by torch-pruning on stand-in forwards.

torch-pruning follows the autograd graph of a forward pass. The forwards of YOLO blocks hold operations that it follows
at great cost (`view` of attention and head to H x W anchors) or not at all (`chunk` of one convolution into two halves
of equal width), so a copy of the model is traced in which those blocks run a stand-in with the same channel couplings.
The indices are then given in terms of the original's layers.

Source: torch-pruning's DependencyGraph, https://arxiv.org/abs/2301.12900.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any, Literal

import numpy as np
import torch
import torch_pruning as tp
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.nn.modules import (
    C2PSA,
    C3,
    DFL,
    SPPF,
    Attention,
    Bottleneck,
    C2f,
    C3k2,
    Concat,
    Conv,
    Detect,
    DWConv,
)
from ultralytics.nn.tasks import DetectionModel

from compression.errors import ModelError

Side = Literal["in", "out"]
Indices = NDArray[np.int64]

# Channel couplings do not depend on the image size. Feature maps grow linearly with it on multiples of the stride (at
# most 64, in P6 models), so that two small images tell the size at any other.
TRACE_IMGSZ = 64
SECOND_IMGSZ = 128

RESIDUAL_WIDTH = "the residual width of an attention block"

# Top-level blocks whose stand-ins (or own forwards) are known to be traced completely.
TRACEABLE_BLOCKS = (Conv, DWConv, Bottleneck, C2f, C3k2, C3, SPPF, C2PSA, Concat, Detect, nn.Upsample, nn.Identity)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One side of one layer that a group's channels run through.

    Attributes:
        layer: name of the convolution or BatchNorm in the original model.
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
        name: the convolution that gives them.
        width: number of channels.
        members: every layer side that they run through.
        locked: why they must stay; None where they may go.
        couplings: torch-pruning's own group on the traced copy, for its importance measures.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    locked: str | None
    couplings: tp.dependency.Group


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """Height and width of a convolution's output: `slope` x image size + `offset`, each (height, width)."""

    slope: tuple[float, float]
    offset: tuple[float, float]

    def cells(self, imgsz: int) -> int:
        """Height x width at a square image of `imgsz` pixels."""
        height, width = (round(a * imgsz + b) for a, b in zip(self.slope, self.offset, strict=True))
        return height * width


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The channel groups of a model.

    Attributes:
        groups: in the order in which torch-pruning meets them.
        ties: indices of the groups that must keep equally many channels, each group in one of them.
        feature_maps: of each convolution of the training graph, by name.
        places: for each convolution and BatchNorm of the traced copy its name in the original and the first of the
            original's output channels that it holds.
    """

    groups: tuple[ChannelGroup, ...]
    ties: tuple[tuple[int, ...], ...]
    feature_maps: dict[str, FeatureMap]
    places: dict[nn.Module, tuple[str, int]]


class _Halves(nn.Module):
    """A `Conv` whose output is chunked in two, as two convolutions that are pruned apart.

    Parameters are views of the original's, so that unfolding copies nothing and folding back is exact.
    """

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.first, self.second = _half(conv, 0), _half(conv, 1)


def _half(conv: Conv, half: int) -> nn.Sequential:
    whole, norm = conv.conv, conv.bn
    width = whole.out_channels // 2
    part = slice(half * width, (half + 1) * width)
    thin = nn.Conv2d(
        whole.in_channels,
        width,
        whole.kernel_size,
        whole.stride,
        whole.padding,
        whole.dilation,
        bias=False,
        device="meta",
    )
    thin.weight = nn.Parameter(whole.weight.detach()[part])
    thin_norm = nn.BatchNorm2d(width, eps=norm.eps, momentum=norm.momentum, device="meta")
    thin_norm.weight, thin_norm.bias = (nn.Parameter(each.detach()[part]) for each in (norm.weight, norm.bias))
    thin_norm.running_mean, thin_norm.running_var = norm.running_mean[part], norm.running_var[part]
    thin_norm.num_batches_tracked = norm.num_batches_tracked
    return nn.Sequential(thin, thin_norm, conv.act)


def _c2f_forward(self: C2f, x: Tensor) -> Tensor:
    outputs = [self.cv1.first(x), self.cv1.second(x)]
    outputs.extend(block(outputs[-1]) for block in self.m)
    return self.cv2(torch.cat(outputs, 1))


def _c2psa_forward(self: C2PSA, x: Tensor) -> Tensor:
    return self.cv2(torch.cat((self.cv1.first(x), self.m(self.cv1.second(x))), 1))


def _attention_forward(self: Attention, x: Tensor) -> Tensor:
    # Input, values and output share the residual width, and that is locked: nothing need be followed through `qkv`,
    # which runs only to show the size of its output. Its groups are made by `_attention_groups`.
    self.qkv(x)
    return self.proj(self.pe(x))


def _detect_forward(self: Detect, x: list[Tensor]) -> list[Tensor]:
    return [branch(feature) for branches in head_branches(self) for branch, feature in zip(branches, x, strict=True)]


def head_branches(head: Detect) -> list[nn.ModuleList]:
    """The box and class branches of every head that is there: one-to-many, and one-to-one of an end-to-end model."""
    names = ("cv2", "cv3", "one2one_cv2", "one2one_cv3")
    return [branches for name in names if (branches := getattr(head, name, None)) is not None]


_STAND_INS: dict[type[nn.Module], Callable[..., Any]] = {
    C2f: _c2f_forward,
    C2PSA: _c2psa_forward,
    Attention: _attention_forward,
    Detect: _detect_forward,
}


def make_traceable(model: DetectionModel) -> DetectionModel:
    """A copy of a detector whose blocks run their stand-ins; the model itself is left as it is."""
    traced = copy.deepcopy(model).requires_grad_(True)
    for module in list(traced.modules()):
        for block_type, forward in _STAND_INS.items():
            if isinstance(module, block_type):
                module.forward = MethodType(forward, module)
        if isinstance(module, C2f | C2PSA):
            module.cv1 = _Halves(module.cv1)
    # With the new layers in it: BatchNorm in training refuses a single position, which is what P6 has at 64 pixels.
    return traced.eval()


def trace(model: DetectionModel) -> Trace:
    """Find the coupled channel groups of a detector.

    Args:
        model: an unfused Ultralytics `DetectionModel`; not modified.

    Raises:
        ModelError: a block of the model cannot be traced.
    """
    _check_blocks(model)
    traced = make_traceable(model)
    with torch.enable_grad():
        graph = tp.DependencyGraph().build_dependency(traced, _blank_image(traced, TRACE_IMGSZ), verbose=False)
    names = {module: name for name, module in traced.named_modules()}
    reasons = dict(_locked_layers(traced))
    groups: list[ChannelGroup] = []
    halves: dict[str, int] = {}
    for couplings in graph.get_all_groups(root_module_types=[nn.Conv2d]):
        group = _to_group(couplings, graph, names, reasons)
        for root in _half_roots(couplings, names):
            halves[root] = len(groups)
        groups.append(group)
    ties = list(_pairs(halves))
    for attention in (module for module in traced.modules() if isinstance(module, Attention)):
        made = list(_attention_groups(attention, graph, names))
        ties.append(tuple(range(len(groups), len(groups) + attention.num_heads)))
        groups.extend(made)
    _check_coverage(model, groups)
    tied = {index for tie in ties for index in tie}
    ties = sorted([*ties, *((index,) for index in range(len(groups)) if index not in tied)])
    return Trace(
        groups=tuple(_lock_tied(groups, ties)),
        ties=tuple(ties),
        feature_maps=_feature_maps(traced),
        places={
            module: _original_place(name, module)
            for module, name in names.items()
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
        },
    )


def _blank_image(model: nn.Module, imgsz: int) -> Tensor:
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    return first.weight.new_zeros(1, first.in_channels, imgsz, imgsz)


def _feature_maps(traced: nn.Module) -> dict[str, FeatureMap]:
    small, large = (_output_sizes(traced, imgsz) for imgsz in (TRACE_IMGSZ, SECOND_IMGSZ))
    maps = {}
    for name, low in small.items():
        slope = tuple((b - a) / (SECOND_IMGSZ - TRACE_IMGSZ) for a, b in zip(low, large[name], strict=True))
        offset = tuple(a - each * TRACE_IMGSZ for a, each in zip(low, slope, strict=True))
        maps[name] = FeatureMap(slope=(slope[0], slope[1]), offset=(offset[0], offset[1]))
    return maps


@torch.no_grad()
def _output_sizes(traced: nn.Module, imgsz: int) -> dict[str, tuple[int, int]]:
    """Height and width of each convolution's output, by the original's names."""
    sizes: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _module, _inputs, output: sizes.__setitem__(name, (output.shape[-2], output.shape[-1]))

    hooks = [
        module.register_forward_hook(note(_original_place(name, None)[0]))
        for name, module in traced.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    traced(_blank_image(traced, imgsz))
    for hook in hooks:
        hook.remove()
    return sizes


def _check_blocks(model: DetectionModel) -> None:
    for index, block in enumerate(model.model):
        # A repeated block stands in a Sequential.
        for part in block if isinstance(block, nn.Sequential) else [block]:
            if type(part) not in TRACEABLE_BLOCKS:
                known = ", ".join(each.__name__ for each in TRACEABLE_BLOCKS)
                raise ModelError(
                    f"Block {index} of this model is a {type(part).__name__}, which cannot be pruned yet; "
                    f"models of these blocks can: {known}."
                )
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module):
            raise ModelError(
                f"Layer {name} of this model is a convolution in {module.groups} groups, which cannot be pruned yet; "
                f"plain and depthwise convolutions can."
            )


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether each output channel reads one input channel of its own."""
    return conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1


def convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """A detector's convolutions with their names, but for the one that decodes boxes, whose weights are fixed."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and not isinstance(model.get_submodule(name.rpartition(".")[0]), DFL):
            yield name, module


def _locked_layers(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Convolutions whose outputs must stay, with the reason."""
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            for part, layer in module.named_modules():
                if isinstance(layer, nn.Conv2d):
                    yield f"{name}.{part}", RESIDUAL_WIDTH
        if isinstance(module, Detect):
            finals = {layer for branches in head_branches(module) for layer in _last_layers(branches)}
            for part, layer in module.named_modules():
                if layer in finals:
                    yield f"{name}.{part}", "the outputs of the head"


def _last_layers(branches: nn.ModuleList) -> list[nn.Module]:
    return [list(branch.children())[-1] for branch in branches]


def _to_group(
    couplings: tp.dependency.Group, graph: tp.DependencyGraph, names: dict[nn.Module, str], reasons: dict[str, str]
) -> ChannelGroup:
    members, locked = [], None
    for (dependency, positions), item in zip(couplings, couplings.items, strict=True):
        module = dependency.target.module
        if not isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            continue
        gives = graph.is_out_channel_pruning_fn(dependency.handler)
        if not gives and names[module].endswith(".second.0"):
            continue  # reads what the first half reads; folded, they are one layer
        if gives and names[module] in reasons:
            locked = reasons[names[module]]
        layer, offset = _original_place(names[module], module if gives else None)
        members.append(
            Member(
                layer=layer,
                side="out" if gives else "in",
                positions=np.asarray(positions, dtype=np.int64) + offset,
                channels=np.asarray(item.root_idxs, dtype=np.int64),
            )
        )
    root = couplings[0]
    return ChannelGroup(
        name=_original_place(names[root.dep.target.module], None)[0],
        width=len(root.idxs),
        members=tuple(members),
        locked=locked,
        couplings=couplings,
    )


def _original_place(name: str, half_module: nn.Conv2d | nn.BatchNorm2d | None) -> tuple[str, int]:
    """A layer of the traced copy as (layer of the original, first channel there)."""
    for half, part in enumerate(("first", "second")):
        for number, child in enumerate(("conv", "bn")):
            suffix = f".{part}.{number}"
            if name.endswith(suffix):
                width = 0 if half_module is None else _width(half_module)
                return f"{name.removesuffix(suffix)}.{child}", half * width
    return name, 0


def _width(module: nn.Conv2d | nn.BatchNorm2d) -> int:
    return module.out_channels if isinstance(module, nn.Conv2d) else module.num_features


def _half_roots(couplings: tp.dependency.Group, names: dict[nn.Module, str]) -> Iterator[str]:
    """Names of the unfolded half convolutions whose outputs the group holds."""
    for dependency, _ in couplings:
        name = names.get(dependency.target.module, "")
        if name.endswith((".first.0", ".second.0")) and dependency.handler == tp.prune_conv_out_channels:
            yield name


def _pairs(halves: dict[str, int]) -> Iterator[tuple[int, ...]]:
    """The groups of both halves of each chunked convolution."""
    for name, index in halves.items():
        if name.endswith(".first.0"):
            yield tuple(sorted((index, halves[name.removesuffix(".first.0") + ".second.0"])))


def _attention_groups(
    attention: Attention, graph: tp.DependencyGraph, names: dict[nn.Module, str]
) -> Iterator[ChannelGroup]:
    """What `qkv` gives: for each head its queries with the keys that they are multiplied with, then all values.

    Each head may keep other channels, but `view` wants equally many of each.
    """
    keys, heads = attention.key_dim, attention.num_heads
    positions = np.arange(attention.qkv.conv.out_channels).reshape(heads, -1)
    for head in positions:
        yield _to_group(_couplings(attention.qkv, head[:keys], head[keys : 2 * keys]), graph, names, {})
    values = _to_group(_couplings(attention.qkv, positions[:, 2 * keys :].flatten()), graph, names, {})
    yield replace(values, locked=RESIDUAL_WIDTH)


def _couplings(conv: Conv, *places: Indices) -> tp.dependency.Group:
    """torch-pruning's group of channels each of which stands at several places of one convolution's output."""
    group = tp.dependency.Group()
    for layer, remove in ((conv.conv, tp.prune_conv_out_channels), (conv.bn, tp.prune_batchnorm_out_channels)):
        node = tp.dependency.Node(layer, None)
        for positions in places:
            group.add_dep(tp.dependency.Dependency(remove, remove, node, node), positions.tolist())
            group[-1].root_idxs = list(range(len(positions)))
    return group


def _lock_tied(groups: list[ChannelGroup], ties: list[tuple[int, ...]]) -> list[ChannelGroup]:
    """The groups, each locked where one that it is tied to is."""
    locked = list(groups)
    for tie in ties:
        reason = next((groups[index].locked for index in tie if groups[index].locked), None)
        for index in tie:
            locked[index] = replace(groups[index], locked=reason)
    return locked


def _check_coverage(model: DetectionModel, groups: list[ChannelGroup]) -> None:
    """Every channel on either side of every traced layer stands in exactly one group, or none of that side does."""
    covered: dict[tuple[str, Side], list[Indices]] = {}
    for group in groups:
        for member in group.members:
            covered.setdefault((member.layer, member.side), []).append(member.positions)
    for (name, side), positions in covered.items():
        layer = model.get_submodule(name)
        width = layer.in_channels if side == "in" else _width(layer)
        if not np.array_equal(np.sort(np.concatenate(positions)), np.arange(width)):
            raise ModelError(
                f"The channels of layer {name} cannot be followed through this model; it cannot be pruned."
            )
