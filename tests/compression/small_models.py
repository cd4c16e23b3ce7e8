"""Small detectors with random weights, built and planned once for all tests; none of them is to be changed."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT

from compression.levels import target_of
from compression.pruning.planner import Planner, PruningPlan
from compression.pruning.surgery import apply_plan, raw_outputs
from compression.spec import Target

FAMILIES = ("yolo26n", "yolo11n", "yolov8n")
IMGSZ = 64
# Far below any level: every group loses channels.
DEEP = Target(gflops_kept=0.4, params_kept=None)
LEVEL_5 = target_of(5)

CONV = [-1, 1, "Conv", [64, 3, 2]]
DETECT = [[-1], 1, "Detect", ["nc"]]


@cache
def original(name: str) -> DetectionModel:
    """A catalog model in eval mode, whose BatchNorm statistics are random too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = randomised(DetectionModel(f"{name}.yaml", verbose=False))
    model.args = dict(DEFAULT_CFG_DICT)
    return model


def randomised(model: DetectionModel) -> DetectionModel:
    """The model with random BatchNorm statistics, in eval mode: channels that are mixed up show in its outputs."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


@cache
def planner(name: str, imgsz: int = IMGSZ) -> Planner:
    """A planner of `original(name)`."""
    return Planner(original(name), imgsz)


@cache
def plan(name: str, target: Target) -> PruningPlan:
    """A plan of `original(name)`."""
    return planner(name).plan(target)


@cache
def pruned(name: str, target: Target) -> DetectionModel:
    """`original(name)` after `plan(name, target)`."""
    return apply_plan(original(name), planner(name).trace, plan(name, target))


def build(*blocks: list[Any], head: list[Any] = DETECT, **keys: Any) -> DetectionModel:
    """A detector of one class: two convolutions, the given rows of a yaml, and a head."""
    return DetectionModel({"nc": 1, "backbone": [CONV, CONV, *blocks], "head": [head], **keys}, verbose=False).eval()


@torch.no_grad()
def outputs(model: DetectionModel, imgsz: int = IMGSZ) -> list[Tensor]:
    """What every head gives before it is decoded, on the same random image each time."""
    n_channels = model.yaml.get("channels", 3)
    image = torch.rand(1, n_channels, imgsz, imgsz, generator=torch.Generator().manual_seed(1))
    return raw_outputs(model, image)


def equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    """Whether two lists of tensors are the same, bit by bit."""
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def thin(config: dict[str, Any], by: int = 4) -> dict[str, Any]:
    """An architecture with the same blocks and a part of the channels, for families without a small scale."""

    def narrower(value: Any) -> Any:
        if isinstance(value, list):
            return [narrower(each) for each in value]
        return value // by if isinstance(value, int) and value >= 16 else value

    rows = {part: [[*row[:3], narrower(row[3])] for row in config[part]] for part in ("backbone", "head")}
    return copy.deepcopy(config) | rows
