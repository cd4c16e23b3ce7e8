"""Parameters and GFLOPs of a detector under any channel plan, by counting once what arithmetic needs.

The arithmetic is in `compression.graph.cost_sheet`. The counting conventions are those of PyTorch's `FlopCounterMode`:
convolutions and matrix products at 2 operations a multiply-add, nothing else (Ultralytics counts likewise,
torch-pruning half of it).

Two graphs are told apart. The training graph has every head and unfolded BatchNorm; the deployed graph is what `fuse()`
leaves: one head, BatchNorm folded into its convolution, and the decoding of the boxes. Layers that a loss alone reads
count with their parameters in the training graph, and with no operations, as in Ultralytics' summary of a model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn.modules import DFL, Attention, Detect, RepConv, RepVGGDW
from ultralytics.nn.modules.block import AAttn, RealNVP
from ultralytics.nn.tasks import DetectionModel

from compression.graph.blocks import HEAD_OUTPUTS, own_blocks, training_only
from compression.graph.channels import channels_in, channels_out, is_depthwise
from compression.graph.cost_sheet import GIGA, CostSheet, CoupledChannels, Fixed, Layer
from compression.graph.trace import ChannelGroup, Convolution, Trace, Weighted, blank_image, map_sizes, run_on
from compression.image_size import ImageSize


class CostModel(CostSheet):
    """Costs of a model as a function of how many channels each group keeps.

    Args:
        model: an unfused Ultralytics `DetectionModel`; not modified.
        trace: its channel groups.
        imgsz: size of the input; its sides are multiples of the model's largest stride.
    """

    def __init__(self, model: DetectionModel, trace: Trace, imgsz: ImageSize) -> None:
        layers = tuple(_layers(model, trace, imgsz))
        index = {layer.name: i for i, layer in enumerate(layers)}
        super().__init__(layers, tuple(_coupled(group, index) for group in trace.groups), trace.ties)


def _coupled(group: ChannelGroup, index: Mapping[str, int]) -> CoupledChannels:
    """What costs depend on of a group of channels."""
    times: dict[str, dict[int, float]] = {"in": {}, "out": {}}
    for member in group.members:
        if member.layer in index:
            side, layer = times[member.side], index[member.layer]
            side[layer] = side.get(layer, 0.0) + len(member.positions) / group.width
    return CoupledChannels(
        width=group.width, locked=group.locked, read=tuple(times["in"].items()), given=tuple(times["out"].items())
    )


# Why a linear layer that the trace does not follow keeps its channels.
UNTRACED = "nothing is known of what reads it"

# Children whose outputs a BatchNorm beside them normalises; what is shown is the block of both.
NORMALISED = {"conv": "bn", "conv_transpose": "bn"}


def shown_as(name: str) -> str:
    """What a reader knows a convolution by: the path of its block, "model.0" of "model.0.conv"."""
    parent, _, last = name.rpartition(".")
    return parent if last in NORMALISED else name


def _layers(model: DetectionModel, trace: Trace, imgsz: ImageSize) -> list[Layer]:
    unknown = {block.name: block for block in trace.unknown}
    left_out = tuple(f"{name}." for name in unknown)
    modules = {name: module for name, module in model.named_modules() if not name.startswith(left_out)}
    untraced = _untraced(modules, trace)
    own = own_blocks(model)
    sizes = {name: sum(each.cells(imgsz) for each in maps) for name, maps in trace.feature_maps.items()}
    if own:
        # In blocks of the user's maps need not grow with the image as they do elsewhere.
        sizes |= _cells_within(tuple(own), model, imgsz)
    counted = (*unknown, *untraced, *own)
    fixed = _counted_costs(model, counted, imgsz) if counted else {}
    layers = list(_convolution_layers(modules, trace, sizes))
    layers += [
        _fixed_layer(name, layer, channels_out(layer), fixed[name], UNTRACED) for name, layer in untraced.items()
    ]
    for name, module in modules.items():
        if name in unknown:
            block = unknown[name]
            layers.append(_fixed_layer(name, module, block.channels, fixed[name], block.reason))
    layers += _own_parameters(modules, unknown)
    layers = _with_remainders(layers, own, fixed)
    place = {name: number for number, name in enumerate(modules)}
    return sorted(layers, key=lambda layer: place[layer.name])


def _cells_within(blocks: tuple[str, ...], model: DetectionModel, imgsz: ImageSize) -> dict[str, int]:
    """Cells of each convolution in these blocks, as the model runs at that size."""
    run = copy.deepcopy(model).eval()
    found = map_sizes(run, blank_image(run, imgsz))
    inside = tuple(f"{name}." for name in blocks)
    return {name: sum(h * w for h, w in maps) for name, maps in found.items() if name.startswith(inside)}


def _with_remainders(layers: list[Layer], blocks: Mapping[str, nn.Module], counted: Mapping[str, Fixed]) -> list[Layer]:
    """The layers, and what the user's blocks compute beside them, such as products with weights of no layer.

    How that follows the cut is not known, so it counts as at full width.
    """
    by_name = {layer.name: layer for layer in layers}
    for name, block in blocks.items():
        inside = tuple(layer for layer in layers if f"{layer.name}.".startswith(f"{name}."))
        known = CostSheet(inside, (), ()).costs(np.zeros(0))
        assert known.gflops is not None
        assert known.gflops_deployed is not None
        more = round(counted[name].flops - known.gflops * GIGA)
        more_deployed = round(counted[name].flops_deployed - known.gflops_deployed * GIGA)
        if more or more_deployed:
            layer = by_name.get(name) or _fixed_layer(name, block, 1, Fixed(), None)
            by_name[name] = replace(layer, fixed=replace(layer.fixed, flops=more, flops_deployed=more_deployed))
    return list(by_name.values())


def _traced(trace: Trace) -> set[str]:
    return {member.layer for group in trace.groups for member in group.members}


def _untraced(modules: Mapping[str, nn.Module], trace: Trace) -> dict[str, nn.Linear]:
    """Linear layers whose channels the trace does not follow, as a block of one's own may have; a RealNVP is one."""
    known = {*_traced(trace), *(block.name for block in trace.unknown)}
    flows = tuple(f"{name}." for name, module in modules.items() if isinstance(module, RealNVP))
    return {
        name: module
        for name, module in modules.items()
        if isinstance(module, nn.Linear) and name not in known and not name.startswith(flows)
    }


