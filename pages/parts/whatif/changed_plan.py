"""A plan with layers changed by hand: its costs, its layers and what a run has to be asked for, without a planner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from cache.groups import basis_of
from cache.record import Costs, LayerRow, Metrics, RunRecord
from cache.series import Series
from compression.graph.cost_sheet import Numbers
from compression.graph.layer_groups import LayerGroups
from compression.request import RunRequest
from compression.wishes import Wish, settled
from pages.parts import formats
from pages.parts.layers.heatmap import full_ten

# So many coupled layers are named; the rest is counted.
NAMED = 3


@dataclass(frozen=True, kw_only=True)
class ChangedLayer:
    """One wish as the page lists it.

    Attributes:
        wish: about the layer.
        kept: output channels that it keeps by it.
        before: that it keeps in the plan that was changed.
        whole: that it has.
        coupled: the other layers that keep equally much.
    """

    wish: Wish
    kept: int
    before: int
    whole: int
    coupled: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ChangedPlan:
    """What comes of the wishes.

    Attributes:
        wished: one line a wish.
        costs: of the changed plan.
        rows: its layers.
        layers: the whole plan as wishes, which a run is asked for; empty where nothing is cut.
    """

    wished: tuple[ChangedLayer, ...]
    costs: Costs
    rows: tuple[LayerRow, ...]
    layers: tuple[Wish, ...]


def counts_of_rows(groups: LayerGroups, rows: Sequence[LayerRow]) -> Numbers | None:
    """What units keep in a measured or planned level; None where its layers are not those of the sheet."""
    channels = {row.name: row.channels_after for row in rows}
    whole = {row.name: row.channels_before for row in rows}
    if whole != {layer.shown_as: layer.channels_out for layer in groups.sheet.layers}:
        return None
    return groups.counts_of(channels)


def changed_plan(groups: LayerGroups, start: Numbers, wishes: Sequence[Wish]) -> ChangedPlan:
    """Change a plan.

    Args:
        groups: the model's.
        start: what units keep before, [units].
        wishes: about layers.

    Raises:
        SpecError: a layer is unknown or cannot keep that, or wishes about coupled layers contradict each other.
    """
    counts = groups.pinned(start, wishes)
    layers = groups.as_wishes(counts)
    kept = groups.per_group(counts)
    return ChangedPlan(
        wished=tuple(
            ChangedLayer(
                wish=wish,
                kept=groups.kept_of(wish.layer, counts),
                before=groups.kept_of(wish.layer, start),
                whole=groups.kept_of(wish.layer, groups.widths),
                coupled=groups.coupled(wish.layer),
            )
            for wish in wishes
        ),
        costs=groups.sheet.costs(kept),
        rows=groups.marked(groups.sheet.rows(kept), wishes),
        layers=layers,
    )


def with_wish(groups: LayerGroups, wishes: Sequence[Wish], wish: Wish) -> tuple[Wish, ...]:
    """The wishes with another one, which takes the place of those about the same layer and those coupled with it."""
    replaced = {wish.layer, *groups.coupled(wish.layer)}
    return settled([*(one for one in wishes if one.layer not in replaced), wish])


def totals(original: Costs, start: Costs | None, changed: Costs, start_name: str) -> pd.DataFrame:
    """Costs side by side, as text.

    Args:
        original: of level 0.
        start: of the plan that was changed; None where that is level 0.
        changed: of the changed plan.
        start_name: what the start is called.
    """
    rows = []
    for label, name, write in (
        ("GFLOPs", "gflops", formats.gflops),
        ("Parameters", "params", formats.params),
        ("GFLOPs, deployed", "gflops_deployed", formats.gflops),
        ("Parameters, deployed", "params_deployed", formats.params),
    ):
        before, now = getattr(original, name), getattr(changed, name)
        row = {"": label, "Original": write(before)}
        if start is not None:
            row[start_name] = write(getattr(start, name))
        row |= {"What if": write(now), "Against the original": formats.change(before, now) or formats.UNKNOWN}
        if start is not None:
            row[f"Against {start_name.lower()}"] = formats.change(getattr(start, name), now) or formats.UNKNOWN
        rows.append(row)
    return pd.DataFrame(rows)


def in_short(changed: ChangedLayer, start_name: str | None) -> str:
    """ "32 of 64 channels (level 3: 48)", "locked, 64 channels"."""
    what = f"locked, {changed.whole}" if changed.wish.locks else f"{changed.kept} of {changed.whole}"
    return f"{what} channels" + (f" ({start_name.lower()}: {changed.before})" if start_name else "")


def coupled_in_words(changed: ChangedLayer) -> str:
    """ "Also model.6.cv2, which is coupled with it."; empty where it stands alone."""
    if not changed.coupled:
        return ""
    named, more = changed.coupled[:NAMED], len(changed.coupled) - NAMED
    others = ", ".join(named) + (f" and {more} more" if more > 0 else "")
    return f"Also {others}, which {'are' if len(changed.coupled) > 1 else 'is'} coupled with it."


def untrained_metrics(
    request: RunRequest, series: Series, records: Iterable[RunRecord]
) -> tuple[Metrics, RunRecord] | None:
    """What was measured of a cut before any training, in a run without epochs or on the way of one with them.

    Args:
        request: a run of these layers.
        series: whose model, data and conditions are meant.
        records: results to look among.
    """
    wanted = _question_of(request)
    for record in records:
        spec = record.spec
        if spec is None or spec.level is not None or basis_of(record) != basis_of(series.any_record):
            continue
        method = (spec.criterion, spec.recovery, spec.calibration_images, spec.align)
        found = (spec.target.parts, spec.target.layers, method, spec.seed)
        metrics = record.metrics if not spec.epochs else record.metrics_recovered or record.metrics_pruned
        if found == wanted and metrics is not None:
            return metrics, record
    return None


def _question_of(request: RunRequest) -> tuple[object, ...]:
    method = request.method
    return (
        {},
        request.layers,
        (method.criterion, method.recovery, method.calibration_images, method.align),
        request.seed,
    )


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The rows of a small heatmap: plans by layers.

    Attributes:
        names: of the plans, one a row.
        layers: module paths in forward order.
        removed_pct: [plans][layers], part of the output channels removed, percent.
        hover: [plans][layers].
        marked: columns of the layers that something is wished of, with their names.
    """

    names: tuple[str, ...]
    layers: tuple[str, ...]
    removed_pct: tuple[tuple[float, ...], ...]
    hover: tuple[tuple[str, ...], ...]
    marked: tuple[tuple[int, str], ...]

    @property
    def ceiling_pct(self) -> float:
        """The end of the colour scale: the deepest cut, rounded up to a full ten percent."""
        return full_ten(max(map(max, self.removed_pct)))


def strip(plans: dict[str, Sequence[LayerRow]], wished: Iterable[ChangedLayer]) -> Strip:
    """Arrange plans of one model.

    Args:
        plans: name to rows, the same layers in each.
        wished: what is wished of layers.
    """
    layers = tuple(row.name for row in next(iter(plans.values())))
    columns = {name: column for column, name in enumerate(layers)}
    return Strip(
        names=tuple(plans),
        layers=layers,
        removed_pct=tuple(tuple(round(100 * row.sparsity, 1) for row in rows) for rows in plans.values()),
        hover=tuple(
            tuple(f"<b>{row.name}</b>, {name}<br>channels {row.channels_before} → {row.channels_after}" for row in rows)
            for name, rows in plans.items()
        ),
        marked=tuple(sorted((columns[one.wish.layer], one.wish.layer) for one in wished)),
    )


def address_text(wishes: Iterable[Wish]) -> str:
    """Wishes as they stand in the address: "model.4.cv1:0.5,model.6.cv1:32"."""
    return ",".join(f"{wish.layer}:{wish.number}" for wish in wishes)
