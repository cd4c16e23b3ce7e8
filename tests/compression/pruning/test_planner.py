"""Plans: both targets met, and a sentence where they cannot be."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from ultralytics.nn.modules import Conv

from compression.errors import ModelError, SpecError, TargetError
from compression.graph.layer_groups import MIN_GROUP_KEPT
from compression.levels import LEVELS, target_of
from compression.pruning import planner as planner_module
from compression.pruning.allocation import ALLOCATIONS
from compression.pruning.criteria import CRITERIA
from compression.pruning.planner import Planner, PruningPlan
from compression.pruning.surgery import apply_plan
from compression.spec import AllocationName, CriterionName, Target
from tests.compression.images import noise
from tests.compression.small_models import DEEP, FAMILIES, LEVEL_5, build, original, plan, planner, pruned

families = pytest.mark.parametrize("name", FAMILIES)


def parts(made: PruningPlan) -> tuple[float, float]:
    """Parts of the GFLOPs and of the parameters that a plan keeps."""
    assert made.after.gflops is not None
    assert made.before.gflops is not None
    assert made.after.params is not None
    assert made.before.params is not None
    return made.after.gflops / made.before.gflops, made.after.params / made.before.params


def refusal(made: Planner, target: Target) -> str:
    """The sentence that planning ends with."""
    with pytest.raises(TargetError) as caught:
        made.plan(target)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


# Steps


@pytest.mark.parametrize("align", [16, 32])
@pytest.mark.parametrize("name", ["yolo26n", "yolo26s", "yolo11s", "yolov8n"])
def test_counts_are_multiples_of_the_block_and_both_targets_are_met(name: str, align: int) -> None:
    made_by = Planner(original(name), 640, align=align)
    for level in (1, 5):
        target = target_of(level)
        made = made_by.plan(target)
        assert parts(made) == pytest.approx((target.gflops_kept, target.params_kept), abs=0.005)
        assert made.warnings == ()
        n_cut = 0
        for group, channels in zip(made_by.trace.groups, made.kept, strict=True):
            if len(channels) < group.width:
                n_cut += 1
                # The largest block of which the layer is made up and at least two fit in.
                block = max(step for step in (1, 2, 4, 8, 16, 32) if step <= align and group.width % step == 0)
                assert len(channels) % min(block, group.width // 2) == 0
                assert len(channels) >= group.width / 8
        assert n_cut >= 3


@pytest.mark.parametrize("align", [1, 4, 8])
def test_finer_steps_are_kept_to_where_an_eighth_of_the_layer_is_more(align: int) -> None:
    made_by = Planner(original("yolo26n"), 64, align=align)
    made = made_by.plan(DEEP)
    removed = [
        (group.width, group.width - len(kept)) for group, kept in zip(made_by.trace.groups, made.kept, strict=True)
    ]
    wide = [gone for width, gone in removed if width >= 64]
    assert all(gone % align == 0 for gone in wide)
    assert any(gone % (2 * align) for gone in wide), "no coarser step is kept to by chance"


def test_eights_are_what_was_done_before_there_was_a_choice() -> None:
    one, two = plan("yolo26n", LEVEL_5), Planner(original("yolo26n"), 64, align=8).plan(LEVEL_5)
    assert all(np.array_equal(a, b) for a, b in zip(one.kept, two.kept, strict=True))


# Targets that can be met


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["yolo26n", "yolo26s", "yolo11n", "yolov8n"])
def test_levels_meet_both_targets(name: str, level: int) -> None:
    target = target_of(level)
    made = planner(name, 640).plan(target)
    gflops, params = parts(made)
    assert gflops == pytest.approx(target.gflops_kept, abs=0.005)
    assert params == pytest.approx(target.params_kept, abs=0.005)
    assert made.warnings == ()
    assert made.target == target


def test_level_5_of_yolo26s_is_the_published_cut() -> None:
    made = planner("yolo26s", 640).plan(LEVEL_5)
    assert made.after.gflops == pytest.approx(17.7, abs=0.15)
    assert made.after.params == pytest.approx(7.5e6, abs=0.06e6)


@families
@pytest.mark.parametrize("kept", [(0.3, 0.3), (0.5, 0.5), (0.6, 0.7), (0.9, 0.8), (0.99, 0.99), (0.75, 0.78)])
def test_custom_targets(name: str, kept: tuple[float, float]) -> None:
    made = plan(name, Target(gflops_kept=kept[0], params_kept=kept[1]))
    assert parts(made) == pytest.approx(kept, abs=0.005)


@families
@pytest.mark.parametrize("kept", [0.2, 0.4, 0.75, 0.98])
def test_one_cost_alone(name: str, kept: float) -> None:
    only_gflops = plan(name, Target(gflops_kept=kept, params_kept=None))
    only_params = plan(name, Target(gflops_kept=None, params_kept=kept))
    assert parts(only_gflops)[0] == pytest.approx(kept, abs=0.005)
    assert parts(only_params)[1] == pytest.approx(kept, abs=0.005)
    # The other cost is left free, and falls too.
    assert parts(only_gflops)[1] < 1
    assert parts(only_params)[0] < 1


@families
@pytest.mark.parametrize("kept", [(1, 1), (1, None), (None, 1)])
def test_keeping_everything_keeps_every_channel(name: str, kept: tuple[float | None, float | None]) -> None:
    made = plan(name, Target(gflops_kept=kept[0], params_kept=kept[1]))
    assert made.after == made.before
    assert all(row.sparsity == 0 for row in made.layers)
    for group, channels in zip(planner(name).trace.groups, made.kept, strict=True):
        assert channels.tolist() == list(range(group.width))


@families
@pytest.mark.parametrize("target", [LEVEL_5, DEEP, Target(gflops_kept=0.2, params_kept=None)])
def test_groups_keep_what_they_must(name: str, target: Target) -> None:
    found, made = planner(name).trace, plan(name, target)
    n_cut = 0
    assert all(len({len(made.kept[index]) for index in tie}) == 1 for tie in found.ties)
    for group, channels in zip(found.groups, made.kept, strict=True):
        assert len(channels) >= MIN_GROUP_KEPT * group.width
        assert np.all(np.diff(channels) > 0)
        assert 0 <= channels[0] <= channels[-1] < group.width
        if group.locked:
            assert len(channels) == group.width
        n_cut += len(channels) < group.width
    assert n_cut > 20


def test_deeper_levels_cut_more() -> None:
    kept = [parts(plan("yolo26n", target_of(level))) for level in (0, *LEVELS)]
    for shallow, deep in pairwise(kept):
        assert shallow[0] > deep[0]
        assert shallow[1] > deep[1]


@families
def test_plans_are_deterministic(name: str) -> None:
    one, two = plan(name, LEVEL_5), Planner(original(name), 64).plan(LEVEL_5)
    assert all(np.array_equal(a, b) for a, b in zip(one.kept, two.kept, strict=True))
    assert (one.before, one.after, one.layers) == (two.before, two.after, two.layers)


def test_costs_follow_the_image_size_and_the_cut_does_not_miss() -> None:
    small, large = (planner("yolo26n", imgsz).plan(LEVEL_5) for imgsz in (64, 640))
    assert small.before.gflops is not None
    assert large.before.gflops is not None
    # A hundred times as many positions; attention grows with their square.
    assert large.before.gflops > 100 * small.before.gflops
    assert large.before.params == small.before.params


# Every way to cut

# All of them for one model, and of the others' criteria one of each kind: by weights, by lots, by gradients.
METHODS: list[tuple[str, AllocationName, CriterionName]] = [
    (name, allocation, criterion)
    for name in FAMILIES
    for criterion in CRITERIA
    for allocation in ALLOCATIONS
    if name == "yolo26n" or criterion in ("l2", "random", "taylor")
]
CUTS = (
    *(target_of(level) for level in (1, 3, 5)),
    *(Target(gflops_kept=kept, params_kept=None) for kept in (0.6, 0.4, 0.25)),
    *(Target(gflops_kept=None, params_kept=kept) for kept in (0.8, 0.5, 0.25)),
    Target(gflops_kept=0.5, params_kept=0.6),
)


@cache
def planner_of(name: str, allocation: AllocationName, criterion: CriterionName) -> Planner:
    calibration = noise(2, nc=80) if CRITERIA[criterion].needs_images else None
    return Planner(original(name), 320, criterion=criterion, allocation=allocation, calibration=calibration)


def check_floors(made: Planner, cut: PruningPlan) -> None:
    for group, channels in zip(made.trace.groups, cut.kept, strict=True):
        assert len(channels) >= MIN_GROUP_KEPT * group.width
        assert len(channels) == group.width or group.locked is None


@pytest.mark.parametrize(("name", "allocation", "criterion"), METHODS)
def test_every_method_meets_its_targets(name: str, allocation: AllocationName, criterion: CriterionName) -> None:
    made = planner_of(name, allocation, criterion)
    for target in CUTS:
        cut = made.plan(target)
        for kept, asked in zip(parts(cut), (target.gflops_kept, target.params_kept), strict=True):
            assert asked is None or kept == pytest.approx(asked, abs=0.005)
        assert cut.warnings == ()
        check_floors(made, cut)
        assert any(len(tie) > 1 for tie in made.trace.ties)
        assert all(len({len(cut.kept[index]) for index in tie}) == 1 for tie in made.trace.ties)


def test_allocations_cut_differently() -> None:
    counts = [
        tuple(len(channels) for channels in planner_of("yolo26n", allocation, "l2").plan(LEVEL_5).kept)
        for allocation in ALLOCATIONS
    ]
    assert len(set(counts)) == len(counts)


def test_criteria_choose_differently() -> None:
    # With one allocation that does not look at scores.
    kept = [planner_of("yolo26n", "uniform", criterion).plan(LEVEL_5).kept for criterion in CRITERIA]
    for one, two in pairwise(kept):
        assert [len(channels) for channels in one] == [len(channels) for channels in two]
        assert any(not np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_the_channels_that_score_lowest_go(allocation: AllocationName) -> None:
    made = planner_of("yolo26n", allocation, "random")
    for index, (group, kept) in enumerate(zip(made.trace.groups, made.plan(LEVEL_5).kept, strict=True)):
        drawn = np.random.default_rng(0)
        scores = [drawn.random(each.width) for each in made.trace.groups][index]
        gone = np.setdiff1d(np.arange(group.width), kept)
        assert len(gone) == 0 or scores[gone].max() < scores[kept].min()


def test_a_criterion_that_draws_lots_follows_the_seed() -> None:
    one, same, other = (
        Planner(original("yolov8n"), 64, criterion="random", seed=seed).plan(LEVEL_5) for seed in (1, 1, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one.kept, same.kept, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one.kept, other.kept, strict=True))


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "obs"])
def test_criterion_without_the_images_it_needs(criterion: CriterionName) -> None:
    with pytest.raises(SpecError, match=r"looks at training images; name the data set with --data"):
        Planner(original("yolov8n"), 64, criterion=criterion)


# One cut after the other


@cache
def cut_twice(name: str) -> tuple[Planner, Planner, PruningPlan]:
    """A planner of a model, one of what its level 5 left, and a second cut of that."""
    again = Planner(pruned(name, LEVEL_5), 64, original=original(name))
    return planner(name), again, again.plan(Target(gflops_kept=0.6, params_kept=0.6))


@families
def test_outcome_of_a_cut_is_its_plan(name: str) -> None:
    costs, rows = planner(name).outcome(pruned(name, LEVEL_5))
    made = plan(name, LEVEL_5)
    assert costs == made.after
    assert rows == made.layers
    untouched, rows = planner(name).outcome(original(name))
    assert untouched == made.before
    assert all(row.sparsity == 0 for row in rows)


@families
def test_outcomes_of_two_cuts_compose(name: str) -> None:
    first, second, cut = cut_twice(name)
    narrow = apply_plan(pruned(name, LEVEL_5), second.trace, cut)
    costs, rows = first.outcome(narrow)
    assert costs == cut.after
    assert [row.channels_after for row in rows] == [row.channels_after for row in cut.layers]
    # Before is the original, not what the first cut left.
    assert [row.channels_before for row in rows] == [row.channels_before for row in plan(name, LEVEL_5).layers]
    assert costs.params == sum(parameter.numel() for parameter in narrow.parameters())


def shares(name: str, second: Planner, cut: PruningPlan) -> list[float]:
    """What is left of each group's channels of before both cuts."""
    wide, narrow = original(name), pruned(name, DEEP)
    widths = [
        group.width * wide.get_submodule(group.name).out_channels / narrow.get_submodule(group.name).out_channels
        for group in second.trace.groups
    ]
    return [len(kept) / width for kept, width in zip(cut.kept, widths, strict=True)]


