"""Copies of detectors that other tools can follow: forwards without `chunk`, `view` and the decoding of boxes.

`compression.graph.trace` needs none of this; torch.fx and torch-pruning by themselves do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import C2PSA, Attention, C2f, Conv, Detect
from ultralytics.nn.tasks import DetectionModel

from compression.graph.blocks import head_branches


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
    # Input, values and output share the residual width, which stays: nothing need be followed through `qkv`.
    self.qkv(x)
    return self.proj(self.pe(x))


def _detect_forward(self: Detect, x: list[Tensor]) -> list[Tensor]:
    return [branch(feature) for branches in head_branches(self) for branch, feature in zip(branches, x, strict=True)]


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
