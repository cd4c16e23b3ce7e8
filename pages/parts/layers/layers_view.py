"""The layers of a model by level: heatmap, what each layer is worth, and the layer that was clicked."""

from __future__ import annotations

import streamlit as st

from compression.catalog import n_blocks_of
from compression.levels import LEVELS
from pages.parts.explore.view import View
from pages.parts.layers.heatmap import SHOWN_LABELS, Heatmap, Shown, heatmap, most_cut, sensitivities
from pages.parts.layers.heatmap_plot import KEY, draw_heatmap, frames_css
from pages.parts.layers.layer_panel import show_layer
from pages.parts.layers.sensitivity_job import offer_to_measure, sensitivity_of
from pages.parts.legend import scale_html
from pages.parts.methods import made_by, planned_by
from pages.parts.outcome import Outcome, outcome_of
from pages.parts.plots import CONFIG

# Session state: the opened layer, and the one that was clicked last.
LAYER = "layer"
CLICKED = "clicked-layer"


def show_layers(view: View, level: int, outcome: Outcome) -> None:
    """Draw the section.

    Args:
        view: the chosen model, data set and series.
        level: the chosen level.
        outcome: what is known of it.
    """
    st.header("Which layers are cut", anchor=False)
    layers_of = {one: outcome_of(one, view.series, view.plans.get(one)).layers for one in LEVELS}
    if not any(layers_of.values()):
        st.info("The layers appear here as soon as a level is planned or measured.")
        return
    record = sensitivity_of(view.store, view.series)
    own_blocks = (record.n_backbone, record.n_blocks) if record else None
    n_blocks = own_blocks or n_blocks_of(view.architecture)
    data = heatmap(layers_of, _choose_shown(), n_blocks)
    strip = sensitivities(data, record)
    st.html(scale_html(data, strip))
    layer = _chosen_layer(data)
    st.html(frames_css(data, level=level, layer=layer))
    st.plotly_chart(
        draw_heatmap(data, strip),
        key=KEY,
        config=CONFIG,
        width="stretch",
        on_select=lambda: _open_clicked(data),
        selection_mode="points",
    )
    how = made_by(outcome.record) if outcome.record else planned_by(outcome.plan) if outcome.plan else ""
    st.caption(" ".join((most_cut(outcome.layers) or "This level has no layers to show yet.", how)))
    offer_to_measure(view, record)
    st.selectbox(
        "Layer",
        data.layers,
        index=None,
        placeholder="Click a cell, or choose a layer here",
        key=LAYER,
        bind="query-params",
        help="What each level leaves of it, what it is worth, and which layers hang together with it.",
    )
    if layer is not None:
        show_layer(layer, layers_of, level=level, record=record, n_blocks=n_blocks)


def _choose_shown() -> Shown:
    by_label = {label: name for name, label in SHOWN_LABELS.items()}
    first = SHOWN_LABELS["channels"]
    label = st.segmented_control(
        "Cells show",
        list(by_label),
        default=first,
        required=True,
        key="cut",
        bind="query-params",
        label_visibility="collapsed",
    )
    return by_label[label or first]


def _chosen_layer(data: Heatmap) -> str | None:
    """The opened layer; that of another model is forgotten."""
    layer = st.session_state.get(LAYER)
    if layer not in data.layers:
        st.session_state.pop(LAYER, None)
        asked = st.query_params.get(LAYER)
        return asked if asked in data.layers else None
    return str(layer)


def _open_clicked(data: Heatmap) -> None:
    """Open the layer of the clicked cell.

    A second click on a point takes its selection away, and opens its layer all the same.
    """
    points = st.session_state[KEY].selection.points
    clicked = data.layers[int(points[0]["x"])] if points else st.session_state.get(CLICKED)
    if clicked is not None:
        st.session_state[CLICKED] = st.session_state[LAYER] = clicked
