"""Which layers of a model keep equally many channels, and what wishes about single layers mean for all of them.

Groups of channels that must keep equal counts are one unit: what is removed of one is removed of all. Nothing here
needs torch, so that a page changes a plan as the planner would.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cache.record import LayerRow
from compression.errors import SpecError
from compression.graph.cost_sheet import CostSheet, Numbers
from compression.spec import DEFAULT_ALIGN
from compression.wishes import ALL, Wish, settled

# No group keeps less than this part of its channels, whatever the target.
MIN_GROUP_KEPT = 0.125

# Channels are removed in steps of a power of two, of at most `align` channels and at most this part of the group: odd
# counts can run slower than the wider layer that they replace, and eights alone are coarse on narrow layers. Kernels
# that work on blocks of 16 or more gain nothing from a finer step, so there it may be half of the group.
STEP_PART = 8
BLOCK_STEP_PART = 2
SMALLEST_BLOCK = 16

# So many layers of a like name are offered in place of one that does not exist.
OFFERED = 3
AS_WISHED = "locked as wished"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A layer whose channels may go.

    Attributes:
        layer: as the heatmap shows it.
        counts: how many channels it can keep, in the steps that a cut is rounded to, ascending; the last is all.
        coupled: the other layers that keep equally much, in forward order.
    """

    layer: str
    counts: tuple[int, ...]
    coupled: tuple[str, ...]