@families
def test_floors_are_parts_of_the_width_before_any_cut(name: str) -> None:
    narrow, target = pruned(name, DEEP), Target(gflops_kept=0.3, params_kept=None)
    bound = Planner(narrow, 64, allocation="budget", original=original(name))
    assert min(shares(name, bound, bound.plan(target))) >= MIN_GROUP_KEPT
    # As parts of the widths that the first cut left, they would be lower.
    free = Planner(narrow, 64, allocation="budget")
    assert min(shares(name, free, free.plan(target))) < MIN_GROUP_KEPT


def test_floors_of_an_earlier_model_can_be_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "MIN_GROUP_KEPT", 0.5)
    narrow, target = pruned("yolov8n", DEEP), Target(gflops_kept=0.5, params_kept=None)
    assert parts(Planner(narrow, 64).plan(target))[0] == pytest.approx(0.5, abs=0.005)
    assert "out of reach" in refusal(Planner(narrow, 64, original=original("yolov8n")), target)


# Targets that cannot


@pytest.mark.parametrize(
    ("kept", "name"), [((0.2, 0.99), "yolo26n"), ((0.99, 0.2), "yolo11n"), ((1, 0.5), "yolov8n"), ((0.3, 1), "yolov8n")]
)
def test_contradictory_targets(kept: tuple[float, float], name: str) -> None:
    sentence = refusal(planner(name), Target(gflops_kept=kept[0], params_kept=kept[1]))
    assert sentence.startswith(
        f"Keeping {kept[0]:g} of the GFLOPs and {kept[1]:g} of the parameters contradict each other for this model"
    )
    found = re.search(r"it keeps ([\d.]+) of the parameters at the nearest", sentence)
    assert found
    # What the sentence offers can be had.
    reached = Target(gflops_kept=kept[0], params_kept=min(float(found[1]), 1))
    assert parts(planner(name).plan(reached)) == pytest.approx((kept[0], reached.params_kept), abs=0.006)


