"""How channels are ranked: scores against weights and gradients added up by hand, and ties."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

from compression.data.calibration import Calibration
from compression.errors import SpecError
from compression.graph.trace import ChannelGroup, Trace, trace
from compression.pruning.criteria import CRITERIA, Scores, Subject, strongest_channels
from compression.pruning.evidence import moments
from compression.pruning.planner import Planner
from compression.pruning.surgeon import elimination_prices
from compression.spec import CriterionName
from tests.compression.images import noise
from tests.compression.small_models import DEEP, FAMILIES, build, original, planner

CPU = torch.device("cpu")
N_IMAGES = 3

families = pytest.mark.parametrize("name", FAMILIES)
every = pytest.mark.parametrize("criterion", CRITERIA)
needing_images: list[CriterionName] = [name for name, criterion in CRITERIA.items() if criterion.needs_images]


def without_images(*, seed: int = 0) -> Subject:
    return Subject(model=original("yolov8n"), trace=planner("yolov8n").trace, calibration=None, seed=seed, device=CPU)


@cache
def images() -> Calibration:
    return noise(N_IMAGES, nc=80)


@cache
def scores(name: str, criterion: CriterionName) -> list[Scores]:
    """Scores of a model's groups; of every criterion on a trace of its own, since some leave gradients there."""
    own = Subject(model=original(name), trace=trace(original(name)), calibration=images(), seed=0, device=CPU)
    return CRITERIA[criterion].score(own)


def free_groups(found: Trace) -> list[tuple[int, ChannelGroup]]:
    return [(index, group) for index, group in enumerate(found.groups) if group.locked is None]


def added_up(
    model: nn.Module, group: ChannelGroup, size: Callable[[str, Tensor], Tensor], *, layers: tuple[type[nn.Module], ...]
) -> NDArray[np.float64]:
    """Sum over the weights that belong to each channel of a group, layer by layer of the original.

    Args:
        model: the original.
        group: its channels.
        size: what each weight counts, given the parameter's name and its values.
        layers: types that count; depthwise kernels never do.
    """
    sums = np.zeros(group.width)
    for member in group.members:
        layer = model.get_submodule(member.layer)
        if not isinstance(layer, layers) or getattr(layer, "groups", 1) > 1:
            continue
        assert isinstance(layer.weight, Tensor)
        each = size(f"{member.layer}.weight", layer.weight.detach().double())
        each = each.transpose(0, 1) if member.side == "in" else each
        np.add.at(sums, member.channels, each.reshape(len(each), -1).sum(1).numpy()[member.positions])
    return sums


BOTH = (nn.Conv2d, nn.BatchNorm2d)


# Every criterion


def test_there_is_one_for_every_name() -> None:
    assert set(CRITERIA) == set(get_args(CriterionName))


@families
@every
def test_a_finite_score_for_every_channel(name: str, criterion: CriterionName) -> None:
    groups, made = planner(name).trace.groups, scores(name, criterion)
    assert len(made) == len(groups)
    n_told_apart = 0
    for group, each in zip(groups, made, strict=True):
        assert each.shape == (group.width,)
        assert each.dtype == np.float64
        assert np.all(np.isfinite(each))
        assert np.all(each >= 0)
        n_told_apart += group.locked is None and len(np.unique(each)) > 1
    # Few images and no training leave the gradients of some branches of the head at zero.
    assert n_told_apart > 0.9 * len(free_groups(planner(name).trace))


@every
def test_the_same_twice(criterion: CriterionName) -> None:
    model = copy.deepcopy(original("yolov8n"))
    calibration = noise(N_IMAGES, nc=80)
    again = CRITERIA[criterion].score(
        Subject(model=model, trace=trace(model), calibration=calibration, seed=0, device=CPU)
    )
    for one, two in zip(scores("yolov8n", criterion), again, strict=True):
        np.testing.assert_array_equal(one, two)


@every
def test_the_model_is_left_alone(criterion: CriterionName) -> None:
    model = copy.deepcopy(original("yolov8n"))
    own = Subject(model=model, trace=trace(model), calibration=images(), seed=0, device=CPU)
    CRITERIA[criterion].score(own)
    before = original("yolov8n").state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("criterion", needing_images)
def test_images_that_are_missing_are_said(criterion: CriterionName) -> None:
    with pytest.raises(SpecError) as caught:
        CRITERIA[criterion].score(without_images())
    assert str(caught.value) == (
        "This criterion looks at training images; name the data set with --data, or choose --criterion l2."
    )


