"""Give a fused checkpoint back what `fuse()` took from it, so that it can be cut and trained like any other.

`fuse()` folds each BatchNorm into its convolution, merges the parallel branches of re-parameterised blocks, and drops
the head that no prediction reads. The function of the network can be written in the old layers again, exactly: a
BatchNorm that changes nothing, a second branch of zeros, and a head that begins as a copy of the one that is left. What
is lost is what BatchNorm knew of its inputs: `settle_batchnorm` measures it on images.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from ultralytics.nn import modules as ul
from ultralytics.nn.modules.block import Proto26, RealNVP
from ultralytics.nn.modules.conv import Conv2
from ultralytics.nn.modules.head import Pose26
from ultralytics.nn.tasks import DetectionModel

# Of every BatchNorm of Ultralytics: `ultralytics.utils.torch_utils.initialize_weights`.
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.03
# Images that pass at once where inputs of BatchNorm are measured.
BATCH = 16
_ONE_TO_ONE = "one2one_"
# Of a BatchNorm that divides by one; it is told apart from the 1 that others begin with in half precision too.
_BLANK_VARIANCE = torch.tensor(1 - NORM_EPS)
_NEAR = 1e-4

Folded = TypeVar("Folded", nn.Conv2d, nn.ConvTranspose2d)


def unfuse(module: DetectionModel) -> None:
    """Rebuild in place all that `fuse()` took, without changing what the model predicts.

    Args:
        module: in eval mode; a model that is not fused stays as it is.
    """
    for block in list(module.modules()):
        if isinstance(block, ul.RepConv) and not hasattr(block, "conv1"):
            _split_rep_conv(block)
        elif isinstance(block, ul.RepVGGDW) and not hasattr(block, "conv1"):
            _split_rep_vgg(block)
        elif isinstance(block, ul.Conv) and not hasattr(block, "bn"):
            block.conv, block.bn = _unfolded(cast(nn.Conv2d, block.conv))
            if isinstance(block, Conv2):
                block.cv2 = _silent_1x1(block.conv)
        elif isinstance(block, ul.ConvTranspose) and not hasattr(block, "bn"):
            block.conv_transpose, block.bn = _unfolded(cast(nn.ConvTranspose2d, block.conv_transpose))
        else:
            continue
        # Of the instance: `forward_fuse` in the place of the class's own.
        block.__dict__.pop("forward", None)
    head = module.model[-1]
    if isinstance(head, ul.Detect):
        _restore_training_layers(cast(Any, head))


def was_fused(module: nn.Module) -> bool:
    """Whether a model's BatchNorms were rebuilt and have not seen an image since."""
    return any(_is_rebuilt(norm) for norm in _norms(module))


@torch.no_grad()
def settle_batchnorm(module: DetectionModel, images: Tensor, *, device: torch.device) -> DetectionModel:
    """Give each rebuilt BatchNorm the mean and variance of what it receives, without changing what the model predicts.

    A training normalises by them; without them its first step would change every feature map.

    Args:
        module: as `unfuse` left it; not modified.
        images: uint8 [N, 3, H, W]; H, W multiples of the model's largest stride.
        device: where to compute.

    Returns:
        A copy.
    """
    settled = copy.deepcopy(module).eval().to(device)
    norms = _norms(settled)
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64, device=device) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0].double().transpose(0, 1).flatten(1)
        count = torch.full((len(values),), values.shape[1], dtype=torch.float64, device=device)
        sums[cast(nn.BatchNorm2d, norm)] += torch.stack([count, values.sum(1), (values**2).sum(1)])

    handles = [norm.register_forward_pre_hook(add) for norm in norms]
    for start in range(0, len(images), BATCH):
        settled(images[start : start + BATCH].to(device).float() / 255)
    for handle in handles:
        handle.remove()
    for norm, (count, total, squares) in sums.items():
        if count.all():
            mean = total / count
            _normalise_by(norm, mean, (squares / count - mean**2).clamp(min=0))
    return settled.cpu()


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [each for each in module.modules() if isinstance(each, nn.BatchNorm2d)]


def _is_rebuilt(norm: nn.BatchNorm2d) -> bool:
    """Its variance is one that no other BatchNorm begins with, see `_unfolded`."""
    if norm.running_var is None:
        return False
    return not norm.num_batches_tracked and bool((norm.running_var - _BLANK_VARIANCE).abs().max() < _NEAR)


