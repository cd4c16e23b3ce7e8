"""Wishes about layers in plans: their whole group follows, the target is met by the rest, contradictions are told."""

from __future__ import annotations

import numpy as np
import pytest

from compression.errors import SpecError, TargetError
from compression.graph.layer_groups import AS_WISHED, LayerGroups
from compression.levels import target_of
from compression.pruning.allocation import ALLOCATIONS
from compression.pruning.planner import Planner, PruningPlan
from compression.pruning.surgery import apply_plan
from compression.spec import AllocationName, Target
from compression.wishes import Wish, parse_wishes
from tests.compression.pruning.test_planner import parts
from tests.compression.small_models import DEEP, FAMILIES, LEVEL_5, equal, original, outputs, plan, planner

families = pytest.mark.parametrize("name", FAMILIES)


def groups(name: str) -> LayerGroups:
    return planner(name).layer_groups


def only(*layers: Wish) -> Target:
    return Target(gflops_kept=None, params_kept=None, layers=layers)


def channels(made: PruningPlan) -> dict[str, tuple[int, int]]:
    """Channels of each layer before and after."""
    return {row.name: (row.channels_before, row.channels_after) for row in made.layers}


def most_cut(name: str, target: Target) -> str:
    """A layer of one group that a plan cuts, and others are coupled with."""
    rows = sorted(plan(name, target).layers, key=lambda row: -row.sparsity)
    coupled = {choice.layer for choice in groups(name).choices() if choice.coupled}
    return next(row.name for row in rows if row.name in coupled)


# What wishes do to a plan


@pytest.mark.parametrize(
    ("name", "allocation"),
    [*(("yolo26n", each) for each in ALLOCATIONS), ("yolo11n", "uniform"), ("yolov8n", "budget")],
)
def test_a_locked_layer_keeps_all_and_the_target_is_met_by_the_rest(name: str, allocation: AllocationName) -> None:
    layer = most_cut(name, LEVEL_5)
    target = Target(gflops_kept=0.78, params_kept=0.75, layers=parse_wishes([layer], ()))
    made = Planner(original(name), 64, allocation=allocation).plan(target)
    assert parts(made) == pytest.approx((0.78, 0.75), abs=0.005)
    assert made.warnings == ()
    for each in (layer, *groups(name).coupled(layer)):
        before, after = channels(made)[each]
        assert before == after
    assert next(row for row in made.layers if row.name == layer).locked == AS_WISHED
    # Without the wish it was cut.
    before, after = channels(plan(name, LEVEL_5))[layer]
    assert after < before


@families
@pytest.mark.parametrize("kept", [0.25, 0.5, 0.7])
def test_an_asked_part_is_met_and_its_group_follows(name: str, kept: float) -> None:
    layer = most_cut(name, LEVEL_5)
    made = planner(name).plan(Target(gflops_kept=0.6, params_kept=None, layers=(Wish(layer=layer, kept=kept),)))
    assert parts(made)[0] == pytest.approx(0.6, abs=0.005)
    for each in (layer, *groups(name).coupled(layer)):
        before, after = channels(made)[each]
        # Steps are an eighth of a layer at most, so that rounding takes half of that.
        assert after / before == pytest.approx(kept, abs=1 / 16) or each != layer