@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name not in needing_images])
def test_the_others_need_none(criterion: CriterionName) -> None:
    made = CRITERIA[criterion].score(without_images())
    for one, two in zip(made, scores("yolov8n", criterion), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6)


# Magnitudes


@families
@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("l2", 2)])
def test_magnitude_is_that_of_all_weights_of_a_channel(name: str, criterion: CriterionName, power: int) -> None:
    groups = free_groups(planner(name).trace)
    assert len(groups) > 20
    for index, group in groups:
        by_hand = added_up(original(name), group, lambda _, weight: weight.abs() ** power, layers=BOTH)
        np.testing.assert_allclose(scores(name, criterion)[index], by_hand / by_hand.mean(), rtol=1e-4)


@families
def test_bn_scale_is_that_of_all_batchnorms_of_a_channel(name: str) -> None:
    for index, group in free_groups(planner(name).trace):
        by_hand = added_up(original(name), group, lambda _, weight: weight.abs(), layers=(nn.BatchNorm2d,))
        np.testing.assert_allclose(scores(name, "bn_scale")[index], by_hand / by_hand.mean(), rtol=1e-5)


@pytest.mark.parametrize("bare", [["nn.Conv2d", [64, 64, 3, 2, 1]], ["Conv", [64, 3, 2]]], ids=["none", "no scale"])
def test_bn_scale_is_magnitude_where_there_is_no_scale(bare: list[object]) -> None:
    model = build([-1, 1, *bare], [-1, 1, "Conv", [64, 3, 2]])
    if bare[0] == "Conv":
        model.model[2].bn = nn.BatchNorm2d(64, affine=False)
    found = trace(model)
    subject = Subject(model=model, trace=found, calibration=None, seed=0, device=CPU)
    (at,) = (index for index, group in free_groups(found) if group.name.startswith("model.2"))
    by_scale, by_size = CRITERIA["bn_scale"].score(subject), CRITERIA["l2"].score(subject)
    assert np.array_equal(by_scale[at], by_size[at])
    assert np.ptp(by_size[at]) > 0


@families
def test_lamp_is_the_share_among_channels_that_are_not_smaller(name: str) -> None:
    for index, group in free_groups(planner(name).trace):
        squares = added_up(original(name), group, lambda _, weight: weight**2, layers=BOTH)
        by_hand = [each / squares[squares >= each].sum() for each in squares]
        np.testing.assert_allclose(scores(name, "lamp")[index], by_hand, rtol=1e-3)
        assert scores(name, "lamp")[index].max() == pytest.approx(1, rel=1e-3)


def test_larger_channels_stay() -> None:
    model = copy.deepcopy(original("yolov8n"))
    strong = [1, 2, 3, 5, 8, 13, 14, 15]
    with torch.no_grad():
        model.model[0].conv.weight[strong] *= 10
    made = Planner(model, 64)
    index = next(i for i, group in enumerate(made.trace.groups) if group.name == "model.0.conv")
    kept = made.plan(DEEP).kept[index].tolist()
    assert 8 <= len(kept) < 16
    assert set(strong) <= set(kept)


@pytest.mark.parametrize("criterion", ["l1", "l2", "lamp"])
def test_size_counts_in_every_layer_that_reads_a_channel(criterion: CriterionName) -> None:
    model = copy.deepcopy(original("yolov8n"))
    with torch.no_grad():
        model.model[1].conv.weight[:, 7] *= 10
    found = trace(model)
    made = CRITERIA[criterion].score(Subject(model=model, trace=found, calibration=None, seed=0, device=CPU))
    index = next(i for i, group in enumerate(found.groups) if group.name == "model.0.conv")
    assert made[index].argmax() == 7


# Gradients


def loss_of(model: DetectionModel, start: int, stop: int) -> Tensor:
    """Ultralytics' own loss of yolov8n."""
    model.args = get_cfg()
    batch = images().batch(start, stop, CPU)
    loss, _ = v8DetectionLoss(model).loss(model(batch["img"])[1], batch)
    assert isinstance(loss, Tensor)
    return loss.sum()


@cache
def gradients(start: int, stop: int) -> dict[str, Tensor]:
    """Gradients of the loss of some images by the parameters of yolov8n."""
    model = copy.deepcopy(original("yolov8n")).requires_grad_(True)
    loss_of(model, start, stop).backward()
    return {name: parameter.grad.double() for name, parameter in model.named_parameters() if parameter.grad is not None}


