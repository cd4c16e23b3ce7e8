"""Recovered models: each convolution at its own regression's optimum, and the whole nearer to the original."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from ultralytics import YOLO
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel

from compression.graph.channels import Indices, channels_out, is_depthwise
from compression.graph.trace import convolutions
from compression.models.checkpoint import write_checkpoint
from compression.pruning import recovery
from compression.pruning.planner import Planner
from compression.pruning.recovery import RIDGE, recover, reestimate_batchnorm
from compression.pruning.surgery import apply_plan, kept_outputs
from tests.compression.images import noise
from tests.compression.small_models import (
    DEEP,
    FAMILIES,
    LEVEL_5,
    equal,
    original,
    outputs,
    pruned,
    randomised,
)

CPU = torch.device("cpu")
N_IMAGES = 16
families = pytest.mark.parametrize("name", FAMILIES)


@cache
def images(n_images: int = N_IMAGES) -> Tensor:
    return noise(n_images).images


# A single layer that lost inputs

KEPT = np.array([0, 2, 3, 5, 6])

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "1 x 1": lambda: nn.Conv2d(8, 6, 1, bias=False),
    "1 x 1 with bias": lambda: nn.Conv2d(8, 6, 1),
    "3 x 3": lambda: nn.Conv2d(8, 6, 3, padding=1),
    "without padding": lambda: nn.Conv2d(8, 6, 3),
    "stride 2": lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1),
    "stride 2, 5 x 5": lambda: nn.Conv2d(8, 6, 5, stride=2, padding=2),
    "dilation 2": lambda: nn.Conv2d(8, 6, 3, padding=2, dilation=2),
    "3 x 1, stride 2 x 1": lambda: nn.Conv2d(8, 6, (3, 1), stride=(2, 1), padding=(1, 0)),
    "1 x 3, dilation 1 x 3": lambda: nn.Conv2d(8, 6, (1, 3), padding=(0, 3), dilation=(1, 3)),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "depthwise, stride 2": lambda: nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
    "with BatchNorm": lambda: Conv(8, 6, 3),
    "with BatchNorm, stride 2": lambda: Conv(8, 6, 3, 2),
    "depthwise with BatchNorm": lambda: Conv(8, 8, 5, g=8),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def conv_of(layer: nn.Module) -> nn.Conv2d:
    (conv,) = (module for module in layer.modules() if isinstance(module, nn.Conv2d))
    return conv


def small_model(make: Callable[[], nn.Module]) -> Any:
    """A convolution that gives eight correlated channels, and the layer that reads them.

    A depthwise one would lose whole outputs with them; it reads what a convolution between makes of the others.
    """
    torch.manual_seed(0)
    last = make()
    between = [nn.Conv2d(8, 8, 1)] if is_depthwise(conv_of(last)) else []
    return randomised(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *between, last))


def without_three(model: Any) -> Any:
    """The model without channels 1, 4 and 7 of its first layer."""
    small = copy.deepcopy(model)
    first, second = small[0], conv_of(small[1])
    first.weight, first.bias = (nn.Parameter(each.detach()[KEPT]) for each in (first.weight, first.bias))
    second.weight = nn.Parameter(second.weight.detach()[:, KEPT])
    second.in_channels = len(KEPT)
    return small


@torch.no_grad()
def recovered_small(model: Any) -> Any:
    """`without_three(model)` after recovery."""
    kept: dict[str, Indices] = {name: np.arange(channels_out(conv)) for name, conv in convolutions(model)}
    result, n_images = recover(model, without_three(model), {**kept, "0": KEPT}, images(), seed=0, device=CPU)
    assert n_images == N_IMAGES
    return result


def optimum(conv: nn.Conv2d, inputs: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression toward the convolution's weights, by an orthogonal decomposition of all positions.

    Args:
        conv: has the weights that the ridge pulls toward.
        inputs: [N, channels in, H, W].
        wanted: [N, channels out, H, W].

    Returns:
        Weights, of the convolution's shape, and biases.
    """
    assert isinstance(conv.padding, tuple)
    taps = functional.unfold(inputs, conv.kernel_size, conv.dilation, conv.padding, conv.stride).double()
    n_taps = conv.kernel_size[0] * conv.kernel_size[1]
    by_channel = taps.transpose(0, 1).flatten(1).unflatten(0, (inputs.shape[1], n_taps))  # [in, taps, positions]
    weights, biases = torch.zeros_like(conv.weight), torch.zeros(conv.out_channels)
    for out in range(conv.out_channels):
        x = by_channel[out].T if is_depthwise(conv) else by_channel.flatten(0, 1).T
        y = wanted[:, out].double().flatten()
        mean_x, mean_y = x.mean(0), y.mean()
        pull = RIDGE * (x - mean_x).square().sum(0).mean()
        prior = conv.weight[out].detach().double().flatten()
        rows = torch.cat([x - mean_x, pull.sqrt() * torch.eye(len(prior)).double()])
        goal = torch.cat([y - mean_y, pull.sqrt() * prior])
        solved = torch.linalg.lstsq(rows, goal[:, None]).solution[:, 0]
        weights[out], biases[out] = solved.reshape(conv.weight[out].shape), mean_y - mean_x @ solved
    return weights, biases


