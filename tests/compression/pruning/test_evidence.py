"""What images say of a detector, against sums taken over stored feature maps and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

from compression.data.calibration import Calibration
from compression.graph.channels import is_depthwise
from compression.graph.trace import convolutions
from compression.pruning import evidence
from compression.pruning.evidence import Moments, mean_gradients, moments
from tests.compression.images import noise
from tests.compression.small_models import build, equal, original, randomised

CPU = torch.device("cpu")
N_IMAGES = 5
# The last batch is smaller than the others.
BATCH = 2


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "BATCH", BATCH)


@cache
def small() -> DetectionModel:
    """One class, with a depthwise convolution before the head and others in it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = randomised(build([-1, 1, "DWConv", [64, 3, 1]], [-1, 1, "Conv", [32, 3, 2]]))
        for _, conv in convolutions(model):
            # As large as in a trained model, where neither feature maps nor gradients fade.
            nn.init.kaiming_normal_(conv.weight)
    return model


@cache
def images() -> Calibration:
    return noise(N_IMAGES)


def loss_of(model: DetectionModel, start: int, stop: int) -> Tensor:
    """Ultralytics' own loss of a model with a single head."""
    model.args = get_cfg()
    batch = images().batch(start, stop, CPU)
    batch["img"].requires_grad_()
    loss, _ = v8DetectionLoss(model).loss(model(batch["img"])[1], batch)
    assert isinstance(loss, Tensor)
    return loss.sum()


def runs(batch: int) -> list[tuple[int, int]]:
    return [(start, min(start + batch, N_IMAGES)) for start in range(0, N_IMAGES, batch)]


