"""Which layers were cut, and what cutting each of them alone costs: the data of the heatmap, see `heatmap_plot`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cache.record import LayerRow
from cache.sensitivity import SensitivityRecord
from compression.models.tasks import TASKS
from pages.parts import formats

Shown = Literal["channels", "gflops", "params"]
SHOWN_LABELS: dict[Shown, str] = {
    "channels": "Channels removed",
    "gflops": "GFLOPs saved",
    "params": "Parameters saved",
}

# An axis has room for so many names of blocks.
MOST_BLOCKS = 40
# The steps in which a colour scale of costs grows, times powers of ten.
_NICE = (1, 2, 5, 10)
# A scale ends where so many of the layers lie below it, since a few would leave no colour to the others: those that
# ruin the model, and those that save most.
SENSITIVITY_QUANTILE, COST_QUANTILE = 0.8, 0.95


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the model: backbone, neck or head.

    Attributes:
        name: of the part.
        first: its first column.
        last: its last column.
    """

    name: str
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """Levels (rows) by layers (columns).

    Attributes:
        shown: what the values are.
        levels: one a row, rising.
        layers: module paths in forward order, one a column.
        values: [levels][layers], percent of the layer's output channels removed, or of the model's GFLOPs or parameters
            saved by this layer; None where unknown.
        channels: [layers], output channels of the original.
        kept: [levels][layers], output channels that are left; None where unknown.
        stays: [layers], whether all channels must stay.
        blocks: first column and number of blocks of the model, as many as an axis has room for.
        regions: backbone, neck and head; none where the model's yaml is unknown.
    """

    shown: Shown
    levels: tuple[int, ...]
    layers: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    channels: tuple[int, ...]
    kept: tuple[tuple[int | None, ...], ...]
    stays: tuple[bool, ...]
    blocks: tuple[tuple[int, str], ...]
    regions: tuple[Region, ...]

    @property
    def ceiling_pct(self) -> float:
        """The end of the colour scale, the same for all levels.

        Of channels the deepest cut, rounded up to a full ten percent; of costs what most layers stay below, rounded up
        to 1, 2 or 5 times a power of ten; what saves more is drawn like it.
        """
        known = [value for row in self.values for value in row if value is not None]
        if self.shown == "channels":
            return full_ten(max(known, default=0.0))
        return nice_ceiling(_quantile(known, COST_QUANTILE))


@dataclass(frozen=True, kw_only=True)
class Sensitivities:
    """The thin row beside the heatmap.

    Attributes:
        lost: [layers], points of the main accuracy lost when only that layer is cut; None where nothing can be cut, or
            where it was not measured.
        told: [layers], the same in words.
        accuracy: what the main accuracy of the model's task is called; "" where nothing was measured.
        is_measured: whether anything was measured.
    """

    lost: tuple[float | None, ...]
    told: tuple[str, ...]
    accuracy: str
    is_measured: bool

    @property
    def ceiling(self) -> float:
        """The end of the colour scale, points; what costs more is drawn like it."""
        return nice_ceiling(_quantile([value for value in self.lost if value is not None], SENSITIVITY_QUANTILE))


def full_ten(deepest_pct: float) -> float:
    """The end of a scale of removed channels: the deepest cut, rounded up to a full ten percent."""
    return max(10.0, 10.0 * math.ceil(deepest_pct / 10))


def _quantile(values: Iterable[float], part: float) -> float:
    """What that part of the values above 0 do not exceed; 0 where there is none."""
    known = sorted(value for value in values if value > 0)
    return known[math.ceil(part * (len(known) - 1))] if known else 0.0


def heatmap(
    layers_of: Mapping[int, tuple[LayerRow, ...]],
    shown: Shown = "channels",
    n_blocks: tuple[int, int] | None = None,
) -> Heatmap:
    """Arrange the layers of each level; a level without layers gives an empty row.

    Args:
        layers_of: level -> one row a layer; the levels of one model, so that their layers are the same.
        shown: what the cells tell.
        n_blocks: of the backbone and of the whole model; None where its yaml is unknown.
    """
    rows = max(layers_of.values(), key=len, default=())
    names = [row.name for row in rows]
    totals = {"gflops": sum(row.gflops_before for row in rows), "params": sum(row.params_before for row in rows)}
    values, kept = [], []
    for _, of_level in sorted(layers_of.items()):
        by_name = {row.name: row for row in of_level}
        cells = [by_name.get(name) for name in names]
        values.append(tuple(None if cell is None else _value(cell, shown, totals) for cell in cells))
        kept.append(tuple(None if cell is None else cell.channels_after for cell in cells))
    return Heatmap(
        shown=shown,
        levels=tuple(sorted(layers_of)),
        layers=tuple(names),
        values=tuple(values),
        channels=tuple(row.channels_before for row in rows),
        kept=tuple(kept),
        stays=tuple(row.locked is not None for row in rows),
        blocks=_blocks(names),
        regions=_regions(names, n_blocks) if n_blocks else (),
    )