@pytest.fixture
def every_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "MIN_POSITIONS", 10**6)


@layers
@pytest.mark.usefixtures("every_position")
@torch.no_grad()
def test_a_layer_gets_the_weights_that_come_nearest(make: Callable[[], nn.Module]) -> None:
    model = small_model(make)
    small, result, x = without_three(model), recovered_small(model), images().float() / 255
    wanted, inputs = conv_of(model[-1])(model[:-1](x)), result[:-1](x)
    weights, biases = optimum(conv_of(small[-1]), inputs, wanted)
    ours = conv_of(result[-1])
    torch.testing.assert_close(ours.weight, weights, rtol=1e-3, atol=1e-3 * float(weights.abs().max()))
    assert not torch.allclose(ours.weight, conv_of(small[-1]).weight, rtol=0.01, atol=0.01 * float(weights.abs().max()))
    if ours.bias is not None:
        torch.testing.assert_close(ours.bias, biases, rtol=1e-3, atol=1e-3 * float(biases.abs().max()))


@pytest.mark.parametrize("layer", ["with BatchNorm", "with BatchNorm, stride 2", "depthwise with BatchNorm"])
@pytest.mark.usefixtures("every_position")
@torch.no_grad()
def test_a_bias_that_the_layer_has_not_is_what_its_batchnorm_subtracts(layer: str) -> None:
    model = small_model(LAYERS[layer])
    small, result, x = without_three(model), recovered_small(model), images().float() / 255
    inputs, conv = result[:-1](x), small[-1].conv
    weights, biases = optimum(conv, inputs, model[-1].conv(model[:-1](x)))
    assert biases.abs().max() > 1e-3
    fitted = functional.conv2d(inputs, weights, biases, conv.stride, conv.padding, groups=conv.groups)
    torch.testing.assert_close(result[-1](inputs), small[-1].act(small[-1].bn(fitted)), rtol=1e-3, atol=1e-4)
    for name in ("weight", "bias", "running_var"):
        assert torch.equal(getattr(result[-1].bn, name), getattr(small[-1].bn, name))


def error(ours: Tensor, theirs: Tensor) -> float:
    """Mean squared error as a part of the variance."""
    return float((ours - theirs).square().mean() / theirs.var())


@torch.no_grad()
def test_equal_channels_can_go() -> None:
    model = small_model(LAYERS["with BatchNorm"])
    gone = np.setdiff1d(np.arange(8), KEPT)
    twins = KEPT[: len(gone)]
    model[0].weight[gone], model[0].bias[gone] = model[0].weight[twins], model[0].bias[twins]
    x = images().float() / 255
    assert error(without_three(model)(x), model(x)) > 0.05
    assert error(recovered_small(model)(x), model(x)) < 1e-3


