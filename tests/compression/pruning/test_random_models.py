"""Random architectures, targets and steps: what must hold for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from ultralytics.nn.tasks import DetectionModel

from compression.errors import TargetError
from compression.graph.layer_groups import MIN_GROUP_KEPT
from compression.pruning.planner import TOLERANCE, Planner
from compression.pruning.surgery import apply_plan, without_channels
from compression.spec import ALIGNMENTS, Target
from tests.compression.small_models import outputs, randomised

IMGSZ = 64
# Channels of a block's output, as its yaml row asks for them.
WIDTHS = (16, 24, 32, 40, 64)

# Blocks that take a map of any width, by (repeats, width) -> row; attention wants widths that heads divide.
BLOCKS: dict[str, Any] = {
    "Conv": lambda n, w: [n, "Conv", [w, 3, 1]],
    "down": lambda n, w: [1, "Conv", [w, 3, 2]],
    "C2f": lambda n, w: [n, "C2f", [w, True]],
    "C3": lambda n, w: [n, "C3", [w]],
    "C3k2": lambda n, w: [n, "C3k2", [w, n > 1]],
    "C2fCIB": lambda n, w: [n, "C2fCIB", [w, True, n > 1]],
    "C2": lambda n, w: [n, "C2", [w]],
    "GhostConv": lambda n, w: [1, "GhostConv", [w, 3, 1]],
    "C3Ghost": lambda n, w: [n, "C3Ghost", [w, True]],
    "RepC3": lambda n, w: [n, "RepC3", [w]],
    "ELAN1": lambda n, w: [1, "ELAN1", [w, w, w // 2]],
    "RepNCSPELAN4": lambda n, w: [1, "RepNCSPELAN4", [w, w, w // 2, n]],
    "ADown": lambda n, w: [1, "ADown", [w]],
    "AConv": lambda n, w: [1, "AConv", [w]],
    "SCDown": lambda n, w: [1, "SCDown", [w, 3, 2]],
    "SPPF": lambda n, w: [1, "SPPF", [w, 5]],
    "A2C2f": lambda n, w: [n, "A2C2f", [64, True, 1]],
    "C2PSA": lambda n, w: [1, "C2PSA", [w]],
    "unknown": lambda n, w: [n, "BottleneckCSP", [w]],
    "grouped": lambda n, w: [1, "DWConv", [w, 3, 1]],
    "beside": None,
}


@st.composite
def models(draw: st.DrawFn) -> DetectionModel:
    """A detector of up to six random blocks, some of which read an earlier one beside the last."""
    rows: list[list[Any]] = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]]
    # Halvings so far, by row: only maps of equal size can be concatenated.
    sizes, widths = [1, 2], [16, 32]
    for name in draw(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=6)):
        row_width, n = draw(st.sampled_from(WIDTHS)), draw(st.integers(1, 2))
        if name == "beside":
            other = draw(st.sampled_from([at for at, size in enumerate(sizes) if size == sizes[-1]]))
            rows.append([[-1, other], 1, "Concat", [1]])
            widths.append(widths[-1] + widths[other])
        else:
            if name == "C2PSA":
                row_width = widths[-1]
            if name == "Conv" and n > 1:
                row_width = widths[-1]  # repeated as it is, it must give what it takes
            n, block, arguments = BLOCKS[name](n, row_width)
            rows.append([-1, n, block, arguments])
            widths.append(arguments[0])
        sizes.append(sizes[-1] + (name in ("down", "ADown", "AConv", "SCDown")))
        assume(sizes[-1] <= 5)
    config = {"nc": draw(st.sampled_from([1, 3, 365])), "backbone": rows, "head": [[[-1], 1, "Detect", ["nc"]]]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomised(DetectionModel(config, ch=draw(st.sampled_from([1, 3, 4, 6])), verbose=False))


parts = st.floats(0.2, 1)
targets = st.one_of(
    st.builds(lambda part: Target(gflops_kept=part, params_kept=None), parts),
    st.builds(lambda part: Target(gflops_kept=None, params_kept=part), parts),
    st.builds(lambda one, two: Target(gflops_kept=one, params_kept=two), parts, parts),
)


# The same cases each time, and none looked for that is smaller than one that fails.
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(model=models(), target=targets, align=st.sampled_from(ALIGNMENTS))
def test_any_cut_of_any_model(model: DetectionModel, target: Target, align: int) -> None:
    planner = Planner(model, IMGSZ, align=align)
    try:
        plan = planner.plan(target)
    except TargetError:
        return
    groups = planner.trace.groups

    # Coupled channels agree: what stays of a layer is what stays of each group that runs through it.
    pruned = apply_plan(model, planner.trace, plan)
    for group, kept in zip(groups, plan.kept, strict=True):
        assert len(kept) == group.width if group.locked else len(kept) >= max(1, MIN_GROUP_KEPT * group.width)
        assert np.all(np.diff(kept) > 0)
    for tie in planner.trace.ties:
        assert len({len(plan.kept[index]) for index in tie}) == 1

    # Targets are met, or it is said that they are not.
    for before, after, asked in (
        (plan.before.gflops, plan.after.gflops, target.gflops_kept),
        (plan.before.params, plan.after.params, target.params_kept),
    ):
        assert before is not None
        assert after is not None
        met = asked is None or abs(after / before - asked) <= TOLERANCE + 1e-9
        assert met or any("were to be kept" in warning for warning in plan.warnings)

    # What comes back runs, and gives what the original gives without those channels.
    assert sum(parameter.numel() for parameter in pruned.parameters()) == plan.after.params
    silenced = without_channels(model, planner.trace, plan)
    for our, their in zip(outputs(pruned), outputs(silenced), strict=True):
        scale = float(their.abs().max())
        torch.testing.assert_close(our / scale, their / scale, rtol=1e-3, atol=1e-3)
    assert {type(module) for module in pruned.modules()} == {type(module) for module in model.modules()}