def fisher_by_hand(group: ChannelGroup, n_images: tuple[int, ...]) -> NDArray[np.float64]:
    def curvature(name: str, weight: Tensor) -> Tensor:
        squares = torch.stack([gradients(index, index + 1)[name] ** 2 for index in n_images])
        return weight**2 * squares.mean(dim=0)

    return added_up(original("yolov8n"), group, curvature, layers=BOTH)


def relative(values: Scores) -> Scores:
    """The same ranking, whatever the scale: torch-pruning divides by the number of layers of the traced copy."""
    return np.asarray(values / values.mean(), dtype=np.float64)


def test_taylor_is_weight_times_gradient() -> None:
    # The loss of all images at once: three of them make one batch.
    for index, group in free_groups(planner("yolov8n").trace):
        by_hand = added_up(
            original("yolov8n"),
            group,
            lambda name, weight: (weight * gradients(0, N_IMAGES)[name]).abs(),
            layers=(nn.Conv2d,),
        )
        made = scores("yolov8n", "taylor")[index]
        assert by_hand.min() > 0
        np.testing.assert_allclose(relative(made), relative(by_hand), rtol=1e-2, err_msg=group.name)


def test_fisher_is_squared_weight_times_mean_squared_gradient_of_all_images() -> None:
    for index, group in free_groups(planner("yolov8n").trace):
        by_hand = fisher_by_hand(group, tuple(range(N_IMAGES)))
        made = scores("yolov8n", "fisher")[index]
        np.testing.assert_allclose(relative(made), relative(by_hand), rtol=1e-2, err_msg=group.name)


def test_fisher_is_not_that_of_the_last_image() -> None:
    # torch-pruning's own sum of gradients keeps no other.
    errors = []
    for index, group in free_groups(planner("yolov8n").trace):
        ours = scores("yolov8n", "fisher")[index]
        alone = fisher_by_hand(group, (N_IMAGES - 1,))
        # A part of the loss may not depend on the last image at all.
        errors.append(np.abs(relative(ours) - relative(alone)).max() if alone.any() else np.inf)
    assert np.median(errors) > 0.1


def test_halves_of_a_chunked_convolution_share_its_gradients() -> None:
    found = planner("yolov8n").trace
    layer, width = "model.2.cv1.conv", 16
    halves = {
        tuple(member.positions.tolist()): index
        for index, group in free_groups(found)
        for member in group.members
        if (member.layer, member.side) == (layer, "out")
    }
    assert set(halves) == {tuple(range(width)), tuple(range(width, 2 * width))}
    own = Subject(model=original("yolov8n"), trace=trace(original("yolov8n")), calibration=images(), seed=0, device=CPU)
    CRITERIA["taylor"].score(own)
    handed = own.trace.twin.get_submodule(layer).weight.grad
    assert isinstance(handed, torch.Tensor)
    wanted = gradients(0, N_IMAGES)[f"{layer}.weight"] / N_IMAGES
    torch.testing.assert_close(handed.double(), wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


# Brain surgeon


def test_obs_is_what_the_surgeon_asks() -> None:
    model, found = original("yolov8n"), planner("yolov8n").trace
    seen = moments(model, images(), CPU)
    for index, group in enumerate(found.groups):
        wanted = np.ones(group.width) if group.locked else elimination_prices(group, model, seen)
        np.testing.assert_array_equal(scores("yolov8n", "obs")[index], wanted)


# Lots


def test_lots_differ_by_seed_and_repeat_for_the_same() -> None:
    one, same, other = (CRITERIA["random"].score(without_images(seed=seed)) for seed in (1, 1, 2))
    for first, again, another in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.any(first == another)
    drawn = np.concatenate(one)
    assert len(np.unique(drawn)) == len(drawn)
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)


# Which stay


@pytest.mark.parametrize(
    ("values", "n_kept", "kept"),
    [
        ([1.0, 3.0, 2.0], 2, [1, 2]),
        ([3.0, 1.0, 2.0], 1, [0]),
        ([1.0, 3.0, 2.0], 3, [0, 1, 2]),
        # Of equals the first ones stay.
        ([1.0, 1.0, 1.0, 1.0], 2, [0, 1]),
        ([0.0, 2.0, 1.0, 2.0, 2.0], 2, [1, 3]),
    ],
)
def test_strongest_channels(values: list[float], n_kept: int, kept: list[int]) -> None:
    assert strongest_channels(np.array(values), n_kept).tolist() == kept


def test_ties_are_stable_in_wide_groups() -> None:
    # Numpy's default sort keeps the order of equals in short arrays only.
    assert strongest_channels(np.tile([1.0, 0.0], 512), 300).tolist() == list(range(0, 600, 2))
