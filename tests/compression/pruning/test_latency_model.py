"""Predicted times against truth that is known, and plans that meet them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cache.layer_times import LayerTime, TimedForm
from compression.errors import TargetError
from compression.graph.costs import CostModel
from compression.pruning.latency_model import LatencyModel, Numbers
from compression.pruning.planner import Planner
from compression.spec import AllocationName, LatencyTarget, Target
from tests.compression.small_models import original, planner

REST_MS = 2.0
PARTS = [1.0, 0.7, 0.5, 0.3]


def true_ms(costs: CostModel, kept: Numbers) -> TimedForm:
    """A device on which layers take a constant, their input, their output and their products, each a different part."""
    taken, given = costs.channels(kept)
    layers = []
    for index, layer in enumerate(costs.layers):
        if layer.deployed:
            read = 1 if layer.depthwise else round(float(taken[index]))
            out = round(float(given[index]))
            ms = 0.02 + 1e-4 * layer.cells**0.5 * (read + 2 * out) + 2e-8 * layer.taps * layer.cells * read * out
            layers.append(LayerTime(name=layer.shown_as, channels_in=read, channels_out=out, ms=ms))
    return TimedForm(layers=tuple(layers), rest_ms=REST_MS)


def clock(made: Planner) -> LatencyModel:
    """A prediction from the true times of the original and of a few other widths."""
    counts = [made.costs.widths]
    counts += [np.array([len(group) for group in kept], dtype=np.float64) for kept in made.widths_for(PARTS, 0)]
    return LatencyModel(made.costs, [true_ms(made.costs, each) for each in counts])


def target(kept: float, params_kept: float | None = None) -> Target:
    latency = LatencyTarget(kept=kept, backend="onnx", machine="m", backend_version="1")
    return Target(gflops_kept=None, params_kept=params_kept, latency=latency)


def test_what_is_predicted_of_other_widths_is_the_truth() -> None:
    made = planner("yolo26n", 320)
    predicts = clock(made)
    free = np.array([group.locked is None for group in made.trace.groups])
    for part in (1.0, 0.8, 0.45):
        kept = np.where(free, np.round(made.costs.widths * part), made.costs.widths)
        truth = true_ms(made.costs, kept).total_ms
        assert float(predicts.milliseconds(kept)) == pytest.approx(truth, rel=0.01)
    together = np.stack([made.costs.widths, np.round(made.costs.widths / 2)], axis=1)
    assert predicts.kept(together)[0] == pytest.approx(1)
    assert predicts.kept(together)[1] == pytest.approx(float(predicts.kept(together[:, 1])))


def test_no_time_grows_where_channels_go() -> None:
    made = planner("yolo26n", 320)
    predicts = clock(made)
    n_groups = len(made.costs.widths)
    fewer = np.maximum(made.costs.widths[:, None] - 4 * np.eye(n_groups), 1)
    assert (predicts.kept(fewer) <= 1 + 1e-12).all()


def test_widths_are_spread_over_the_range_and_hardly_correlated() -> None:
    made = planner("yolo26n", 320)
    cuts = made.widths_for(PARTS, 0)
    free = [index for index, group in enumerate(made.trace.groups) if group.locked is None]
    kept = np.array([[len(cut[index]) / made.costs.widths[index] for index in free] for cut in cuts])
    assert len(cuts) == len(PARTS)
    assert kept.min() >= 0.2
    assert kept.max() == 1
    # No cut is narrow or wide all over.
    assert np.ptp(kept.mean(axis=1)) < 0.25


@pytest.mark.parametrize(("allocation", "align"), [("uniform", 16), ("isomorphic", 8), ("budget", 8)])
def test_a_predicted_latency_is_met(allocation: AllocationName, align: int) -> None:
    made = Planner(original("yolo26s"), 320, allocation=allocation, align=align)
    timed = made.timed_by(clock(made))
    alone = timed.plan(target(0.55))
    assert alone.time is not None
    assert alone.time.predicted_kept == pytest.approx(0.55, abs=0.005)
    assert alone.warnings == ()
    both = timed.plan(target(0.7, params_kept=0.65))
    assert both.time is not None
    assert both.time.predicted_kept == pytest.approx(0.7, abs=0.005)
    assert both.after.params is not None
    assert both.before.params is not None
    assert both.after.params / both.before.params == pytest.approx(0.65, abs=0.005)
    # GFLOPs are planned as ever.
    assert made.plan(Target(gflops_kept=0.7, params_kept=None)).time is None


def test_a_latency_out_of_reach_is_told_with_what_is_in_reach() -> None:
    made = planner("yolo26n", 320)
    with pytest.raises(TargetError) as caught:
        made.timed_by(clock(made)).plan(target(0.2))
    found = re.fullmatch(
        r"Keeping 0\.2 of the latency is out of reach: with every layer at its floor of 0\.125 of its channels this "
        r"model keeps (0\.\d{3}); ask for more than that\.",
        str(caught.value),
    )
    assert found
    assert float(found[1]) > 0.2
