"""What the study compares itself with: other ways to a detector of fewer GFLOPs, none of them fine-tuned here.

- torch-pruning as its users run it: group L2, one ratio for every layer, eights.
- A narrower model of the same architecture, with random weights.
- FastNAS of NVIDIA's Model Optimizer, where it is installed.

GFLOPs are those of the training graph. What comes back is made of stock Ultralytics modules.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn.modules import C2PSA, Attention, C2f
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import DEFAULT_CFG_DICT

from benchmarks.unfolded import make_traceable
from compression.errors import SpecError
from compression.graph.channels import is_depthwise
from compression.graph.cost_sheet import GIGA, Numbers
from compression.graph.costs import CostModel
from compression.graph.trace import Trace, trace
from compression.pruning.criteria import strongest_channels
from compression.pruning.planner import PruningPlan
from compression.pruning.surgery import apply_plan
from compression.spec import Target

Widths = tuple[int, ...]

# What torch-pruning by itself does not couple with anything that it could remove.
QUERIES_AND_KEYS = ".qkv.conv"

# Ratios are tried in steps of a thousandth; one channel of yolo26n's widest layer is four of them.
RATIO_STEP = 0.001

# parse_model makes every width a multiple of eight.
WIDTH_STEP = 8
# Blocks whose first argument parse_model takes for a width, of those that can be traced.
BLOCKS_WITH_WIDTH = ("Conv", "DWConv", "Bottleneck", "C2f", "C3k2", "C3", "SPPF", "C2PSA")
# Ultralytics gives attention a head for each 64 channels.
HEAD_WIDTH = 64
# No width multiple under an eighth of the model's own is tried.
MIN_WIDTH_KEPT = 0.125

# Model Optimizer re-estimates the BatchNorm of each candidate from its latest 50 batches, and does not with fewer.
FASTNAS_BATCHES = 50
# Its own default of 32 leaves most layers of yolo26n no choice; with eights it can cut as finely as the other peers.
FASTNAS_DIVISOR = 8
# Its default: every twentieth of a layer's channels.
FASTNAS_RATIOS = tuple(round(step / 20, 2) for step in range(1, 21))


def torch_pruning_as_used(
    model: DetectionModel, imgsz: int, gflops_kept: float, *, round_to: int | None = 8
) -> DetectionModel:
    """A model as torch-pruning's MagnitudePruner leaves it at the one ratio whose GFLOPs come nearest to a target.

    Stock torch-pruning does not finish on these models, so the couplings are those of `compression.graph.trace`, which
    keeps the head's outputs and the width of attention, and the surgery is ours. Its group L2 ranks the channels, and
    its source tells how many stay: of a group of `width` channels int(width x (1 - ratio)), rounded down to a multiple
    of `round_to`, and all of them where nothing would be left. Both halves of a convolution that is chunked have one
    width, and so one count.

    Args:
        model: an unfused detector; not modified.
        imgsz: side of the square input, pixels.
        gflops_kept: part of the GFLOPs to keep.
        round_to: counts that stay are its multiples; None for any count, which is torch-pruning's default.

    Returns:
        The nearest cut, above the target or below it. Never the whole model, although that may be nearer: in eights
        the smallest ratio takes eight channels of every group, which is 30% of yolo26n's GFLOPs.

    Raises:
        SpecError: the part to keep is out of range.
        ModelError: the model cannot be traced.

    Source: torch-pruning 1.6.1, torch_pruning/pruner/algorithms/base_pruner.py: BasePruner._prune and _round_to.
    """
    target = Target(gflops_kept=gflops_kept, params_kept=None)
    traced = trace(model)
    costs = CostModel(model, traced, imgsz)
    counts = _uniform_counts(traced, round_to)
    full, _ = costs.training_costs(costs.widths)
    gflops, _ = costs.training_costs(counts)
    # Beyond the cheapest ratio the costs rise again, as one narrow group after the other is left whole.
    nearest = int(np.abs(gflops[: int(gflops.argmin()) + 1] - gflops_kept * full).argmin())
    return apply_plan(model, traced, _uniform_plan(traced, costs, counts[:, nearest], target))


def _uniform_counts(traced: Trace, round_to: int | None) -> Numbers:
    """Channels that each group keeps at each ratio, [groups, ratios]."""
    ratios = np.arange(RATIO_STEP, 1, RATIO_STEP)
    counts = np.empty((len(traced.groups), len(ratios)))
    for row, group in enumerate(traced.groups):
        kept = np.floor(group.width * (1 - ratios))
        if round_to is not None:
            kept -= kept % round_to
        whole = group.locked or group.name.endswith(QUERIES_AND_KEYS)
        counts[row] = group.width if whole else np.where(kept == 0, group.width, kept)
    return counts


def _uniform_plan(traced: Trace, costs: CostModel, n_kept: Numbers, target: Target) -> PruningPlan:
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    kept = tuple(
        np.arange(group.width)
        if count == group.width
        else strongest_channels(importance(group.couplings).cpu().numpy(), round(count))
        for group, count in zip(traced.groups, n_kept.tolist(), strict=True)
    )
    return PruningPlan(
        target=target,
        kept=kept,
        before=costs.costs(costs.widths),
        after=costs.costs(n_kept),
        layers=costs.rows(n_kept),
        warnings=(),
        seconds=0.0,
    )


def narrower(model: DetectionModel, imgsz: int, gflops_kept: float, seed: int) -> DetectionModel:
    """A model of the same architecture and classes with random weights, whose GFLOPs come nearest to a target.

    First the two width multiples are found between which the target lies. As parse_model rounds every width up to
    eights, one step of the multiple can change several blocks and 13% of yolo26n's GFLOPs; so the blocks of the
    narrower model then take the widths of the wider one, one after the other from the input on. The yaml of the result
    is stock: it gives the widths themselves, at a width multiple of 1.

    Args:
        model: an unfused detector with the shapes of its yaml; not modified.
        imgsz: side of the square input, pixels.
        gflops_kept: part of the GFLOPs to keep.
        seed: of the random weights.

    Raises:
        SpecError: the part to keep is out of range.
    """
    Target(gflops_kept=gflops_kept, params_kept=None)
    wanted = gflops_kept * counted_gflops(model, imgsz)

    @cache
    def gflops(widths: Widths) -> float:
        return counted_gflops(_with_widths(model, widths, seed), imgsz)

    def neighbours(ascending: list[Widths]) -> list[Widths]:
        above = min(bisect_left(ascending, wanted, key=gflops), len(ascending) - 1)
        return ascending[max(above - 1, 0) : above + 1]

    around = neighbours(_widths_by_multiple(model.yaml))
    candidates = neighbours(_mixtures(model.yaml, around[0], around[-1]))
    return _with_widths(model, min(candidates, key=lambda widths: abs(gflops(widths) - wanted)), seed)


def counted_gflops(model: DetectionModel, imgsz: int) -> float:
    """GFLOPs of the training graph, counted on a forward pass that computes nothing."""
    counted = copy.deepcopy(model).train().to("meta")
    norms: list[Any] = [module for module in counted.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        # It counts nothing, and would take the counter more time than all the rest.
        norm.forward = nn.Identity().forward
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        counted(torch.zeros(1, counted.yaml["channels"], imgsz, imgsz, device="meta"))
    return counter.get_total_flops() / GIGA


def _wide_rows(config: dict[str, Any]) -> list[list[Any]]:
    """The rows of a yaml whose block has a width, in order; they are the yaml's own lists."""
    return [row for row in (*config["backbone"], *config["head"]) if row[2] in BLOCKS_WITH_WIDTH]


