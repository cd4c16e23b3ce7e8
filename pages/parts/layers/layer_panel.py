"""One layer of the heatmap, opened: what each level leaves of it, what it is worth, and what hangs together with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from cache.record import LayerRow
from cache.sensitivity import GroupSensitivity, SensitivityRecord
from compression.models.tasks import TASKS
from pages.parts import formats
from pages.parts.layers.heatmap import block_of, region_of, saved_pct
from pages.parts.layers.heatmap_plot import draw_importance
from pages.parts.methods import CRITERIA
from pages.parts.plots import CONFIG

# Layers that hang together are named up to so many.
MOST_NAMED = 12
# On a few hundred images less than so many points can be chance, see "Limits" in the README.
NOISE_POINTS = 1.0


def level_rows(name: str, layers_of: Mapping[int, Sequence[LayerRow]], chosen: int) -> list[dict[str, str]]:
    """One row a level that is known: channels and costs of a layer, each against the original's.

    Args:
        name: of the layer.
        layers_of: level -> one row a layer.
        chosen: the level that the page shows.
    """
    rows: list[dict[str, str]] = []
    for level, of_level in sorted(layers_of.items()):
        row = next((one for one in of_level if one.name == name), None)
        if row is None:
            continue
        total = {cost: sum(getattr(one, f"{cost}_before") for one in of_level) for cost in ("gflops", "params")}
        if not rows:
            rows.append(_row("Original", row.channels_before, row.gflops_before, row.params_before, "", ""))
        saved = [f"{saved_pct(row, cost, total[cost]):.2f}%" for cost in ("gflops", "params")]
        title = f"Level {level}, chosen" if level == chosen else f"Level {level}"
        rows.append(_row(title, row.channels_after, row.gflops_after, row.params_after, *saved))
    return rows


def _row(title: str, channels: int, gflops: float, params: int, gflops_saved: str, params_saved: str) -> dict[str, str]:
    return {
        "": title,
        "Channels": str(channels),
        "GFLOPs": f"{gflops:.4f}",
        "saved of all": gflops_saved,
        "Parameters": f"{params:,}",
        "saved of all ": params_saved,
    }


def sensitivity_in_words(record: SensitivityRecord, group: GroupSensitivity) -> str:
    """What cutting a group alone costs, and how that was found out."""
    points = record.lost(group)
    if points is None:
        return f"All {group.channels_before} channels stay: {group.locked}."
    if not group.predicts:
        return (
            f"These channels only train the model: its predictions come from the other head ({record.spec.head}), so "
            f"nothing is lost without them. {group.channels_before} → {group.channels_after} of them save "
            f"{100 * group.gflops_saved:.2f}% of the GFLOPs and {100 * group.params_saved:.2f}% of the parameters of "
            f"the training graph."
        )
    spec = record.spec
    images = f"{spec.n_images} of {record.n_val}" if spec.n_images < record.n_val else f"the {spec.n_images}"
    accuracy = TASKS[record.task].main
    sentence = (
        f"With {group.channels_before} → {group.channels_after} channels and nothing else cut, {accuracy} is "
        f"{formats.accuracy(record.map50_95)} → {formats.accuracy(group.map50_95)} ({-points:+.1f} points) on {images} "
        f"validation images, and the model has {100 * group.gflops_saved:.2f}% fewer GFLOPs and "
        f"{100 * group.params_saved:.2f}% fewer parameters. Nothing was recovered or trained, so a run loses far less."
    )
    if points < NOISE_POINTS:
        return f"{sentence} Less than a point can be chance on so many images: this layer can give up channels."
    return sentence


def coupled_in_words(group: GroupSensitivity, name: str) -> str:
    """Which layers give the same channels."""
    others = [other for other in group.layers if other != name]
    if not others:
        return "No other layer gives these channels; only the layers that read them follow."
    named = ", ".join(f"`{other}`" for other in others[:MOST_NAMED])
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return (
        f"The same channels go in {named}{more}: their outputs are added up with these, or computed channel by channel "
        f"from them."
    )


def show_layer(
    name: str,
    layers_of: Mapping[int, Sequence[LayerRow]],
    *,
    level: int,
    record: SensitivityRecord | None,
    n_blocks: tuple[int, int] | None,
) -> None:
    """Draw the panel of a layer.

    Args:
        name: of the layer.
        layers_of: level -> one row a layer.
        level: the chosen one.
        record: what the layers are worth; None where it was not measured.
        n_blocks: of the backbone and of the whole model; None where its yaml is unknown.
    """
    known = next(row for rows in layers_of.values() for row in rows if row.name == name)
    groups = record.groups_of(name) if record else ()
    region = region_of(name, n_blocks)
    place = f"block {block_of(name)}" + (f" of the model, in its {region}" if region else " of the model")
    with st.container(border=True, key="layer-panel"):
        st.markdown(f"**`{name}`** · {known.type}, {place}")
        reason = known.locked or next((group.locked for group in groups[:1]), None)
        if reason:
            st.markdown(f":material/lock: All {known.channels_before} channels stay: {reason}.")
        left, right = st.columns([6, 5], gap="large")
        with left:
            rows = pd.DataFrame(level_rows(name, layers_of, level))
            st.table(rows, border="horizontal", hide_index=True)
            st.caption(
                "Output channels that are left, and the layer's own costs on the training graph; *saved of all* is the "
                "part of the whole model's. Fewer channels of the layers before it make it cheaper too."
            )
            for group in groups:
                st.markdown(f"**Coupled layers{_which(group, groups)}.** {coupled_in_words(group, name)}")
        with right:
            _show_worth(name, record, groups, layers_of.get(level, ()))


def _show_worth(
    name: str, record: SensitivityRecord | None, groups: Sequence[GroupSensitivity], of_level: Sequence[LayerRow]
) -> None:
    if record is None or not groups:
        st.markdown(f"Sensitivity, importance of the channels and coupled layers: {formats.NOT_MEASURED}.")
        return
    for group in groups:
        st.markdown(f"**Sensitivity{_which(group, groups)}.** {sensitivity_in_words(record, group)}")
        if not group.importance:
            continue
        cut = next((row.sparsity for row in of_level if row.name == name), 0.0)
        st.plotly_chart(
            draw_importance(group, cut), key=f"importance-{groups.index(group)}", config=CONFIG, width="stretch"
        )
        shaded = f"; shaded is the part that the chosen level cuts, {100 * cut:.1f}%" if cut else ""
        st.caption(
            f"Importance of the {group.channels_before} channels by {record.spec.criterion} "
            f"({CRITERIA[record.spec.criterion]}; 1 is their mean){shaded}. A flat line says that all matter alike, a "
            "steep one that some are hardly used. A run may rank them by another criterion."
        )


def _which(group: GroupSensitivity, groups: Sequence[GroupSensitivity]) -> str:
    """What tells the channels of a group from the layer's others, where it has others."""
    return f" of {group.channels_before} channels" if len(groups) > 1 else ""