@cache
def maps() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Inputs, outputs and gradients by the outputs of each convolution, all images one after the other, in double."""
    model = copy.deepcopy(small())
    seen: tuple[dict[str, list[Tensor]], ...] = ({}, {}, {})

    def forward(name: str) -> Callable[..., None]:
        def note(_conv: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            seen[0].setdefault(name, []).append(inputs[0].detach().double())
            seen[1].setdefault(name, []).append(output.detach().double())

        return note

    def backward(name: str) -> Callable[..., None]:
        return lambda _conv, _inputs, outputs: seen[2].setdefault(name, []).append(outputs[0].double())

    for name, conv in convolutions(model):
        conv.register_forward_hook(forward(name))
        conv.register_full_backward_hook(backward(name))
    for start, stop in runs(BATCH):
        loss_of(model, start, stop).backward()
    inputs, outputs, gradients = ({name: torch.cat(parts) for name, parts in each.items()} for each in seen)
    return inputs, outputs, gradients


@cache
def found() -> dict[str, Moments]:
    return moments(small(), images(), CPU)


def positions(maps: Tensor) -> Tensor:
    """[N, channels, H, W] as [channels, positions]."""
    return maps.transpose(0, 1).flatten(1)


# Second moments


def test_every_convolution_that_is_not_depthwise_has_moments() -> None:
    wanted = {name for name, conv in small().named_modules() if isinstance(conv, nn.Conv2d) and conv.groups == 1}
    assert set(found()) == wanted - {"model.4.dfl.conv"}
    assert any(is_depthwise(conv) for _, conv in convolutions(small()))


def test_covariance_of_inputs() -> None:
    for name, seen in found().items():
        wanted = torch.cov(positions(maps()[0][name]), correction=0)
        assert seen.inputs.dtype == torch.float64
        torch.testing.assert_close(seen.inputs, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()), msg=name)


def test_variance_of_outputs() -> None:
    for name, seen in found().items():
        wanted = positions(maps()[1][name]).var(dim=1, correction=0)
        torch.testing.assert_close(seen.outputs, wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()), msg=name)


def test_energy_of_gradients() -> None:
    for name, seen in found().items():
        wanted = maps()[2][name].square().sum(dim=(0, 2, 3)) / N_IMAGES
        assert wanted.max() > 0
        torch.testing.assert_close(seen.gradients, wanted, rtol=1e-3, atol=1e-5 * float(wanted.max()), msg=name)


def test_dead_channels_vary_by_nothing() -> None:
    model = copy.deepcopy(small())
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(model.model[0].bn, name)[3] = 0
    seen = moments(model, images(), CPU)
    assert seen["model.1.conv"].inputs[3].abs().max() == 0
    assert all(bool(torch.isfinite(part).all()) for each in seen.values() for part in vars(each).values())
    assert all(bool((each.outputs >= 0).all()) for each in seen.values())


def test_images_without_objects_are_looked_at() -> None:
    empty = {"cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4), "batch_idx": torch.zeros(0)}
    calibration = Calibration(samples=tuple({**sample, **empty} for sample in images().samples))
    for name, seen in moments(small(), calibration, CPU).items():
        # The inputs are the same; what the loss says of them is another thing.
        torch.testing.assert_close(seen.inputs, found()[name].inputs)
        assert torch.isfinite(seen.gradients).all()


# Gradients by the parameters


def by_hand(batch: int, *, squared: bool) -> dict[str, Tensor]:
    model = copy.deepcopy(small()).requires_grad_(True)
    totals: dict[str, Tensor] = {}
    for start, stop in runs(batch):
        names, parameters = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss_of(model, start, stop), parameters, allow_unused=True)
        for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
            each = torch.zeros_like(parameter) if gradient is None else gradient
            totals[name] = totals.get(name, torch.zeros_like(each)) + (each**2 if squared else each)
    return {name: total / N_IMAGES for name, total in totals.items()}


def test_mean_gradients() -> None:
    ours, wanted = mean_gradients(small(), images(), CPU, squared=False), by_hand(BATCH, squared=False)
    assert set(ours) == set(wanted)
    for name, gradient in ours.items():
        least = 1e-4 * float(wanted[name].abs().max())
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=least, msg=name)


def test_squares_are_averaged_over_all_images_one_by_one() -> None:
    ours, wanted = mean_gradients(small(), images(), CPU, squared=True), by_hand(1, squared=True)
    for name, squares in ours.items():
        least = 1e-4 * float(wanted[name].max())
        torch.testing.assert_close(squares, wanted[name], rtol=1e-3, atol=least, msg=name)
    # Those of one image alone, the last or any other, are far from it.
    for index in range(N_IMAGES):
        alone = mean_gradients(small(), Calibration(samples=images().samples[index : index + 1]), CPU, squared=True)
        error = (alone["model.0.conv.weight"] - ours["model.0.conv.weight"]).abs().max()
        assert error > 0.1 * ours["model.0.conv.weight"].max()


def test_order_of_images_does_not_matter() -> None:
    backwards = Calibration(samples=images().samples[::-1])
    ours, other = (mean_gradients(small(), each, CPU, squared=True) for each in (images(), backwards))
    for name, squares in ours.items():
        torch.testing.assert_close(squares, other[name], rtol=1e-3, atol=1e-4 * float(squares.max()), msg=name)


# End-to-end models


def test_both_heads_count_alike() -> None:
    model, calibration = original("yolo26n"), noise(2, nc=80)
    ours = mean_gradients(model, calibration, CPU, squared=False)
    twin: Any = copy.deepcopy(model).requires_grad_(True)
    twin.args = get_cfg()
    batch = calibration.batch(0, 2, CPU)
    raw = twin(batch["img"])[1]
    many = v8DetectionLoss(twin, tal_topk=10).loss(raw["one2many"], batch)[0].sum()
    one = v8DetectionLoss(twin, tal_topk=7, tal_topk2=1).loss(raw["one2one"], batch)[0].sum()
    first = twin.model[0].conv.weight
    # The end-to-end head reaches the backbone too, which it does not in a training.
    assert torch.autograd.grad(one, first, retain_graph=True)[0].abs().max() > 0
    (0.5 * many + 0.5 * one).backward()
    for name in ("model.0.conv.weight", "model.23.cv3.0.2.weight", "model.23.one2one_cv3.0.2.weight"):
        gradient = twin.get_parameter(name).grad / 2
        assert gradient.abs().max() > 0
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()), msg=name)


# What must not change


@pytest.mark.parametrize("look", [moments, lambda *args: mean_gradients(*args, squared=True)])
def test_the_model_is_left_alone(look: Callable[..., object]) -> None:
    model = copy.deepcopy(small()).train().requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    look(model, images(), CPU)
    assert equal(list(model.state_dict().values()), list(before.values()))
    assert all(module.training for module in model.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_same_twice() -> None:
    again = moments(small(), images(), CPU)
    assert all(torch.equal(again[name].inputs, seen.inputs) for name, seen in found().items())
    assert all(torch.equal(again[name].gradients, seen.gradients) for name, seen in found().items())


def test_a_training_mode_model_is_seen_as_it_predicts() -> None:
    # BatchNorm with the statistics of a batch would see something else.
    seen = moments(copy.deepcopy(small()).train(), images(), CPU)
    assert all(torch.equal(seen[name].inputs, each.inputs) for name, each in found().items())
