"""The blocks that are known: whose channels can be followed, and what has to be told about them.

A block whose class is not registered here is left as it is, with the channels that it reads and gives. Most blocks need
no more than to be named: their own forward is followed. A block that moves channels about, like attention, has a
stand-in that says which hang together. docs/blocks.md shows how to add one's own.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from ultralytics.nn import modules as ul
from ultralytics.nn.modules import block as ul_blocks
from ultralytics.nn.modules.head import OBB26, Pose26, Segment26, v10Detect

from compression.errors import SpecError
from compression.graph.channels import ChannelTracer, Indices, is_depthwise

# Modules of the user's that register blocks of their own, separated by commas.
BLOCKS_VARIABLE = "TRIMBOARD_BLOCKS"

RESIDUAL_WIDTH = "the residual width of an attention block"
AREA_ATTENTION = "queries, keys and values of area attention"
SCALED_RESIDUAL = "an output that is scaled channel by channel"
HEAD_OUTPUTS = "the outputs of the head"

StandIn = Callable[..., Any]
AfterCut = Callable[[Any, Mapping[str, Indices]], None]


@dataclass(frozen=True, kw_only=True)
class Block:
    """What is known of one class of blocks.

    Attributes:
        stand_in: runs in place of the block's forward while channels are followed, as `stand_in(block, *inputs,
            channels)`; None for the block's own forward.
        after_cut: sets what the block knows of its widths, given the block and, for each of its convolutions, the
            output channels that stay; None where it knows nothing.
        fits: whether a block of this class is one that can be followed.
    """

    stand_in: StandIn | None = None
    after_cut: AfterCut | None = None
    fits: Callable[[Any], bool] = lambda block: True


_REGISTRY: dict[type[nn.Module], Block] = {}


def register_block(
    block_type: type[nn.Module],
    *,
    stand_in: StandIn | None = None,
    after_cut: AfterCut | None = None,
    fits: Callable[[Any], bool] = lambda block: True,
) -> None:
    """Make a class of blocks known, so that it is pruned; see `Block`. Subclasses are not meant.

    The restricted loader admits the class from then on.
    """
    _REGISTRY[block_type] = Block(stand_in=stand_in, after_cut=after_cut, fits=fits)
    if is_own(block_type):
        torch.serialization.add_safe_globals([block_type])


def is_own(block_type: type[nn.Module]) -> bool:
    """Whether a class comes from neither PyTorch nor Ultralytics."""
    return block_type.__module__.partition(".")[0] not in ("torch", "ultralytics")


def known_block(module: nn.Module) -> Block | None:
    """What is known of a module's class; None where it cannot be followed."""
    block = _REGISTRY.get(type(module))
    return block if block is not None and block.fits(module) else None


def unknown_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost modules of a detector that cannot be followed, by name."""
    return dict(_unknown(model, ""))


def own_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost modules of the user's classes that are known, by name."""
    found: dict[str, nn.Module] = {}
    left_out = tuple(f"{name}." for name in unknown_blocks(model))
    for name, module in model.named_modules():
        inside = f"{name}.".startswith((*left_out, *(f"{outer}." for outer in found)))
        if is_own(type(module)) and known_block(module) is not None and not inside:
            found[name] = module
    return found


def _unknown(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if known_block(child) is None:
            yield path, child
        elif not isinstance(child, ul.Conv | ul.ConvTranspose | ul.Classify | ul_blocks.RealNVP):
            # What is in these is covered by their own entry.
            yield from _unknown(child, f"{path}.")


@cache
def load_own_blocks() -> None:
    """Import the modules of the user's that register blocks.

    Raises:
        SpecError: there is no such module, or it fails.
    """
    for name in filter(None, (part.strip() for part in os.environ.get(BLOCKS_VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except Exception as error:  # a module of the user's raises whatever it runs into
            raise SpecError(
                f"The module {name!r} that {BLOCKS_VARIABLE} names cannot be imported ({error}); "
                f"check its name and code, and that it is on the Python path."
            ) from error


def head_branches(head: ul.Detect) -> list[nn.ModuleList]:
    """The box and class branches of every head that is there: one-to-many, and one-to-one of an end-to-end model."""
    names = ("cv2", "cv3", "one2one_cv2", "one2one_cv3")
    return [branches for name in names if (branches := getattr(head, name, None)) is not None]


def training_only(model: nn.Module) -> tuple[str, ...]:
    """What a model has for its loss alone, each with a dot behind its path.

    No prediction reads it, Ultralytics' summary counts no operations of it, and `fuse()` takes it away.
    """
    found = []
    for name, module in model.named_modules():
        if isinstance(module, ul_blocks.Proto26):
            found.append(f"{name}.semseg.")
        elif isinstance(module, Pose26):
            found += [f"{name}.{part}." for part in ("flow_model", "cv4_sigma", "one2one_cv4_sigma")]
    return tuple(found)


# Stand-ins


def _detect(head: ul.Detect, x: list[Tensor], channels: ChannelTracer) -> None:
    for branches in head_branches(head):
        _lock_outputs(branches, x, channels)


def _lock_outputs(branches: nn.ModuleList, x: list[Tensor], channels: ChannelTracer) -> None:
    for branch, feature in zip(branches, x, strict=True):
        channels.lock(branch(feature), HEAD_OUTPUTS)


def _third_branches(head: ul.Detect) -> list[nn.ModuleList]:
    """The branches of mask coefficients, key points or angles of every head that is there."""
    return [branches for name in ("cv4", "one2one_cv4") if (branches := getattr(head, name, None)) is not None]


def _with_third_branch(head: ul.Pose | ul.OBB, x: list[Tensor], channels: ChannelTracer) -> None:
    _detect(head, x, channels)
    for branches in _third_branches(head):
        _lock_outputs(branches, x, channels)


def _segment(head: ul.Segment, x: list[Tensor], channels: ChannelTracer) -> None:
    _with_third_branch(head, x, channels)
    channels.lock(head.proto(x[0]), HEAD_OUTPUTS)


def _segment26(head: Segment26, x: list[Tensor], channels: ChannelTracer) -> None:
    _with_third_branch(head, x, channels)
    channels.lock(head.proto(x), HEAD_OUTPUTS)


def _proto26(block: ul_blocks.Proto26, x: list[Tensor], channels: ChannelTracer) -> Tensor:
    total = x[0]
    for level, (refine, feature) in enumerate(zip(block.feat_refine, x[1:], strict=True), start=1):
        total = total + functional.interpolate(refine(feature), scale_factor=2**level, mode="nearest")
    fused = block.feat_fuse(total)
    first = block.cv1(fused)
    # The semantic branch serves the loss alone. It is cut as deep as the branch of the same widths beside it, so that
    # no cut is had from what is not deployed.
    hidden = block.semseg[0](total)
    deeper = block.semseg[1](hidden)
    channels.tie(fused, hidden)
    channels.tie(first, deeper)
    channels.lock(block.semseg[2](deeper), HEAD_OUTPUTS)
    out: Tensor = block.cv3(block.cv2(block.upsample(first)))
    return out


def _pose26(head: Pose26, x: list[Tensor], channels: ChannelTracer) -> None:
    _detect(head, x, channels)
    for name in ("", "one2one_"):
        branches = getattr(head, f"{name}cv4", None)
        if branches is not None:
            features = [branch(feature) for branch, feature in zip(branches, x, strict=True)]
            for part in ("kpts", "sigma"):
                _lock_outputs(getattr(head, f"{name}cv4_{part}"), features, channels)


def _classify(head: ul.Classify, x: Tensor | list[Tensor], channels: ChannelTracer) -> None:
    joined = torch.cat(x, 1) if isinstance(x, list) else x
    channels.lock(head.linear(head.pool(head.conv(joined)).flatten(1)), HEAD_OUTPUTS)


def _attention(block: ul.Attention, x: Tensor, channels: ChannelTracer) -> Tensor:
    # Of each head its queries with the keys that they are multiplied with, then its values. Each head may keep other
    # queries, but `view` wants equally many of each, and values as wide as the input.
    qkv, keys, width = block.qkv(x), block.key_dim, 2 * block.key_dim + block.head_dim
    starts = range(0, block.num_heads * width, width)
    queries = [qkv[:, start : start + keys] for start in starts]
    for start, query in zip(starts, queries, strict=True):
        channels.couple(query, qkv[:, start + keys : start + 2 * keys])
    channels.tie(*queries)
    values = torch.cat([qkv[:, start + 2 * keys : start + width] for start in starts], 1)
    out: Tensor = block.proj(values + block.pe(values))
    for tensor in (x, values, out):
        channels.lock(tensor, RESIDUAL_WIDTH)
    return out


def _area_attention(block: ul_blocks.AAttn, x: Tensor, channels: ChannelTracer) -> Tensor:
    # Queries, keys and values share one width, which scales the products too.
    qkv = block.qkv(x)
    channels.lock(qkv, AREA_ATTENTION)
    out: Tensor = block.proj(block.pe(qkv[:, : block.all_head_dim]))
    return out


def _a2c2f(block: ul.A2C2f, x: Tensor, channels: ChannelTracer) -> Tensor:
    outputs = [block.cv1(x)]
    outputs.extend(each(outputs[-1]) for each in block.m)
    out: Tensor = block.cv2(torch.cat(outputs, 1))
    if block.gamma is None:
        return out
    channels.lock(out, SCALED_RESIDUAL)
    return x + out


def _cb_fuse(block: ul.CBFuse, xs: list[Any], channels: ChannelTracer) -> Tensor:
    size = xs[-1].shape[2:]
    total: Tensor = xs[-1]
    for x, index in zip(xs[:-1], block.idx, strict=True):
        total = total + functional.interpolate(x[index], size=size, mode="nearest")
    return total


# What blocks know of their widths


def _half_of_cv1(block: Any, kept: Mapping[str, Indices]) -> None:
    block.c = len(kept["cv1.conv"]) // 2


def _key_dim(block: ul.Attention, kept: Mapping[str, Indices]) -> None:
    # `scale` stays that of the full width: queries times keys lose only what was removed.
    block.key_dim = (len(kept["qkv.conv"]) // block.num_heads - block.head_dim) // 2


def _parts_of_conv(block: ul.CBLinear, kept: Mapping[str, Indices]) -> None:
    ends = torch.tensor(block.c2s).cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    block.c2s = [
        int(((kept["conv"] >= start) & (kept["conv"] < end)).sum()) for start, end in zip(starts, ends, strict=True)
    ]


# What can be followed of a class


def _is_plain_conv(conv: nn.Conv2d) -> bool:
    plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and (conv.groups == 1 or is_depthwise(conv))


def _is_plain(block: ul.Conv) -> bool:
    return _is_plain_conv(block.conv) and known_block(block.act) is not None


def _is_plain_transposed(block: ul.ConvTranspose) -> bool:
    norm = isinstance(block.bn, nn.BatchNorm2d | nn.Identity)
    return norm and block.conv_transpose.groups == 1 and known_block(block.act) is not None


for _type in (
    *(nn.Sequential, nn.ModuleList, nn.Identity, nn.Upsample, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool2d, nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
    *(nn.Dropout, nn.Dropout2d, nn.SiLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh),
    *(nn.Mish, nn.GELU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.SELU, nn.CELU),
    *(nn.Softsign, nn.LogSigmoid),
    *(ul.Concat, ul.Focus, ul.GhostConv, ul.LightConv, ul.SPP, ul.SPPF, ul.SPPELAN, ul.AConv, ul.ADown, ul.SCDown),
    *(ul.C1, ul.C3, ul.C3x, ul.C3Ghost, ul.RepC3, ul_blocks.C3f, ul_blocks.C3k, ul.Bottleneck, ul.GhostBottleneck),
    *(ul.CIB, ul.RepVGGDW, ul_blocks.RepBottleneck, ul_blocks.RepCSP, ul_blocks.PSABlock, ul_blocks.ABlock),
    *(ul.DFL, ul.Proto, ul_blocks.RealNVP, ul_blocks.ResNetBlock, ul_blocks.ResNetLayer),
):
    register_block(_type)

for _type in (ul.C2, ul.C2f, ul.C3k2, ul.C2fCIB, ul.C2fPSA, ul.C2PSA, ul.PSA, ul.RepNCSPELAN4, ul.ELAN1):
    register_block(_type, after_cut=_half_of_cv1)

for _type in (ul.Detect, v10Detect):
    register_block(_type, stand_in=_detect)

for _type in (ul.Pose, ul.OBB, OBB26):
    register_block(_type, stand_in=_with_third_branch)

register_block(ul.Segment, stand_in=_segment)
register_block(Segment26, stand_in=_segment26)
register_block(ul_blocks.Proto26, stand_in=_proto26)
register_block(Pose26, stand_in=_pose26)
register_block(ul.Classify, stand_in=_classify, fits=lambda head: known_block(head.conv) is not None)

register_block(nn.PReLU, fits=lambda act: act.num_parameters == 1)
register_block(nn.Conv2d, fits=_is_plain_conv)
register_block(nn.ConvTranspose2d, fits=lambda layer: layer.groups == 1)
register_block(ul.Conv, fits=_is_plain)
register_block(ul.DWConv, fits=_is_plain)
register_block(ul.ConvTranspose, fits=_is_plain_transposed)
register_block(ul.RepConv, fits=lambda block: block.bn is None)
register_block(ul.Attention, stand_in=_attention, after_cut=_key_dim)
register_block(ul_blocks.AAttn, stand_in=_area_attention)
register_block(ul.A2C2f, stand_in=_a2c2f)
register_block(ul.CBLinear, after_cut=_parts_of_conv)
register_block(ul.CBFuse, stand_in=_cb_fuse)