@families
def test_wishes_alone_cut_exactly_what_is_wished(name: str) -> None:
    layer = most_cut(name, LEVEL_5)
    whole = channels(plan(name, LEVEL_5))[layer][0]
    made = planner(name).plan(only(Wish(layer=layer, kept=whole // 2)))
    changed = {each for each, (before, after) in channels(made).items() if after < before}
    assert channels(made)[layer] == (whole, whole // 2)
    assert changed == {layer, *groups(name).coupled(layer)}
    assert made.warnings == ()
    # It can be applied, and what is kept is what the planner counts.
    narrow = apply_plan(original(name), planner(name).trace, made)
    assert sum(parameter.numel() for parameter in narrow.parameters()) == made.after.params
    assert planner(name).outcome(narrow) == (made.after, made.layers)


@families
def test_any_plan_can_be_told_by_wishes(name: str) -> None:
    for target in (LEVEL_5, DEEP):
        ours, made = groups(name), plan(name, target)
        counts = ours.counts_of({row.name: row.channels_after for row in made.layers})
        np.testing.assert_array_equal(
            ours.per_group(counts), np.array([len(kept) for kept in made.kept], dtype=np.float64)
        )
        again = planner(name).plan(only(*ours.as_wishes(counts)))
        assert [row.channels_after for row in again.layers] == [row.channels_after for row in made.layers]
        assert all(np.array_equal(a, b) for a, b in zip(again.kept, made.kept, strict=True))


def test_the_same_channels_go_as_without_the_wish() -> None:
    made = plan("yolo26n", LEVEL_5)
    wishes = groups("yolo26n").as_wishes(
        groups("yolo26n").counts_of({row.name: row.channels_after for row in made.layers})
    )
    again = planner("yolo26n").plan(only(*wishes))
    ours, theirs = (apply_plan(original("yolo26n"), planner("yolo26n").trace, each) for each in (made, again))
    assert equal(outputs(ours), outputs(theirs))


def test_every_offered_count_can_be_wished() -> None:
    ours = groups("yolo26n")
    for choice in ours.choices():
        least, whole = choice.counts[0], choice.counts[-1]
        assert whole / 8 <= least < whole
        for n_kept in {least, choice.counts[len(choice.counts) // 2]}:
            if n_kept > 1:
                counts = ours.pinned(ours.widths, [Wish(layer=choice.layer, kept=n_kept)])
                assert ours.kept_of(choice.layer, counts) == n_kept


# Contradictions


@pytest.mark.parametrize(
    ("lock", "layer", "says"),
    [
        ("model.4.cv9", "", r"This model has no layer 'model\.4\.cv9'; there is model\.4\.cv\d or model\.4\.cv\d"),
        ("", "anything=0.5", r"no layer 'anything'; `trimboard plan --json` lists all layers"),
        ("", "model.4.cv1=0.05", r"model\.4\.cv1 cannot keep 5%; of its 64 channels it keeps 8 to 64"),
        ("", "model.4.cv1=65", r"model\.4\.cv1 cannot keep 65 channels; of its 64 channels"),
        ("", "model.23.cv2.0.2=0.5", r"model\.23\.cv2\.0\.2 keeps all of its channels \(.+\); leave it out"),
    ],
)
def test_wishes_that_cannot_be_met(lock: str, layer: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        planner("yolo26n").wishing(parse_wishes([lock], [layer]))
    assert "\n" not in str(caught.value)


def test_coupled_layers_cannot_be_wished_differently() -> None:
    ours = groups("yolo26n")
    choice = next(choice for choice in ours.choices() if choice.coupled)
    first, second = choice.layer, choice.coupled[0]
    with pytest.raises(SpecError, match=r"are coupled and keep equally much, so .+ contradict each other"):
        ours.pins(parse_wishes([first], [f"{second}=0.5"]))
    assert ours.pins(parse_wishes([first], [f"{second}=1"])) == ours.pins(parse_wishes([first], ()))


def test_a_target_that_locks_forbid_says_what_can_be_reached() -> None:
    ours = groups("yolo26n")
    every = [choice.layer for choice in ours.choices()][:-6]
    with pytest.raises(TargetError, match="is out of reach") as caught:
        planner("yolo26n").plan(Target(gflops_kept=0.3, params_kept=None, layers=parse_wishes(every, ())))
    sentence = str(caught.value)
    assert "layers as wished" in sentence
    reached = float(sentence.split("this model keeps ")[1].split(";")[0])
    made = planner("yolo26n").plan(
        Target(gflops_kept=reached + 0.005, params_kept=None, layers=parse_wishes(every, ()))
    )
    assert parts(made)[0] == pytest.approx(reached + 0.005, abs=0.006)


def test_a_target_that_the_wished_cut_is_below_already() -> None:
    alone = [
        choice.layer for choice in groups("yolo26n").choices() if not choice.coupled and "attn" not in choice.layer
    ]
    deep = only(*(Wish(layer=layer, kept=0.25) for layer in alone))
    left = parts(planner("yolo26n").plan(deep))[0]
    with pytest.raises(TargetError, match=rf"this model keeps {left:.3f} where no other layer is cut; ask for less"):
        planner("yolo26n").plan(Target(gflops_kept=0.99, params_kept=None, layers=deep.layers))


def test_levels_without_wishes_are_as_before() -> None:
    ours = Planner(original("yolo26n"), 64)
    ours.plan(Target(gflops_kept=0.8, params_kept=None, layers=parse_wishes(["model.0"], ())))
    after, before = ours.plan(target_of(3)), plan("yolo26n", target_of(3))
    assert after.layers == before.layers


def test_a_single_channel_is_told_as_a_part() -> None:
    found = groups("yolo26n")
    unit = next(unit for unit, floor in enumerate(found.floors) if floor == 1 < found.widths[unit])
    counts = found.widths.copy()
    counts[unit] = 1
    assert np.array_equal(found.pinned(found.widths, found.as_wishes(counts)), counts)


def test_a_number_that_no_cut_gives_is_refused_with_the_nearest() -> None:
    # Both halves of this layer keep equally many.
    with pytest.raises(SpecError, match=r"model\.2\.cv1 cannot keep exactly 31 channels.*the nearest .* is 32"):
        groups("yolo26n").pins(parse_wishes((), ["model.2.cv1=31"]))
