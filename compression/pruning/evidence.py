"""What training images say of a detector: how its layers' inputs vary, and how its loss depends on its layers.

One forward and one backward pass over each image, at the weights as they are; nothing is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import E2ELoss

from compression.data.calibration import Calibration
from compression.graph.channels import channels_in, channels_out, is_depthwise
from compression.graph.trace import Weighted, convolutions
from compression.models.kinds import task_of

# Images of one pass; a training step of the same machine takes more.
BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Second moments of one convolution over all positions of all images.

    Attributes:
        inputs: covariance of its input channels, float64 [channels in, channels in].
        outputs: variance of its output channels, float64 [channels out].
        gradients: mean over the images of the squared gradients of the loss by its outputs, summed over their
            positions, float64 [channels out].
    """

    inputs: Tensor
    outputs: Tensor
    gradients: Tensor


def moments(model: DetectionModel, calibration: Calibration, device: torch.device) -> dict[str, Moments]:
    """Second moments of each convolution that is not depthwise, transposed ones included, by its name.

    Args:
        model: a detector that knows the classes of the images; not modified.
        calibration: labelled training images.
        device: where to compute.
    """
    twin = _differentiable(model, device)
    read: dict[str, Weighted] = {name: conv for name, conv in convolutions(twin) if not is_depthwise(conv)}
    read |= {name: each for name, each in twin.named_modules() if isinstance(each, nn.ConvTranspose2d)}
    sums = {name: _Sums(conv) for name, conv in read.items()}
    with _watched(twin, sums):
        for loss in _losses(twin, calibration, device, BATCH):
            loss.backward()
            twin.zero_grad()
    return {name: each.moments(len(calibration.samples)) for name, each in sums.items()}


def mean_gradients(
    model: DetectionModel, calibration: Calibration, device: torch.device, *, squared: bool
) -> dict[str, Tensor]:
    """Gradients of the loss by the parameters, averaged over images, by the parameters' names.

    Args:
        model: a detector that knows the classes of the images; not modified.
        calibration: labelled training images.
        device: where to compute.
        squared: average the squares of each image's gradients, which is the diagonal of the empirical Fisher matrix.
    """
    twin = _differentiable(model, device)
    parameters = dict(twin.named_parameters())
    totals = {name: torch.zeros_like(parameter, device="cpu") for name, parameter in parameters.items()}
    for loss in _losses(twin, calibration, device, 1 if squared else BATCH):
        loss.backward()
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                gradient = parameter.grad.cpu()
                totals[name] += gradient**2 if squared else gradient
        twin.zero_grad()
    return {name: total / len(calibration.samples) for name, total in totals.items()}


class _Sums:
    """Sums over positions and images from which the moments of one convolution follow."""

    def __init__(self, conv: Weighted) -> None:
        wide, narrow = channels_in(conv), channels_out(conv)
        self.n_inputs = self.n_outputs = 0
        self.inputs, self.products = torch.zeros(wide).double(), torch.zeros(wide, wide).double()
        self.outputs, self.squares = torch.zeros(narrow).double(), torch.zeros(narrow).double()
        self.gradients = torch.zeros(narrow).double()

    def see(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add a batch: inputs [B, channels in, H, W], outputs [B, channels out, H, W]; of a linear layer no H, W."""
        x = inputs.detach().transpose(0, 1).flatten(1)
        y = outputs.detach().transpose(0, 1).flatten(1)
        self.n_inputs, self.n_outputs = self.n_inputs + x.shape[1], self.n_outputs + y.shape[1]
        self.inputs += x.sum(dim=1).double().cpu()
        self.products += (x @ x.T).double().cpu()
        self.outputs += y.sum(dim=1).double().cpu()
        self.squares += (y**2).sum(dim=1).double().cpu()

    def see_gradient(self, gradient: Tensor) -> None:
        """Add a batch's gradients by the outputs, [B, channels out, H, W]."""
        self.gradients += (gradient**2).transpose(0, 1).flatten(1).sum(dim=1).double().cpu()

    def moments(self, n_images: int) -> Moments:
        mean_in, mean_out = self.inputs / self.n_inputs, self.outputs / self.n_outputs
        return Moments(
            inputs=self.products / self.n_inputs - torch.outer(mean_in, mean_in),
            outputs=(self.squares / self.n_outputs - mean_out**2).clamp_min(0),
            gradients=self.gradients / n_images,
        )


@contextmanager
def _watched(model: nn.Module, sums: dict[str, _Sums]) -> Iterator[None]:
    def hook(seen: _Sums) -> Callable[[Weighted, tuple[Tensor], Tensor], None]:
        def note(_conv: Weighted, inputs: tuple[Tensor], output: Tensor) -> None:
            seen.see(inputs[0], output)
            output.register_hook(seen.see_gradient)

        return note

    layers = dict(model.named_modules())
    handles = [layers[name].register_forward_hook(hook(seen)) for name, seen in sums.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _differentiable(model: DetectionModel, device: torch.device) -> DetectionModel:
    """A copy in eval mode, in which both heads of an end-to-end model reach the backbone, ready for its loss."""
    twin = copy.deepcopy(model).eval().requires_grad_(True).to(device)
    twin.args = get_cfg()
    twin.criterion = twin.init_criterion()
    if isinstance(twin.criterion, E2ELoss):
        # Both heads count alike; a training begins with nearly all weight on one and ends with it on the other.
        twin.criterion.o2m = twin.criterion.o2o = 0.5
    return twin


def _losses(model: DetectionModel, calibration: Calibration, device: torch.device, batch: int) -> Iterator[Tensor]:
    """The loss of each batch, summed over its images.

    Ultralytics' losses are means times the number of images; that of a classifier is a mean.
    """
    with torch.enable_grad():
        for start in range(0, len(calibration.samples), batch):
            images = calibration.batch(start, start + batch, device)
            loss = model.loss(images)[0].sum()
            yield loss * len(images["img"]) if task_of(model) == "classify" else loss
