"""Accuracy against cost on Explore: the choice of axes, the plot, and what a click on it chooses."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import plotly.graph_objects as go
import streamlit as st

from cache.series import Series, series_of
from cache.timings import Setting
from compression.catalog import TaskName
from pages.parts.device.measured_times import ratios_of
from pages.parts.explore.view import View
from pages.parts.jobs.runs import plain
from pages.parts.legend import legend_html
from pages.parts.outcome import MetricName, metric_key, metric_labels
from pages.parts.plots import CONFIG, OTHERS, draw_tradeoff, mark_in_tradeoff
from pages.parts.results import heads_on
from pages.parts.tradeoff import AxisName, Tradeoff, focus, in_words, lines_of, n_points, tradeoff

_AXES: dict[AxisName, str] = {"gflops": "GFLOPs", "params": "Parameters", "time": "Latency", "size": "File size"}
_UNTRAINED = "Show where levels stood after recovery, before any training."
_WHOLE_FAMILY = "Show every unpruned model of the family, not only the surroundings of the levels."
_FRONT = "Mark what nothing else that was measured on this data set beats in both accuracy and cost."
_ALSO = "Other models, or this one on other data sets. Accuracies on different data sets do not compare."
_TIMED_ON = (
    "Where a forward pass was timed, in turn with the original so that what else the machine did befell both. "
    "1 is the original's own time."
)
# Session state: what a click chose that is not on the slider; and that it chose another model, data set or seed, whose
# select boxes are drawn outside of the fragment.
PICKED, ELSEWHERE = "picked", "picked-elsewhere"
# Session state: what was clicked last.
_LAST_PICK = "last-pick"


def show_tradeoff(view: View, level: int) -> None:
    """Draw the section."""
    st.header("Accuracy against cost", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        metric, cost = _choose_metric(view.task), _choose_cost(view)
        setting = _choose_setting(view) if cost == "time" else None
        overlaid = _choose_overlays(view)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        whole = st.toggle("Whole family", key="family", bind="query-params", help=_WHOLE_FAMILY)
        untrained = _choose_untrained(view.series)
        with_front = st.toggle("Pareto front", key="front", bind="query-params", help=_FRONT)
    question = ("tradeoff", metric, cost, setting, tuple(overlaid), whole, untrained, with_front)
    if question not in view.drawn:
        data = tradeoff(
            view.series,
            view.neighbours,
            cost=cost,
            metric=metric,
            planned={one: plan.after for one, plan in view.plans.items()},
            untrained=untrained,
            other_seeds=view.other_seeds,
            ratios=ratios_of(view.series, view.times[setting]) if view.series and setting else {},
            overlaid=overlaid,
            with_front=with_front,
            task=view.task,
        )
        figure = draw_tradeoff(data, None if whole else focus(data))
        view.drawn[question] = (data, figure, _notes(view, data))
    _draw(view, level, *view.drawn[question])


def _draw(view: View, level: int, data: Tradeoff, figure: go.Figure, notes: list[str]) -> None:
    if not any((data.measured, data.siblings_published, data.published, data.custom, data.overlays)):
        nothing = (
            f"No accuracy is known here yet. The first measured level of {view.model} on {view.data} appears here."
        )
        st.info(plain(" ".join(notes) if view.series and notes else nothing))
        return
    st.html(legend_html(data, level))
    st.plotly_chart(
        figure,
        key="tradeoff",
        config=CONFIG,
        width="stretch",
        on_select=_pick,
        selection_mode="points",
        alt=in_words(data),
    )
    st.html(mark_in_tradeoff(data, level, ".st-key-tradeoff") or "<style></style>")
    if st.session_state.pop(ELSEWHERE, False):
        st.rerun()
    _draw_picked(view)
    if notes:
        st.caption(plain(" ".join(notes)))


def _pick() -> None:
    """Choose what was clicked on."""
    points = st.session_state["tradeoff"].selection.points
    # A second click on a point takes its selection away, and chooses it all the same.
    picked = _text(points[0].get("customdata")) if points else st.session_state.get(_LAST_PICK, "")
    st.session_state[_LAST_PICK] = picked
    wanted = dict(parse_qsl(picked))
    st.session_state.pop(PICKED, None)
    if "key" in wanted:
        st.session_state[PICKED] = wanted["key"]
    if "level" in wanted:
        st.session_state["level"] = int(wanted["level"])
    for name in ("model", "data"):
        if name in wanted and wanted[name] != st.session_state.get(name):
            st.session_state[name], st.session_state[ELSEWHERE] = wanted[name], True
    if "seed" in wanted:
        st.session_state["seed"], st.session_state[ELSEWHERE] = int(wanted["seed"]), True


def _text(customdata: Any) -> str:
    """A point's own data as it comes back from the browser: alone, or in a list."""
    if isinstance(customdata, list | tuple):
        customdata = customdata[0] if customdata else ""
    return customdata if isinstance(customdata, str) else ""


