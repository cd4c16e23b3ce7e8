"""Every family of Ultralytics' detectors, and every head of other tasks: planned, cut, counted, saved, and loaded by plain Ultralytics."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ultralytics.nn.tasks import DetectionModel, yaml_model_load
from ultralytics.utils import DEFAULT_CFG_DICT

from compression.catalog import CATALOG, FAMILIES, task_of_name
from compression.graph.costs import CostModel
from compression.levels import target_of
from compression.models.checkpoint import write_checkpoint
from compression.models.kinds import KINDS
from compression.pruning.planner import TOLERANCE, Planner, PruningPlan
from compression.pruning.surgery import apply_plan, without_channels
from tests.compression.graph.test_costs import check, counted, n_params
from tests.compression.small_models import equal, outputs, randomised, thin

LEVELS = (0, 1, 3, 5)

# The smallest of each family, and larger scales that are made of other blocks. The narrow ones have a quarter of the
# channels of their yaml.
WHOLE = (
    *("yolo26n", "yolo26n-p2", "yolo26n-p6", "yolo11n", "yolo12n", "yolov10n", "yolov9t", "yolov8n", "yolov8n-p2"),
    *("yolov8n-p6", "yolov8n-ghost", "yolov8n-ghost-p2", "yolov8n-ghost-p6", "yolov6n", "yolov5n", "yolov5n-p6"),
)
NARROW = (
    *("yolo12l", "yolov10x", "yolov9m", "yolov9c", "yolov9e"),
    *("yolov3", "yolov3-tiny", "yolov3-spp"),
)
# Every head of the other tasks, and every family that has it.
TASKED = (
    *("yolo26n-seg", "yolo26n-pose", "yolo26n-obb", "yolo26n-cls", "yolov8n-seg", "yolov8n-cls"),
    *("yolo11n-pose", "yolo12n-obb"),
)
NAMES = (*WHOLE, *NARROW, *TASKED)

# Of every class of blocks what keeps all its channels, besides the outputs of the head.
LOCKED = {
    "the residual width of an attention block": ("yolo26", "yolo11", "yolov10"),
    "queries, keys and values of area attention": ("yolo12",),
    "an output that is scaled channel by channel": ("yolo12l",),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model of random weights with its plans and what they leave, by level."""

    model: DetectionModel
    planner: Planner
    plans: dict[int, PruningPlan]
    pruned: dict[int, DetectionModel]


@cache
def case(name: str) -> Case:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = yaml_model_load(f"{name}.yaml")
        kind = KINDS[task_of_name(name)]
        model = randomised(kind.model(thin(config) if name in NARROW else config, verbose=False))
    model.args = dict(DEFAULT_CFG_DICT)
    planner = Planner(model, imgsz(name))
    plans = {level: planner.plan(target_of(level)) for level in LEVELS}
    pruned = {level: apply_plan(model, planner.trace, plan) for level, plan in plans.items()}
    return Case(model=model, planner=planner, plans=plans, pruned=pruned)


names = pytest.mark.parametrize("name", NAMES)


def imgsz(name: str) -> int:
    """Twice the largest stride: a BatchNorm in training refuses maps of a single cell."""
    return 128 if name.endswith("-p6") else 64


def test_every_family_is_here() -> None:
    detectors = {family for family in FAMILIES if task_of_name(family) == "detect"}
    assert {CATALOG[name] for name in (*WHOLE, *NARROW)} == detectors
    assert {type(case(name).model.model[-1]) for name in TASKED} == {
        head for task, kind in KINDS.items() if task != "detect" for head in kind.heads
    }


@names
def test_targets_are_met_and_nothing_is_left_out(name: str) -> None:
    for level, plan in case(name).plans.items():
        assert plan.warnings == ()
        for before, after, asked in (
            (plan.before.gflops, plan.after.gflops, plan.target.gflops_kept),
            (plan.before.params, plan.after.params, plan.target.params_kept),
        ):
            assert before is not None
            assert after is not None
            assert after / before == pytest.approx(asked, abs=TOLERANCE), level


@names
def test_costs_are_the_counted_ones(name: str) -> None:
    ours = case(name)
    check(ours.plans[5].after, ours.pruned[5], imgsz(name))
    assert ours.plans[5].before.params == n_params(ours.model)
    assert ours.planner.outcome(ours.pruned[3])[0] == ours.plans[3].after


