"""Which layers were cut: the data of the heatmap, drawn by `pages.parts.plots`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cache.record import LayerRow
from pages.parts import formats


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """Levels (rows) by layers (columns).

    Attributes:
        levels: one a row, rising.
        layers: module paths in forward order, one a column.
        removed_pct: [levels][layers], part of the output channels removed, percent; None where unknown.
        hover: [levels][layers], everything about the cell; lines separated by <br>.
        blocks: first column and number of blocks of the model, as many as an axis has room for.
    """

    levels: tuple[int, ...]
    layers: tuple[str, ...]
    removed_pct: tuple[tuple[float | None, ...], ...]
    hover: tuple[tuple[str, ...], ...]
    blocks: tuple[tuple[int, str], ...]

    @property
    def ceiling_pct(self) -> float:
        """The end of the colour scale, the same for all levels: the deepest cut, rounded up to a full ten percent."""
        deepest = max((value for row in self.removed_pct for value in row if value is not None), default=0.0)
        return max(10.0, 10.0 * math.ceil(deepest / 10))


def heatmap(layers_of: Mapping[int, tuple[LayerRow, ...]]) -> Heatmap:
    """Arrange the layers of each level; a level without layers gives an empty row.

    Args:
        layers_of: level -> one row a layer; the levels of one model, so that their layers are the same.
    """
    names = max(([row.name for row in rows] for rows in layers_of.values()), key=len, default=[])
    removed, hover = [], []
    for level, rows in sorted(layers_of.items()):
        by_name = {row.name: row for row in rows}
        cells = [by_name.get(name) for name in names]
        removed.append(tuple(None if cell is None else round(100 * cell.sparsity, 1) for cell in cells))
        hover.append(tuple("" if cell is None else _hover(level, cell) for cell in cells))
    return Heatmap(
        levels=tuple(sorted(layers_of)),
        layers=tuple(names),
        removed_pct=tuple(removed),
        hover=tuple(hover),
        blocks=_blocks(names),
    )


def _hover(level: int, row: LayerRow) -> str:
    change = formats.change(row.channels_before, row.channels_after)
    kept = [] if row.locked is None else [f"all channels stay: {row.locked}"]
    return "<br>".join(
        (
            f"<b>{row.name}</b> ({row.type}), level {level}",
            f"channels {row.channels_before} → {row.channels_after} ({change})",
            f"GFLOPs {row.gflops_before:.4f} → {row.gflops_after:.4f}",
            f"parameters {row.params_before:,} → {row.params_after:,}",
            *kept,
        )
    )


def _blocks(names: list[str]) -> tuple[tuple[int, str], ...]:
    """The first column of each "model.N"; a block too close to the last one named goes without a name."""
    apart = max(1, len(names) // 40)
    blocks: list[tuple[int, str]] = []
    last = ""
    for column, name in enumerate(names):
        parts = name.split(".")
        block = parts[1] if parts[0] == "model" and len(parts) > 1 else parts[0]
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