@pytest.mark.parametrize("cost", ["GFLOPs", "parameters"])
def test_targets_out_of_reach(cost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "MIN_GROUP_KEPT", 0.75)
    narrow = Planner(original("yolov8n"), 64)
    kept = (0.3, None) if cost == "GFLOPs" else (None, 0.3)
    sentence = refusal(narrow, Target(gflops_kept=kept[0], params_kept=kept[1]))
    found = re.fullmatch(
        rf"Keeping 0\.3 of the {cost} is out of reach: with every layer at its floor of 0\.75 of its channels this "
        r"model keeps (0\.\d+); ask for more than that\.",
        sentence,
    )
    assert found
    more = float(found[1]) + 0.005
    made = narrow.plan(
        Target(gflops_kept=more, params_kept=None) if cost == "GFLOPs" else Target(gflops_kept=None, params_kept=more)
    )
    assert parts(made)[cost == "parameters"] == pytest.approx(more, abs=0.005)


def test_a_target_that_is_missed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    # No model at hand is so narrow that its channels are too coarse, so the tolerance is narrowed.
    monkeypatch.setattr(planner_module, "TOLERANCE", 0.0)
    made = planner("yolo26n").plan(Target(gflops_kept=0.8, params_kept=0.777))
    gflops, params = parts(made)
    assert made.warnings == (
        f"80.0% of the GFLOPs were to be kept; whole channels allow {100 * gflops:.1f}% at the nearest.",
        f"77.7% of the parameters were to be kept; whole channels allow {100 * params:.1f}% at the nearest.",
    )