def _value(row: LayerRow, shown: Shown, totals: Mapping[str, float]) -> float:
    if shown == "channels":
        return round(100 * row.sparsity, 1)
    return round(saved_pct(row, shown, totals[shown]), 3)


def saved_pct(row: LayerRow, cost: Literal["gflops", "params"], total: float) -> float:
    """What a layer saves of a cost, percent of the whole model's `total`."""
    before, after = getattr(row, f"{cost}_before"), getattr(row, f"{cost}_after")
    return 100 * (before - after) / total if total else 0.0


def nice_ceiling(value: float) -> float:
    """The least of 1, 2 or 5 times a power of ten that is not below a value; 0.1 at least."""
    if value <= 0.1:
        return 0.1
    power: float = 10.0 ** math.floor(math.log10(value))
    return float(f"{next(step for step in _NICE if step * power >= value * (1 - 1e-9)) * power:g}")


def sensitivities(data: Heatmap, record: SensitivityRecord | None) -> Sensitivities:
    """What cutting each layer of a heatmap alone costs; of a layer of several groups, the dearest."""
    lost: list[float | None] = []
    told = []
    accuracy = TASKS[record.task].main if record else ""
    for name in data.layers:
        groups = record.groups_of(name) if record else ()
        points = record.lost(groups[0]) if record and groups else None
        lost.append(None if points is None else round(points, 2))
        if points is not None and not groups[0].predicts:
            told.append("only trains the model, so nothing is lost without it")
        elif points is not None:
            told.append(f"{points:.1f} points of {accuracy} lost when only it is cut")
        elif groups:
            told.append(f"all channels stay: {groups[0].locked}")
        else:
            told.append(f"sensitivity {formats.NOT_MEASURED}")
    return Sensitivities(lost=tuple(lost), told=tuple(told), accuracy=accuracy, is_measured=record is not None)


def block_of(name: str) -> str:
    """The block of the model that a layer stands in: "4" of "model.4.cv1"."""
    parts = name.split(".")
    return parts[1] if parts[0] == "model" and len(parts) > 1 else parts[0]


def region_of(name: str, n_blocks: tuple[int, int] | None) -> str:
    """Backbone, neck or head; "" where that is unknown."""
    block = block_of(name)
    if n_blocks is None or not block.isdecimal():
        return ""
    n_backbone, n_all = n_blocks
    return "backbone" if int(block) < n_backbone else "head" if int(block) == n_all - 1 else "neck"


def _regions(names: Sequence[str], n_blocks: tuple[int, int]) -> tuple[Region, ...]:
    found: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        found.setdefault(region_of(name, n_blocks), []).append(column)
    return tuple(Region(name=name, first=columns[0], last=columns[-1]) for name, columns in found.items() if name)


def _blocks(names: list[str]) -> tuple[tuple[int, str], ...]:
    """The first column of each "model.N"; a block too close to the last one named goes without a name."""
    apart = max(1, len(names) // MOST_BLOCKS)
    blocks: list[tuple[int, str]] = []
    last = ""
    for column, name in enumerate(names):
        block = block_of(name)
        if block != last and (not blocks or column - blocks[-1][0] >= apart):
            blocks.append((column, block))
        last = block
    return tuple(blocks)


def most_cut(rows: tuple[LayerRow, ...]) -> str | None:
    """One sentence on the layer that lost most; None if no channel was removed."""
    deepest = max(rows, key=lambda row: row.sparsity, default=None)
    if deepest is None or deepest.sparsity == 0:
        return None
    cut = sum(row.channels_after < row.channels_before for row in rows)
    return (
        f"{cut} of {len(rows)} layers are narrower; {deepest.name} most, "
        f"{deepest.channels_before} → {deepest.channels_after} channels ({formats.change(1, 1 - deepest.sparsity)})."
    )