def _convolution_layers(modules: Mapping[str, nn.Module], trace: Trace, sizes: Mapping[str, int]) -> Iterator[Layer]:
    reasons = _reasons(trace)
    for_loss = training_only(trace.twin)
    undeployed = (*_undeployed_prefixes(modules), *for_loss)
    traced = _traced(trace)
    own = {name for name, _ in trace.twin.named_parameters()}
    for name, module in modules.items():
        if not isinstance(module, Weighted) or any(name == block.name for block in trace.unknown):
            continue
        if isinstance(module, nn.Linear) and name not in traced:
            continue
        decodes = name.endswith(".dfl.conv")
        parent, shown = name.rpartition(".")[0], shown_as(name)
        norm = norm_of(modules, name)
        attention = modules.get(parent.rpartition(".")[0]) if parent.endswith(".qkv") else None
        # What never runs has no map; a linear layer gives one number a channel.
        own_cells = 1 if isinstance(module, nn.Linear) else sizes.get(name, 0)
        cells = _decoded_cells(modules, name, sizes) if decodes else own_cells
        # Weights that another layer has too count there; with a BatchNorm of its own folded in, each has its own.
        counted_before = 0 if f"{name}.weight" in own else module.weight.numel()
        beside = f"{parent}.{NORMALISED.get(name.rpartition('.')[2])}"
        per_channel = len(own & {f"{name}.bias", f"{beside}.weight", f"{beside}.bias"})
        yield Layer(
            name=name,
            shown_as=shown,
            type=type(modules[shown]).__name__,
            channels_in=channels_in(module),
            channels_out=channels_out(module),
            depthwise=isinstance(module, nn.Conv2d) and is_depthwise(module),
            taps=module.weight[0, 0].numel(),
            cells=cells,
            params_per_channel=per_channel,
            folded=norm is not None and per_channel == 0,
            attended=_attended(attention, cells),
            value_channels=attention.num_heads * attention.head_dim if isinstance(attention, Attention | AAttn) else 0,
            deployed=not f"{name}.".startswith(undeployed),
            trained=not decodes and not f"{name}.".startswith(for_loss),
            locked=reasons.get(name),
            fixed=Fixed(params=-counted_before, params_deployed=0 if norm is not None else -counted_before),
        )


def norm_of(modules: Mapping[str, nn.Module], name: str) -> nn.BatchNorm2d | None:
    """The BatchNorm that normalises what a convolution gives; None where there is none.

    Args:
        modules: of the model, by name; a BatchNorm that several convolutions share stands there once.
        name: of the convolution.
    """
    parent, _, last = name.rpartition(".")
    norm = getattr(modules[parent], NORMALISED[last], None) if last in NORMALISED else None
    return norm if isinstance(norm, nn.BatchNorm2d) else None