class LayerGroups:
    """The units of a model, and wishes about its layers.

    Args:
        sheet: which channels each layer gives.
        align: channels are removed in steps of up to so many, a power of two.

    Attributes:
        units: for each of them the indices of its groups.
        widths: channels of each unit's groups, [units].
        steps: in which they are removed, [units].
        floors: channels that must stay, [units].
    """

    def __init__(self, sheet: CostSheet, align: int = DEFAULT_ALIGN) -> None:
        self.sheet = sheet
        self.units = [tie for tie in sheet.ties if sheet.groups[tie[0]].locked is None]
        self.widths = np.array([sheet.groups[unit[0]].width for unit in self.units], dtype=np.float64)
        self._spread = np.zeros((len(sheet.groups), len(self.units)))
        for column, unit in enumerate(self.units):
            self._spread[list(unit), column] = 1
        self._fixed = sheet.widths - self._spread @ self.widths
        self.steps = channel_steps(self.widths, align)
        self.floors = np.clip(np.ceil(self.widths * MIN_GROUP_KEPT), 1, self.widths)
        # How often a unit's channels occur among the outputs of a layer, [layers, units].
        self._gives = sheet.given_by @ self._spread
        self._index = {layer.shown_as: index for index, layer in enumerate(sheet.layers)}

    def per_group(self, counts: Numbers) -> Numbers:
        """Channels that each group keeps.

        Args:
            counts: of each unit, [units] or [units, plans].
        """
        return self._fixed.reshape(-1, *(1,) * (counts.ndim - 1)) + self._spread @ counts

    def counts_of(self, channels: Mapping[str, float]) -> Numbers:
        """What each unit keeps of a plan or result, [units].

        Args:
            channels: that the layers give, by name; of all layers.
        """
        given = np.array([channels[layer.shown_as] for layer in self.sheet.layers])
        whole = np.array([layer.channels_out for layer in self.sheet.layers])
        gone = np.linalg.lstsq(self._gives, whole - given, rcond=None)[0]
        return np.asarray(self.widths - np.round(gone), dtype=np.float64)

    def choices(self) -> tuple[Choice, ...]:
        """The layers whose channels may go, in forward order."""
        names = [layer.shown_as for layer, gives in zip(self.sheet.layers, self._gives, strict=True) if gives.any()]
        return tuple(Choice(layer=name, counts=self._possible(name), coupled=self.coupled(name)) for name in names)

    def coupled(self, layer: str) -> tuple[str, ...]:
        """The other layers of which a wish about this one holds too, in forward order.

        Raises:
            SpecError: there is no such layer.
        """
        shares = self._gives @ (self._gives[self._place(layer)] > 0) > 0
        names = (other.shown_as for other, shared in zip(self.sheet.layers, shares, strict=True) if shared)
        return tuple(name for name in names if name != layer)

    def kept_of(self, layer: str, counts: Numbers) -> int:
        """Channels that a layer gives.

        Args:
            layer: its name.
            counts: of each unit, [units].
        """
        place = self._place(layer)
        return round(self.sheet.layers[place].channels_out - float(self._gives[place] @ (self.widths - counts)))

    def _possible(self, layer: str) -> tuple[int, ...]:
        """From the floor to all channels, each step once; several units of a layer take as many steps each."""
        place = self._place(layer)
        units = np.flatnonzero(self._gives[place])
        steps, most = self.steps[units], self._cuttable()[units]
        gone = np.minimum(np.outer(np.arange((most / steps).max() + 1), steps), most) @ self._gives[place, units]
        return tuple(sorted({self.sheet.layers[place].channels_out - round(each) for each in gone.tolist()}))

    def _cuttable(self) -> Numbers:
        """The most channels that can go in whole steps, [units]."""
        return np.asarray(self.steps * np.floor((self.widths - self.floors) / self.steps), dtype=np.float64)

    def pins(self, wishes: Iterable[Wish]) -> dict[int, int]:
        """What the wishes mean: how many channels units keep, by index; a part is rounded to whole steps.

        A layer that gives the channels of several units keeps equal parts of those of which nothing else is wished.

        Raises:
            SpecError: a layer is unknown or cannot keep so many or so few, or wishes about coupled layers contradict
                each other.
        """
        pins: dict[int, int] = {}
        by: dict[int, Wish] = {}
        for wish in sorted(wishes, key=lambda wish: np.count_nonzero(self._gives[self._place(wish.layer)])):
            for unit, count in self._meaning(wish, pins).items():
                if pins.setdefault(unit, count) != count:
                    raise SpecError(
                        f"{by[unit].layer} and {wish.layer} are coupled and keep equally much, so {by[unit].amount} "
                        f"and {wish.amount} contradict each other; ask for one of both."
                    )
                by.setdefault(unit, wish)
        return pins

    def pinned(self, counts: Numbers, wishes: Iterable[Wish]) -> Numbers:
        """A plan with wishes in it, [units].

        Args:
            counts: what units keep where nothing is wished of them, [units].
            wishes: about layers.

        Raises:
            SpecError: see `pins`.
        """
        changed = counts.copy()
        for unit, count in self.pins(wishes).items():
            changed[unit] = count
        return changed

    def as_wishes(self, counts: Numbers) -> tuple[Wish, ...]:
        """A whole plan as wishes about layers: one for each unit that is cut, and what it takes to tell these apart.

        Args:
            counts: what units keep, [units].
        """
        wanted = {int(unit): self._told_by(int(unit)) for unit in np.flatnonzero(counts < self.widths)}
        for place in list(wanted.values()):
            # A layer that gives channels of other units too tells of one only where the others are told by themselves.
            for unit in np.flatnonzero(self._gives[place]):
                wanted.setdefault(int(unit), self._told_by(int(unit)))
        names = (self.sheet.layers[place].shown_as for place in dict.fromkeys(wanted.values()))
        kept = {name: (self.kept_of(name, counts), self.kept_of(name, self.widths)) for name in names}
        return settled(Wish(layer=name, kept=_as_kept(now, whole)) for name, (now, whole) in kept.items())

    def _told_by(self, unit: int) -> int:
        """The first layer that gives a unit's channels, if possible one that gives no others."""
        giving = np.flatnonzero(self._gives[:, unit])
        return int(min(giving, key=lambda place: np.count_nonzero(self._gives[place])))

    def marked(self, rows: Sequence[LayerRow], wishes: Iterable[Wish]) -> tuple[LayerRow, ...]:
        """Rows of the sheet's layers, with those told that keep all channels because it is wished."""
        locked = [unit for unit, count in self.pins(wishes).items() if count == self.widths[unit]]
        others = np.delete(self._gives, locked, axis=1).any(axis=1)
        stays = np.flatnonzero(self._gives[:, locked].any(axis=1) & ~others)
        return tuple(
            replace(row, locked=AS_WISHED) if place in stays and row.locked is None else row
            for place, row in enumerate(rows)
        )

    def _place(self, layer: str) -> int:
        if layer in self._index:
            return self._index[layer]
        near = difflib.get_close_matches(layer, self._index, n=OFFERED)
        offered = f"there is {' or '.join(near)}" if near else "`trimboard plan --json` lists all layers"
        raise SpecError(f"This model has no layer {layer!r}; {offered}.")

    def _meaning(self, wish: Wish, pins: Mapping[int, int]) -> dict[int, int]:
        """Channels that each unit of a layer keeps by a wish.

        Args:
            wish: about the layer.
            pins: what units keep by other wishes already.
        """
        place = self._place(wish.layer)
        layer, gives = self.sheet.layers[place], self._gives[place]
        units = [int(unit) for unit in np.flatnonzero(gives)]
        if wish.locks:
            return {unit: int(self.widths[unit]) for unit in units}
        if not units:
            reason = f" ({layer.locked})" if layer.locked else ""
            raise SpecError(f"{wish.layer} keeps all of its channels{reason}; leave it out of --layer.")
        told = [unit for unit in units if unit in pins] if len(units) > 1 else []
        free = [unit for unit in units if unit not in told] or units
        rest = layer.channels_out - sum(gives[unit] * self.widths[unit] for unit in units)
        rest += sum(gives[unit] * pins[unit] for unit in told if unit not in free)
        asked = wish.kept * (layer.channels_out if wish.kept < ALL else 1)
        least, most = (rest + sum(gives[unit] * side[unit] for unit in free) for side in (self.floors, self.widths))
        # An eighth of a layer need not be a whole number of channels.
        if not least - 1 < asked <= most:
            raise SpecError(
                f"{wish.layer} cannot keep {wish.amount}; of its {layer.channels_out} channels it keeps {least:.0f} to "
                f"{most:.0f}."
            )
        counts = self.widths * (asked - rest) / (most - rest)
        if wish.kept < ALL:
            gone = self.steps * np.round((self.widths - counts) / self.steps)
            counts = self.widths - np.minimum(gone, self._cuttable())
        counts = np.clip(np.round(counts), self.floors, self.widths)
        self._check_exact(wish, rest + sum(gives[unit] * counts[unit] for unit in free))
        return {unit: int(counts[unit]) for unit in free}

    @staticmethod
    def _check_exact(wish: Wish, possible: float) -> None:
        """A number of channels is not rounded in silence, as a part of them is."""
        if wish.kept > ALL and round(possible) != wish.kept:
            raise SpecError(
                f"{wish.layer} cannot keep exactly {wish.amount}, because channels that run with them go in steps; "
                f"the nearest that it can keep is {possible:.0f}."
            )


def _as_kept(now: int, whole: int) -> float:
    """What a wish says for so many channels; a single one would read as the whole layer."""
    if now == whole:
        return ALL
    return now if now > 1 else now / whole


def channel_steps(widths: Numbers, align: int) -> Numbers:
    """The steps in which channels are removed, [units].

    Args:
        widths: channels of each unit, [units].
        align: the largest step.
    """
    if align < SMALLEST_BLOCK:
        return np.minimum(align, 2.0 ** np.floor(np.log2(np.maximum(widths / STEP_PART, 1))))
    whole = widths.astype(np.int64)
    # What is left is a multiple of the step as well: it divides the width.
    divides = (whole & -whole).astype(np.float64)
    return np.minimum(np.minimum(align, divides), 2.0 ** np.floor(np.log2(np.maximum(widths / BLOCK_STEP_PART, 1))))