@names
def test_pruned_model_equals_the_original_without_those_channels(name: str) -> None:
    ours = case(name)
    silenced = without_channels(ours.model, ours.planner.trace, ours.plans[5])
    full = outputs(ours.model)
    for our, their, before in zip(outputs(ours.pruned[5]), outputs(silenced), full, strict=True):
        assert our.shape == before.shape
        scale = float(their.abs().max())
        torch.testing.assert_close(our / scale, their / scale, rtol=1e-3, atol=1e-4)
        assert (our - before).abs().max() > 1e-3 * scale


@names
def test_a_plan_of_nothing_changes_nothing(name: str) -> None:
    ours = case(name)
    assert equal(list(ours.pruned[0].state_dict().values()), list(ours.model.state_dict().values()))
    assert equal(outputs(ours.pruned[0]), outputs(ours.model))


@names
def test_what_stays(name: str) -> None:
    reasons = {group.locked for group in case(name).planner.trace.groups if group.locked}
    assert reasons == {"the outputs of the head"} | {
        reason for reason, families in LOCKED.items() if name.startswith(families)
    }
    shown = {row.locked for row in case(name).plans[5].layers if row.locked}
    assert shown == reasons


# Families whose blocks hold widths or scales of their own.
peculiar = pytest.mark.parametrize("name", ["yolo12l", "yolov10n", "yolov9e", "yolov8n-ghost", "yolov6n"])


@peculiar
@pytest.mark.parametrize("level", [1, 5])
def test_pruned_model_can_be_pruned_again(name: str, level: int) -> None:
    ours = case(name)
    narrow = ours.pruned[level]
    again = Planner(narrow, imgsz(name), original=ours.model)
    plan = again.plan(target_of(5))
    both = apply_plan(narrow, again.trace, plan)
    assert plan.before == ours.plans[level].after
    assert ours.planner.outcome(both)[0] == plan.after
    for our, their in zip(outputs(both), outputs(without_channels(narrow, again.trace, plan)), strict=True):
        scale = float(their.abs().max())
        torch.testing.assert_close(our / scale, their / scale, rtol=1e-3, atol=1e-4)


@peculiar
@pytest.mark.parametrize("size", [96, 1280])
def test_costs_at_other_image_sizes(name: str, size: int) -> None:
    ours = case(name)
    model = CostModel(ours.model, ours.planner.trace, size)
    kept = np.array([len(channels) for channels in ours.plans[5].kept], dtype=np.float64)
    gflops, params = counted(ours.pruned[5], size)
    assert model.costs(kept).gflops == pytest.approx(gflops, rel=1e-9)
    assert model.costs(kept).params == params


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of level 5 of every family, and what plain Ultralytics gives for each, by one process without us."""
    folder = tmp_path_factory.mktemp("families")
    for name in NAMES:
        write_checkpoint(case(name).pruned[5], folder / f"{name}-5.pt", {"level": 5})
    program = """
import sys, torch
from pathlib import Path
from ultralytics import YOLO
image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
for file in sorted(Path(sys.argv[1]).glob("*.pt")):
    model = YOLO(str(file))
    with torch.no_grad():
        raw = model.model.float().eval()(image)[1]
    if isinstance(raw, torch.Tensor):
        torch.save([raw], file.with_suffix(".out"))
    else:
        heads = [raw] if "boxes" in raw else raw.values()
        values = [value for head in heads for part, value in head.items() if part != "feats"]
        torch.save(values, file.with_suffix(".out"))
    (found,) = model.predict((image[0] * 255).byte().permute(1, 2, 0).numpy(), imgsz=64, verbose=False, conf=1e-6)
    boxes = found.boxes if found.obb is None else found.obb
    assert found.probs is not None if model.task == "classify" else len(boxes) > 0
    assert (found.masks is not None) == (model.task == "segment")
    assert (found.keypoints is not None) == (model.task == "pose")
assert not {"compression", "cache", "torch_pruning"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


@names
def test_plain_ultralytics_gives_the_same_after_loading(name: str, reloaded: Path) -> None:
    rounded = copy.deepcopy(case(name).pruned[5]).half().float()
    assert equal(torch.load(reloaded / f"{name}-5.out"), outputs(rounded))