def test_targets_at_the_edge_of_what_is_possible_are_met() -> None:
    # No tilt reaches 0.9 of both exactly, but one comes within half a point.
    made = Planner(build(), 64).plan(Target(gflops_kept=0.9, params_kept=0.9))
    assert parts(made) == pytest.approx((0.9, 0.9), abs=0.01)


def test_a_model_that_is_locked_tells_why() -> None:
    before = Conv.default_act
    try:
        model = build(activation="nn.Hardshrink()")
    finally:
        Conv.default_act = before
    with pytest.raises(ModelError, match=r"^Every channel .* the first since block model\.0 \(Conv\) is not known; "):
        Planner(model, 64)


@pytest.mark.parametrize("kept", [0.1, 0, -1, 1.01, float("nan")])
def test_impossible_parts(kept: float) -> None:
    with pytest.raises(SpecError, match=rf"Keeping {kept:g} of the GFLOPs is not possible; give a part from 0\.2 to 1"):
        Target(gflops_kept=kept, params_kept=None)


@pytest.mark.parametrize(
    ("imgsz", "nearest"), [(100, 96), (33, 32), (20, 32), (639, 640), (16, 32), (0, 32), (-64, 32)]
)
def test_image_size_that_is_no_multiple_of_the_stride(imgsz: int, nearest: int) -> None:
    with pytest.raises(
        ModelError, match=rf"Image size {imgsz} is no multiple of this model's stride 32; use {nearest}\."
    ):
        Planner(original("yolov8n"), imgsz)