def _reasons(trace: Trace) -> dict[str, str]:
    """Why a layer keeps all its outputs, of the layers that do."""
    locks: dict[str, list[str | None]] = {}
    for group in trace.groups:
        for member in group.members:
            if member.side == "out":
                locks.setdefault(member.layer, []).append(group.locked)
    return {layer: found[0] for layer, found in locks.items() if found[0] is not None and all(found)}


def _attended(attention: nn.Module | None, cells: int) -> float:
    """Pairs of positions that attention compares."""
    if isinstance(attention, AAttn):
        return cells**2 / attention.area
    return cells**2 if isinstance(attention, Attention) else 0


def _own_parameters(modules: Mapping[str, nn.Module], unknown: Mapping[str, object]) -> Iterator[Layer]:
    """What holds parameters and is neither a convolution nor its BatchNorm, as an activation may."""
    norms = {id(norm_of(modules, name)) for name, module in modules.items() if isinstance(module, Convolution)}
    for name, module in modules.items():
        if isinstance(module, RealNVP):
            params = sum(parameter.numel() for parameter in module.parameters())
            yield _fixed_layer(name, module, 1, Fixed(params=params), HEAD_OUTPUTS)
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if own and not isinstance(module, Weighted) and id(module) not in norms and name not in unknown:
            yield _fixed_layer(name, module, 1, Fixed(params=own, params_deployed=own), None)


def _fixed_layer(name: str, module: nn.Module, channels: int, fixed: Fixed, reason: str | None) -> Layer:
    return Layer(
        name=name,
        shown_as=name,
        type=type(module).__name__,
        channels_in=channels,
        channels_out=channels,
        locked=reason,
        fixed=fixed,
    )


def _counted_costs(model: DetectionModel, names: tuple[str, ...], imgsz: ImageSize) -> dict[str, Fixed]:
    """Counted costs of blocks and layers that are left as they are, on both graphs."""
    trained = copy.deepcopy(model).eval()
    deployed = copy.deepcopy(trained)
    head = deployed.model[-1]
    if getattr(head, "one2one_cv2", None) is not None:
        head.end2end = True
    deployed.fuse(verbose=False)
    counts = [_count(graph, names, imgsz) for graph in (trained, deployed)]
    return {
        name: Fixed(
            flops=counts[0][name][0],
            params=counts[0][name][1],
            flops_deployed=counts[1][name][0],
            params_deployed=counts[1][name][1],
        )
        for name in names
    }


@torch.no_grad()
def _count(graph: DetectionModel, names: tuple[str, ...], imgsz: ImageSize) -> dict[str, tuple[int, int]]:
    """Operations and parameters of some modules; none of those that `fuse()` took away."""
    counter = FlopCounterMode(display=False)
    flops = dict.fromkeys(names, 0)
    present = {name: module for name, module in graph.named_modules() if name in names}
    for name, module in present.items():
        module.register_forward_pre_hook(lambda *_, at=name: flops.update({at: flops[at] - counter.get_total_flops()}))
        module.register_forward_hook(lambda *_, at=name: flops.update({at: flops[at] + counter.get_total_flops()}))
    with counter:
        run_on(graph, blank_image(graph, imgsz))
    params = {name: sum(each.numel() for each in module.parameters()) for name, module in present.items()}
    return {name: (flops[name], params.get(name, 0)) for name in names}


def _undeployed_prefixes(modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """What `fuse()` removes: of an end-to-end model the one-to-many head, and branches that fold into others."""
    gone = []
    for name, module in modules.items():
        if isinstance(module, Detect) and getattr(module, "one2one_cv2", None) is not None:
            gone += [
                f"{name}.{part.removeprefix('one2one_')}." for part, _ in module.named_children() if "one2one" in part
            ]
        elif isinstance(module, RepConv):
            gone.append(f"{name}.conv2.")
        elif isinstance(module, RepVGGDW):
            gone.append(f"{name}.conv1.")
    return tuple(gone)


def _decoded_cells(modules: Mapping[str, nn.Module], name: str, sizes: Mapping[str, int]) -> int:
    """Positions that the DFL convolution decodes: four box sides at each anchor of each feature map."""
    dfl_path = name.removesuffix(".conv")
    head_path = dfl_path.rpartition(".")[0]
    head, dfl = modules[head_path], modules[dfl_path]
    if not isinstance(head, Detect) or not isinstance(dfl, DFL):
        raise AssertionError(f"{name} is not the decoding of a detection head")
    return 4 * sum(sizes[f"{head_path}.cv2.{level}.{len(branch) - 1}"] for level, branch in enumerate(head.cv2))