def _scaling(config: dict[str, Any]) -> tuple[float, float, float]:
    """Depth multiple, width multiple and largest width before it, as parse_model takes them from a yaml."""
    if config.get("scales"):
        depth, multiple, largest = config["scales"][config["scale"]]
        return depth, multiple, largest
    return config.get("depth_multiple", 1.0), config.get("width_multiple", 1.0), float("inf")


def _widths_by_multiple(config: dict[str, Any]) -> list[Widths]:
    """The different widths that multiples up to the model's own give its blocks, ascending."""
    _, own, largest = _scaling(config)
    nominal = [min(row[3][0], largest) for row in _wide_rows(config)]
    # At these a block passes from one step of eight to the next.
    multiples = {
        steps * WIDTH_STEP / width for width in nominal for steps in range(1, 1 + int(width * own / WIDTH_STEP))
    }
    return sorted(
        {
            tuple(_buildable(width * multiple) for width in nominal)
            for multiple in (*multiples, own)
            if MIN_WIDTH_KEPT * own <= multiple <= own
        }
    )


def _buildable(width: float) -> int:
    """A width rounded up to eights as parse_model does, and on to one that attention can share among its heads."""
    # What a product like 24 / 128 x 128 has too much must not cost another eight.
    eights = WIDTH_STEP * math.ceil(round(width / WIDTH_STEP, 6))
    # Attention works on half the width, in heads of 64 and more.
    while (eights // 2) % max(eights // 2 // HEAD_WIDTH, 1):
        eights += WIDTH_STEP
    return eights


def _mixtures(config: dict[str, Any], narrow: Widths, wide: Widths) -> list[Widths]:
    """From the narrower to the wider widths, block by block from the input."""
    blocks = [row[2] for row in _wide_rows(config)]
    # A C2PSA is as wide as the block before it.
    cuts = [cut for cut in range(len(blocks) + 1) if cut == len(blocks) or blocks[cut] != "C2PSA"]
    return list(dict.fromkeys(wide[:cut] + narrow[cut:] for cut in cuts))


def _with_widths(model: DetectionModel, widths: Widths, seed: int) -> DetectionModel:
    """The architecture of a model with other widths and random weights."""
    config = copy.deepcopy(model.yaml)
    for row, width in zip(_wide_rows(config), widths, strict=True):
        row[3][0] = width
    depth, _, _ = _scaling(config)
    # The letter of the scale stays, for parse_model also chooses blocks by it.
    config["scales"] = {config.get("scale", ""): [depth, 1.0, max(widths)]}
    config["nc"] = len(model.names)
    config["yaml_file"] = f"{Path(str(config.get('yaml_file', 'model.yaml'))).stem}-narrower.yaml"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = DetectionModel(config, verbose=False)
    built.names, built.args = dict(model.names), dict(DEFAULT_CFG_DICT)
    return built.eval()


def fastnas_is_installed() -> bool:
    """Whether `fastnas` can run: nvidia-modelopt 0.47 with torchprofile 0.0.4 (it does not work with 0.1).

    Installed without its dependencies, Model Optimizer also wants tqdm, omegaconf, huggingface_hub and pulp.
    """
    return all(importlib.util.find_spec(name) is not None for name in ("modelopt", "torchprofile"))


def fastnas(
    model: DetectionModel,
    imgsz: int,
    gflops_kept: float,
    *,
    score: Callable[[DetectionModel], float],
    batches: Sequence[Tensor],
    sensitivity: Path | None = None,
) -> DetectionModel:
    """A model pruned by FastNAS of NVIDIA's Model Optimizer.

    Its tracer stops on a whole detector ("'Node' object is not iterable"): it cannot follow the forward of
    DetectionModel, so it traces block by block, and there a concatenation's inputs are one unknown. It passes on
    `StraightLine`. FastNAS scores the model with each group of layers at each of its widths, and searches for the
    threshold of lost score at which the narrowest widths within it meet the target.

    Args:
        model: an unfused detector; not modified.
        imgsz: side of the square input, pixels.
        gflops_kept: part of the GFLOPs to keep at the most.
        score: accuracy of a candidate, the higher the better, made of stock modules like the result; called for each
            width of each group, several hundred times.
        batches: at least 50 of images, float32 [B, 3, imgsz, imgsz] in [0, 1], on the model's device, from which
            BatchNorm is re-estimated before each score and in the end.
        sensitivity: file of the scores, read where it is there and written otherwise: they serve every target.

    Returns:
        A model within the target, which may lie far below it: what no score misses goes at any threshold. A score of
        the end-to-end predictions alone misses nothing of the one-to-many head, and yolo26n on BCCD then keeps 56%.

    Raises:
        SpecError: the part to keep is out of range, or there are too few batches.
        ModelError: the model cannot be traced.
        ImportError: Model Optimizer is not installed, see `fastnas_is_installed`.

    Source: nvidia-modelopt 0.47.0, modelopt/torch/prune/fastnas.py: BinarySearcher.
    """
    Target(gflops_kept=gflops_kept, params_kept=None)
    if len(batches) < FASTNAS_BATCHES:
        raise SpecError(f"FastNAS re-estimates BatchNorm on {FASTNAS_BATCHES} batches; {len(batches)} are too few.")
    pruning = importlib.import_module("modelopt.torch.prune")
    # eval() of what Model Optimizer has converted re-estimates BatchNorm.
    pruned, _ = pruning.prune(
        StraightLine(model).eval(),
        mode=[("fastnas", _fastnas_rules())],
        constraints={"flops": f"{100 * gflops_kept:g}%"},
        dummy_input=torch.zeros_like(batches[0][:1]),
        config={
            "score_func": lambda candidate: score(candidate.eval().folded(model)),
            "data_loader": batches,
            "collect_func": lambda batch: batch,
            "checkpoint": None if sensitivity is None else str(sensitivity),
        },
    )
    return pruned.folded(model)


def _fastnas_rules() -> dict[str, Any]:
    return {
        "nn.Conv2d": {"*": {"channels_ratio": FASTNAS_RATIOS, "kernel_size": (), "channel_divisor": FASTNAS_DIVISOR}},
        "nn.BatchNorm2d": {"*": {"features_ratio": FASTNAS_RATIOS, "feature_divisor": FASTNAS_DIVISOR}},
    }


class StraightLine(nn.Module):
    """A detector whose forward torch.fx can follow from the image to the outputs of the head, without a branch.

    It calls the blocks one after the other, with the stand-ins of `benchmarks.unfolded` for what is chunked and for the
    decoding of the head. Attention runs as it is: its `view` keeps what is before it at full width. The halves of a
    chunked convolution are tied, so that they keep equally many channels and can be folded.

    Args:
        model: an unfused detector; not modified.
    """

    def __init__(self, model: DetectionModel) -> None:
        super().__init__()
        traceable = make_traceable(model)
        for module in traceable.modules():
            if isinstance(module, Attention):
                del module.forward
            elif isinstance(module, C2f):
                module.forward = MethodType(_tied_c2f_forward, module)
            elif isinstance(module, C2PSA):
                module.forward = MethodType(_tied_c2psa_forward, module)
        self.blocks = traceable.model

    def forward(self, image: Tensor) -> list[Tensor]:
        """Raw outputs of the head's branches of float32 [B, 3, H, W]."""
        outputs: list[Any] = []
        x: Any = image
        for block in self.blocks:
            if block.f != -1:
                x = outputs[block.f] if isinstance(block.f, int) else [x if i == -1 else outputs[i] for i in block.f]
            x = block(x)
            outputs.append(x)
        return x

    def folded(self, model: DetectionModel) -> DetectionModel:
        """A copy of the model this was made of, with the channels and weights that are left here.

        Args:
            model: the original; not modified.
        """
        stock = copy.deepcopy(model)
        for name, layer in stock.named_modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                _take_over(layer, self._parts(name))
        for module in stock.modules():
            if isinstance(module, C2f):
                module.c = module.cv1.conv.out_channels // 2
        return stock

    def _parts(self, name: str) -> list[Any]:
        """What a layer of the original is here: itself, or its two halves."""
        parent, _, child = name.removeprefix("model.").rpartition(".")
        block = self.blocks.get_submodule(parent)
        if hasattr(block, "first"):
            return [half[("conv", "bn").index(child)] for half in (block.first, block.second)]
        return [block.get_submodule(child)]


def _tied(halves: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of a chunked convolution. An addition ties their widths and changes nothing."""
    first, second = halves.first(x), halves.second(x)
    return first + 0 * second, second


def _tied_c2f_forward(self: C2f, x: Tensor) -> Tensor:
    outputs = list(_tied(self.cv1, x))
    outputs.extend(block(outputs[-1]) for block in self.m)
    return self.cv2(torch.cat(outputs, 1))


def _tied_c2psa_forward(self: C2PSA, x: Tensor) -> Tensor:
    first, second = _tied(self.cv1, x)
    return self.cv2(torch.cat((first, self.m(second)), 1))


def _take_over(layer: nn.Conv2d | nn.BatchNorm2d, parts: list[Any]) -> None:
    """Give a layer the weights of the layers that it was pruned to, one below the other."""
    parameters = ("weight", "bias")
    for name in (*parameters, "running_mean", "running_var"):
        if getattr(layer, name, None) is not None:
            values = torch.cat([getattr(part, name) for part in parts]).detach().clone()
            setattr(layer, name, nn.Parameter(values) if name in parameters else values)
    if isinstance(layer, nn.BatchNorm2d):
        layer.num_features = len(layer.weight)
        return
    depthwise = is_depthwise(layer)
    layer.out_channels = len(layer.weight)
    layer.in_channels = layer.out_channels if depthwise else layer.weight.shape[1]
    layer.groups = layer.out_channels if depthwise else 1