@torch.no_grad()
def test_inputs_in_which_nothing_happens_keep_their_weights() -> None:
    # Without padding every position is alike.
    model = small_model(LAYERS["without padding"])
    model[0].weight.zero_()
    model[0].bias.fill_(0.5)
    result, x = recovered_small(model), images().float() / 255
    assert torch.equal(result[1].weight, without_three(model)[1].weight)
    # What the others gave, the bias gives now.
    torch.testing.assert_close(result(x), model(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_dead_channel_among_others_does_no_harm() -> None:
    model = small_model(LAYERS["with BatchNorm"])
    model[0].weight[2].zero_()
    result, x = recovered_small(model), images().float() / 255
    assert all(bool(torch.isfinite(value).all()) for value in result.state_dict().values())
    assert error(result(x), model(x)) < error(without_three(model)(x), model(x))


# Whole models


@cache
def lively(name: str) -> DetectionModel:
    """`original(name)` with the statistics of its images, so that these are seen in its outputs as in a trained one's."""
    return reestimate_batchnorm(original(name), images(), device=CPU)


@cache
def cut(name: str) -> tuple[DetectionModel, dict[str, Indices]]:
    """`lively(name)` after a deep cut, and the channels that it has left."""
    made = Planner(lively(name), 64)
    deep = made.plan(DEEP)
    return apply_plan(lively(name), made.trace, deep), kept_outputs(lively(name), made.trace, deep)


@cache
def recovered(name: str) -> DetectionModel:
    """`cut(name)` after recovery."""
    narrow, kept = cut(name)
    result, n_images = recover(lively(name), narrow, kept, images(), seed=0, device=CPU)
    assert n_images == len(images())
    return result


@torch.no_grad()
def convolution_outputs(model: DetectionModel, given: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    twin = copy.deepcopy(model).eval()
    for name, conv in convolutions(twin):
        conv.register_forward_hook(lambda _conv, _inputs, output, name=name: seen.__setitem__(name, output.clone()))
    twin(given.float() / 255)
    return seen


@families
def test_convolutions_give_again_what_they_gave(name: str) -> None:
    narrow, kept = cut(name)
    given = images()
    wanted, before, after = (convolution_outputs(model, given) for model in (lively(name), narrow, recovered(name)))
    assert set(before) == set(after) == set(wanted)
    assert len(wanted) > 60
    errors = []
    for layer, output in wanted.items():
        goal = output[:, torch.from_numpy(kept[layer])]
        errors.append((error(before[layer], goal), error(after[layer], goal)))
    lost, left = np.array(errors).T
    assert np.mean(left < lost + 1e-6) > 0.95
    assert np.median(left / (lost + 1e-6)) < 0.5


@families
def test_outputs_of_every_head_are_nearer(name: str) -> None:
    wanted, before, after = (
        convolution_outputs(model, images()) for model in (lively(name), cut(name)[0], recovered(name))
    )
    finals = [layer for layer in wanted if re.fullmatch(r"model\.\d+\.(one2one_)?cv[23]\.\d\.2", layer)]
    assert len(finals) == (12 if name == "yolo26n" else 6)
    for layer in finals:
        assert error(after[layer], wanted[layer]) < 0.7 * error(before[layer], wanted[layer])


@families
def test_a_model_of_which_nothing_went_stays_as_it_is(name: str) -> None:
    model = lively(name)
    everything = {layer: np.arange(channels_out(conv)) for layer, conv in convolutions(model)}
    same, _ = recover(model, copy.deepcopy(model), everything, images(), seed=0, device=CPU)
    for ours, theirs in zip(outputs(same), outputs(model), strict=True):
        assert error(ours, theirs) < 1e-3


@families
def test_copies_of_channels_can_be_cut_and_nothing_is_lost(name: str) -> None:
    model = copy.deepcopy(lively(name))
    made = Planner(model, 64)
    index, group = next((i, each) for i, each in enumerate(made.trace.groups) if each.name == "model.0.conv")
    half = group.width // 2
    with torch.no_grad():
        for part in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
            values = model.model[0].state_dict()[part]
            values[half:] = values[:half]
    nothing = made.plan(replace(LEVEL_5, gflops_kept=1.0, params_kept=1.0))
    kept = tuple(np.arange(half) if i == index else each for i, each in enumerate(nothing.kept))
    cut = replace(nothing, kept=kept)
    narrow = apply_plan(model, made.trace, cut)
    back, _ = recover(model, narrow, kept_outputs(model, made.trace, cut), images(), seed=0, device=CPU)
    assert back.model[0].conv.out_channels == half
    for ours, lost, theirs in zip(outputs(back), outputs(narrow), outputs(model), strict=True):
        assert error(lost, theirs) > 20 * error(ours, theirs)
        assert error(ours, theirs) < 1e-2


@families
def test_neither_model_is_touched(name: str) -> None:
    small, kept = cut(name)
    model, narrow = copy.deepcopy(lively(name)).train(), copy.deepcopy(small).train()
    recover(model, narrow, kept, images(1), seed=0, device=CPU)
    for ours, theirs in ((model, lively(name)), (narrow, small)):
        assert equal(list(ours.state_dict().values()), list(theirs.state_dict().values()))
        assert all(module.training for module in ours.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in ours.modules())


def test_only_weights_change() -> None:
    ours, (theirs, _) = recovered("yolo26n"), cut("yolo26n")
    assert not ours.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in ours.modules())
    assert [(name, type(module)) for name, module in ours.named_modules()] == [
        (name, type(module)) for name, module in theirs.named_modules()
    ]
    changed = {
        name.rpartition(".")[2]
        for name, value in ours.state_dict().items()
        if not torch.equal(value, theirs.state_dict()[name])
    }
    # Biases are those of the head's last convolutions; others are means of BatchNorm.
    assert changed == {"weight", "bias", "running_mean"}
    for name, module in ours.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            before, after = theirs.get_submodule(name).state_dict(), module.state_dict()
            assert all(torch.equal(after[part], before[part]) for part in ("weight", "bias", "running_var"))


# Positions, images, memory


def recovered_with(seed: int, given: Tensor) -> tuple[dict[str, Tensor], int]:
    narrow, kept = cut("yolov8n")
    result, n_images = recover(lively("yolov8n"), narrow, kept, given, seed=seed, device=CPU)
    return result.state_dict(), n_images


def test_the_same_seed_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    # So few positions that they have to be chosen.
    monkeypatch.setattr(recovery, "MIN_POSITIONS", 64)
    monkeypatch.setattr(recovery, "POSITIONS_PER_WEIGHT", 1)
    one, same, other = (recovered_with(seed, images(3))[0] for seed in (1, 1, 2))
    assert equal(list(one.values()), list(same.values()))
    assert not torch.equal(one["model.1.conv.weight"], other["model.1.conv.weight"])


@pytest.mark.parametrize(("fitting", "used"), [(0.5, 1), (1, 1), (3.9, 3), (N_IMAGES, N_IMAGES), (99, N_IMAGES)])
def test_no_more_images_than_memory_holds(fitting: float, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The largest feature map of yolov8n at 64 pixels is that of its first convolution: 16 channels, 32 x 32, 4 bytes.
    monkeypatch.setattr(recovery, "MEMORY_LIMIT", int(fitting * recovery.MAPS_ALIVE * 16 * 32 * 32 * 4))
    weights, n_images = recovered_with(0, images())
    assert n_images == used
    assert equal(list(weights.values()), list(recovered_with(0, images()[:used])[0].values()))


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_batches_of_the_original_do_not_matter(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "TEACHER_BATCH", batch)
    narrow, kept = cut("yolov8n")
    parts, _ = recover(lively("yolov8n"), narrow, kept, images(), seed=0, device=CPU)
    for ours, theirs in zip(outputs(parts), outputs(recovered("yolov8n")), strict=True):
        # Regressions on so few positions magnify what rounding does.
        assert error(ours, theirs) < 1e-3


def test_a_single_image_is_enough() -> None:
    weights, n_images = recovered_with(0, images(1))
    assert n_images == 1
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())


# Checkpoints


@families
def test_plain_ultralytics_loads_what_was_recovered(name: str, tmp_path: Path) -> None:
    file = tmp_path / "recovered.pt"
    write_checkpoint(recovered(name), file, {})
    loaded: Any = YOLO(file)
    stored = copy.deepcopy(recovered(name)).half().float()
    assert equal(outputs(loaded.model.float()), outputs(stored))
    result = loaded.predict(np.full((64, 64, 3), 128, dtype=np.uint8), imgsz=64, device="cpu", verbose=False)
    assert len(result) == 1


# BatchNorm re-estimation


@torch.no_grad()
def test_batchnorm_gets_the_statistics_of_what_it_receives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "TEACHER_BATCH", 4)
    narrow = pruned("yolov8n", DEEP)
    again = reestimate_batchnorm(narrow, images(8), device=CPU)
    parts = [narrow.model[0].conv(part.float() / 255) for part in images(8).split(4)]
    norm = again.model[0].bn
    means = torch.stack([part.mean(dim=(0, 2, 3)) for part in parts])
    variances = torch.stack([part.var(dim=(0, 2, 3)) for part in parts])
    torch.testing.assert_close(norm.running_mean, means.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, variances.mean(0), rtol=1e-4, atol=1e-6)
    # The next one sees what the first one, by the statistics of the batch, makes of it.
    seconds = [
        narrow.model[1].conv(
            narrow.model[0].act(
                functional.batch_norm(
                    part,
                    None,
                    None,
                    narrow.model[0].bn.weight,
                    narrow.model[0].bn.bias,
                    True,
                    0,
                    narrow.model[0].bn.eps,
                )
            )
        )
        for part in parts
    ]
    means = torch.stack([part.mean(dim=(0, 2, 3)) for part in seconds])
    torch.testing.assert_close(again.model[1].bn.running_mean, means.mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_images", [1, 17])
def test_batchnorm_is_re_estimated_from_any_number_of_small_images(n_images: int) -> None:
    narrow = pruned("yolov8n", DEEP)
    small = torch.randint(0, 256, (n_images, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    again = reestimate_batchnorm(narrow, small, device=CPU)
    assert all(bool(value.isfinite().all()) for value in again.state_dict().values())


@families
def test_batchnorm_re_estimation_changes_statistics_only(name: str) -> None:
    narrow = copy.deepcopy(pruned(name, DEEP)).train()
    again = reestimate_batchnorm(narrow, images(), device=CPU)
    assert equal(list(narrow.state_dict().values()), list(pruned(name, DEEP).state_dict().values()))
    assert all(module.training for module in narrow.modules())
    assert not any(module.training for module in again.modules())
    changed = {
        key.rpartition(".")[2]
        for key, value in again.state_dict().items()
        if not torch.equal(value, narrow.state_dict()[key])
    }
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    momenta = [
        [module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for model in (narrow, again)
    ]
    assert momenta[0] == momenta[1]
    assert all(bool(torch.isfinite(value).all()) for value in again.state_dict().values())