def _normalise_by(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Other statistics, and the scale and shift with which the outputs stay what they are."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - scale * norm.running_mean.double()
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(shift + scale * mean)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.num_batches_tracked.fill_(1)


def _unfolded(conv: Folded) -> tuple[Folded, nn.BatchNorm2d]:
    """A convolution without its bias, and a BatchNorm that adds it and changes nothing else."""
    norm = nn.BatchNorm2d(conv.out_channels, eps=NORM_EPS, momentum=NORM_MOMENTUM).eval()
    assert norm.running_var is not None
    norm.running_var.copy_(_BLANK_VARIANCE)
    if conv.bias is not None:
        norm.bias.data.copy_(conv.bias.data)
    conv.bias = None
    return conv.requires_grad_(True), norm


def _split_rep_conv(block: Any) -> None:
    """Both branches of a RepConv; the identity's BatchNorm, where there was one, stays within the first."""
    block.conv1, block.conv2 = _as_block(block.conv), _as_block(_silent_1x1(block.conv))
    block.bn = None
    del block.conv


def _split_rep_vgg(block: Any) -> None:
    block.conv1 = _as_block(_resized(block.conv, kernel=3, padding=1))
    block.conv = _as_block(block.conv)


def _as_block(conv: nn.Conv2d) -> nn.Module:
    """An Ultralytics `Conv` without activation that does what a convolution does."""
    block = ul.Conv(1, 1, act=False)
    block.conv, block.bn = _unfolded(conv)
    return block.eval()


def _silent_1x1(conv: nn.Conv2d) -> nn.Conv2d:
    return _resized(conv, kernel=1, padding=0)


def _resized(conv: nn.Conv2d, *, kernel: int, padding: int) -> nn.Conv2d:
    """A convolution beside another one, with another kernel; its weights are 0."""
    stride = cast(tuple[int, int], conv.stride)
    beside = nn.Conv2d(conv.in_channels, conv.out_channels, kernel, stride, padding, groups=conv.groups, bias=False)
    nn.init.zeros_(beside.weight)
    return beside


def _restore_training_layers(head: Any) -> None:
    """What of a head only training reads: the one-to-many branches, and what poses and masks learn by."""
    end_to_end = getattr(head, "end2end", False)
    for name in [name for name in head._modules if name.startswith(_ONE_TO_ONE)]:
        # Where the end-to-end branches were dropped instead, the model has none any more.
        if not _is_gone(getattr(head, name)) and _is_gone(getattr(head, name.removeprefix(_ONE_TO_ONE), None)):
            setattr(head, name.removeprefix(_ONE_TO_ONE), copy.deepcopy(getattr(head, name)))
    if end_to_end:
        # With both heads there, the model no longer predicts by the only one that is left.
        head.end2end = True
    with torch.random.fork_rng(devices=[]):
        # What is left of these is nothing, so they are drawn, alike each time.
        torch.manual_seed(0)
        if isinstance(head, Pose26) and head.flow_model is None:
            _restore_uncertainty(cast(Any, head))
        proto = getattr(head, "proto", None)
        if isinstance(proto, Proto26) and proto.semseg is None:
            _restore_semantics(cast(Any, proto), head.nc)


def _is_gone(branches: nn.Module | None) -> bool:
    """Whether fusing took them; Ultralytics 8.3 left an identity for each."""
    return branches is None or all(isinstance(each, nn.Identity) for each in branches.children())


def _restore_uncertainty(head: Any) -> None:
    head.flow_model = RealNVP()
    widths = [points.in_channels for points in head.cv4_kpts]
    head.cv4_sigma = nn.ModuleList(nn.Conv2d(width, head.nk_sigma, 1) for width in widths)
    if getattr(head, "one2one_cv2", None) is not None:
        head.one2one_cv4_sigma = copy.deepcopy(head.cv4_sigma)


def _restore_semantics(proto: Any, nc: int) -> None:
    width, hidden = proto.feat_fuse.conv.in_channels, proto.feat_fuse.conv.out_channels
    proto.semseg = nn.Sequential(ul.Conv(width, hidden, k=3), ul.Conv(hidden, hidden, k=3), nn.Conv2d(hidden, nc, 1))
    for norm in _norms(proto.semseg):
        norm.eps, norm.momentum = NORM_EPS, NORM_MOMENTUM
    proto.semseg.eval()