def _draw_picked(view: View) -> None:
    """What is known of a clicked point that has no place on the slider."""
    key = st.session_state.get(PICKED)
    custom = (record for one in (view.series, *view.other_seeds) if one for record in one.custom)
    record = next((one for one in custom if one.key == key), None)
    if record is None:
        return
    title, *lines = lines_of(record)
    with st.container(border=True, key="picked"):
        st.markdown(f"**{plain(title)}**  \n" + "  \n".join(map(plain, lines)))


def _notes(view: View, data: Tradeoff) -> list[str]:
    notes = [view.neighbours.left_out] if view.neighbours.left_out else []
    if view.series is not None and not (view.neighbours.siblings or view.neighbours.siblings_published):
        notes.append(
            f"No unpruned sibling of {view.model} is measured on {view.data} under these conditions, so the line that "
            "smaller stock models would give is missing."
        )
    if data.cost in ("time", "size"):
        seeds = view.other_seeds
        all_of_them = tradeoff(
            view.series, view.neighbours, cost="gflops", metric=data.metric, other_seeds=seeds, task=view.task
        )
        known = n_points(all_of_them)
        if missing := known - n_points(data):
            why = "were not timed there" if data.cost == "time" else "left no checkpoint whose size is known"
            notes.append(f"{missing} of {known} measured models {why}, and are left out.")
    return notes


def _choose_metric(task: TaskName) -> MetricName:
    labels = metric_labels(task)
    by_label = {label: name for name, label in labels.items()}
    label = st.segmented_control(
        "Accuracy as",
        list(by_label),
        default=labels["map50_95"],
        required=True,
        key=metric_key(task),
        bind="query-params",
    )
    return by_label[label or labels["map50_95"]]


def _choose_cost(view: View) -> AxisName:
    by_label = {label: name for name, label in _AXES.items() if name != "time" or view.times}
    label = st.segmented_control(
        "Cost as", list(by_label), default=_AXES["gflops"], required=True, key="cost", bind="query-params"
    )
    return by_label.get(label or "", "gflops")


def _choose_setting(view: View) -> Setting:
    by_label = {setting.label: setting for setting in view.times}
    label = st.selectbox("Measured on", list(by_label), key="timed-on", bind="query-params", help=_TIMED_ON, width=340)
    return by_label[label]


def _choose_overlays(view: View) -> dict[str, Series]:
    """Series of other pairs of model and data set, by what they are called."""
    if not view.overlays:
        return {}
    pairs = {f"{model} on {data}": (model, data) for model, data in view.overlays}
    chosen = st.multiselect(
        "Compare with",
        list(pairs),
        max_selections=len(OTHERS),
        placeholder="nothing else",
        key="with",
        bind="query-params",
        help=_ALSO,
        width=320,
    )
    found = {}
    for label in chosen:
        model, data = pairs[label]
        known = series_of(record for record in heads_on(view.store, data) if record.model == model)
        if known:
            found[label] = known[0]
    return found


def _choose_untrained(series: Series | None) -> bool:
    if series is None or not any(record.metrics_recovered for record in series.compressed):
        return False
    return st.toggle("Before training", value=True, key="untrained", bind="query-params", help=_UNTRAINED)
