"""Parameters and GFLOPs of a detector under any channel plan, by arithmetic.

A convolution costs 2 x k x k x H x W x channels in x channels out operations (a depthwise one has a single channel in),
so the cost of a whole plan follows from channel counts alone, in microseconds. `compression.graph.costs` counts once
what that takes; here no torch is needed, so that a page computes with what was stored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.record import Costs, LayerRow, RecordError

Numbers = NDArray[np.float64]

GIGA = 1e9
OPERATIONS_PER_MAC = 2
# Raised when stored sheets mean something else than those of today; they are then made anew.
SHEET_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Costs that no plan changes, on both graphs; operations, not GFLOPs."""

    flops: int = 0
    params: int = 0
    flops_deployed: int = 0
    params_deployed: int = 0


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What the cost of one convolution (with its BatchNorm) depends on, besides its channel counts.

    A block that is not known is one layer too, and so is what holds parameters of its own; these have fixed costs only.

    Attributes:
        name: the convolution's path in the model.
        shown_as: path of the block it stands in ("model.0" for "model.0.conv").
        type: class of that block.
        channels_in: at level 0.
        channels_out: at level 0.
        depthwise: each output channel reads one input channel.
        taps: kernel height x width.
        cells: output height x width at the run's image size.
        params_per_channel: BatchNorm and bias of the training graph, an output channel.
        folded: it has none of these, but a BatchNorm that has no scale, or that counts elsewhere, leaves it a bias when
            deployed.
        attended: pairs of positions in the attention that this layer's output feeds; 0 elsewhere.
        value_channels: of that attention.
        deployed: part of the deployed graph.
        trained: part of the training graph.
        locked: why all its output channels must stay; None where some may go.
        fixed: what it costs besides, whatever the plan.
    """

    name: str
    shown_as: str
    type: str
    channels_in: int
    channels_out: int
    depthwise: bool = False
    taps: int = 0
    cells: int = 0
    params_per_channel: int = 0
    folded: bool = False
    attended: float = 0
    value_channels: int = 0
    deployed: bool = True
    trained: bool = True
    locked: str | None = None
    fixed: Fixed = Fixed()


@dataclass(frozen=True, kw_only=True)
class CoupledChannels:
    """Channels that can only be removed together, as far as costs depend on them.

    Attributes:
        width: number of channels at level 0.
        locked: why they must stay; None where they may go.
        read: layers that read them, by index, each with how often it reads every channel.
        given: layers that give them, likewise.
    """

    width: int
    locked: str | None
    read: tuple[tuple[int, float], ...]
    given: tuple[tuple[int, float], ...]


class CostSheet:
    """Costs as a function of how many channels each group keeps.

    Args:
        layers: in forward order.
        groups: the coupled channels.
        ties: indices of the groups that must keep equally many channels, each group in one of them.
    """

    def __init__(
        self, layers: tuple[Layer, ...], groups: tuple[CoupledChannels, ...], ties: Sequence[tuple[int, ...]]
    ) -> None:
        self.layers, self.groups = layers, groups
        self.ties = tuple(ties)
        shape = (len(layers), len(groups))
        # Channels of a layer = fixed + matrix @ channels kept: how often a group's channels occur on that side.
        self._in, self.given_by = np.zeros(shape), np.zeros(shape)
        for column, group in enumerate(groups):
            for matrix, side in ((self._in, group.read), (self.given_by, group.given)):
                for layer, times in side:
                    matrix[layer, column] = times
        widths = np.array([group.width for group in groups], dtype=np.float64)
        self.widths = widths
        self._fixed_in = np.array([layer.channels_in for layer in layers]) - self._in @ widths
        self._fixed_out = np.array([layer.channels_out for layer in layers]) - self.given_by @ widths
        self._depthwise = np.array([layer.depthwise for layer in layers])
        self._taps = np.array([layer.taps for layer in layers], dtype=np.float64)
        self._cells = np.array([layer.cells for layer in layers], dtype=np.float64)
        self._extra = np.array([layer.params_per_channel for layer in layers], dtype=np.float64)
        self._biased = (self._extra > 0) | np.array([layer.folded for layer in layers], dtype=bool)
        self._attended = np.array([layer.attended for layer in layers], dtype=np.float64)
        self._values = np.array([layer.value_channels for layer in layers], dtype=np.float64)
        self._deployed = np.array([layer.deployed for layer in layers])
        self._trained = np.array([layer.trained for layer in layers])
        self._fixed = {name: np.array([getattr(layer.fixed, name) for layer in layers]) for name in _FIXED_COSTS}

    def to_dict(self) -> dict[str, Any]:
        """The sheet as plain data, versioned."""
        return {
            "version": SHEET_VERSION,
            "layers": [asdict(layer) for layer in self.layers],
            "groups": [asdict(group) for group in self.groups],
            "ties": self.ties,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CostSheet:
        """The inverse of `to_dict`, also after a trip through JSON.

        Raises:
            RecordError: the data are of another version, or a field is unknown or missing.
        """
        if values.get("version") != SHEET_VERSION:
            raise RecordError(f"A stored cost sheet has version {values.get('version')!r}, not {SHEET_VERSION}.")
        try:
            return CostSheet(
                tuple(Layer(**{**each, "fixed": Fixed(**each["fixed"])}) for each in values["layers"]),
                tuple(_read_group(each) for each in values["groups"]),
                tuple(tuple(tie) for tie in values["ties"]),
            )
        except (TypeError, KeyError, ValueError, IndexError) as error:
            raise RecordError(f"A stored cost sheet cannot be read: {error}.") from error

    def channels(self, kept: Numbers) -> tuple[Numbers, Numbers]:
        """Input and output channels of each layer.

        Args:
            kept: channels that each group keeps, [groups] or [groups, plans].

        Returns:
            Two arrays [layers] or [layers, plans].
        """
        trailing = (1,) * (kept.ndim - 1)
        given = self._fixed_out.reshape(-1, *trailing) + self.given_by @ kept
        taken = self._fixed_in.reshape(-1, *trailing) + self._in @ kept
        return taken, given

    def training_costs(self, kept: Numbers) -> tuple[Numbers, Numbers]:
        """GFLOPs and parameters of the training graph of one plan or of many.

        Args:
            kept: channels that each group keeps, [groups] or [groups, plans].

        Returns:
            GFLOPs and parameters, each [] or [plans].
        """
        taken, given = self.channels(kept)
        column = (-1,) + (1,) * (kept.ndim - 1)
        weights = self._weights(taken, given, column)
        flops = self._flops(weights, given, column) * self._trained.reshape(column)
        params = weights + self._extra.reshape(column) * given
        return (
            (flops.sum(axis=0) + self._fixed["flops"].sum()) / GIGA,
            params.sum(axis=0) + self._fixed["params"].sum(),
        )

    def costs(self, kept: Numbers) -> Costs:
        """All four costs of one plan.

        Args:
            kept: channels that each group keeps, [groups].
        """
        gflops, params = self.training_costs(kept)
        taken, given = self.channels(kept)
        weights = self._weights(taken, given, (-1,))
        # A folded BatchNorm leaves one bias a channel; a convolution without BatchNorm has its bias already.
        biases = np.where(self._biased, given, 0.0)
        return Costs(
            gflops=float(gflops),
            params=round(float(params)),
            gflops_deployed=float(
                ((self._flops(weights, given, (-1,)) + self._fixed["flops_deployed"]) * self._deployed).sum() / GIGA
            ),
            params_deployed=round(float(((weights + biases + self._fixed["params_deployed"]) * self._deployed).sum())),
        )

    def rows(self, kept: Numbers) -> tuple[LayerRow, ...]:
        """One row a layer of the training graph, before and after; their sums are the totals."""
        before, after = self._per_layer(self.widths), self._per_layer(kept)
        return tuple(
            LayerRow(
                name=layer.shown_as,
                type=layer.type,
                channels_before=layer.channels_out,
                channels_after=round(float(after[0][i])),
                gflops_before=float(before[1][i]),
                gflops_after=float(after[1][i]),
                params_before=round(float(before[2][i])),
                params_after=round(float(after[2][i])),
                locked=layer.locked,
            )
            for i, layer in enumerate(self.layers)
        )

    def _per_layer(self, kept: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        taken, given = self.channels(kept)
        weights = self._weights(taken, given, (-1,))
        flops = self._flops(weights, given, (-1,)) * self._trained + self._fixed["flops"]
        return given, flops / GIGA, weights + self._extra * given + self._fixed["params"]

    def _weights(self, taken: Numbers, given: Numbers, column: tuple[int, ...]) -> Numbers:
        read = np.where(self._depthwise.reshape(column), 1.0, taken)
        return self._taps.reshape(column) * read * given

    def _flops(self, weights: Numbers, given: Numbers, column: tuple[int, ...]) -> Numbers:
        # Attention multiplies queries by keys and values by the result; half of what is not value is queries.
        products = (given - self._values.reshape(column)) / 2 + self._values.reshape(column)
        macs = self._cells.reshape(column) * weights + self._attended.reshape(column) * products
        return OPERATIONS_PER_MAC * macs


_FIXED_COSTS = tuple(Fixed.__dataclass_fields__)


def parse_sheet(text: str) -> CostSheet:
    """The cost sheet that a JSON text holds.

    Raises:
        RecordError: the text is not JSON, or no cost sheet that this program understands.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"Stored data are not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise RecordError(f"Stored data are a {type(values).__name__} where a cost sheet is expected.")
    return CostSheet.from_dict(values)


def _read_group(values: dict[str, Any]) -> CoupledChannels:
    sides = {name: tuple((int(layer), float(times)) for layer, times in values[name]) for name in ("read", "given")}
    return CoupledChannels(**{**values, **sides})
