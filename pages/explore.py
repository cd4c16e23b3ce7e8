"""Explore: what each compression level of a model saves, and what it costs in accuracy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import streamlit as st

from cache.comparison import published_table, to_csv
from cache.judged import beside_of
from cache.record import CHECKPOINT, RunRecord
from cache.rivals import originals_of
from cache.series import Series
from cache.store import Store
from compression.errors import TrimboardError
from compression.levels import LEVELS, ORIGINAL, target_of
from pages.parts import formats, frame
from pages.parts.access import may_act
from pages.parts.chooser import choose_series
from pages.parts.conditions import path_key
from pages.parts.heatmap import heatmap, most_cut
from pages.parts.launch import launch_form
from pages.parts.legend import legend_html, scale_html
from pages.parts.measured_times import MeasuredTimes, measured_times, ratios_of
from pages.parts.methods import made_by, planned_by
from pages.parts.outcome import (
    COST_LABELS,
    HELP,
    METRIC_LABELS,
    MetricName,
    Outcome,
    among_seeds,
    cards,
    deployed,
    on_test_images,
    on_the_way,
    outcome_of,
)
from pages.parts.planning import show_planning
from pages.parts.plots import CONFIG, draw_heatmap, draw_tradeoff
from pages.parts.results import open_store
from pages.parts.runs import show_runs
from pages.parts.tradeoff import Tradeoff, focus, n_points, tradeoff
from pages.parts.verdict_box import show_verdicts
from pages.parts.view import View, view_of
from pages.parts.whatif import show_whatif

_TIMED_ON = (
    "Where a forward pass was timed, in turn with the original so that what else the machine did befell both. "
    "1 is the original's own time."
)
_NO_CHECKPOINT = (
    "It cannot be timed here, because its checkpoint or that of the original is not on this machine. To get both, run "
    "the levels here, or take them with `trimboard import-results`."
)
_UNTRAINED = "Show where levels stood after recovery, before any training."
_NOTHING_YET = (
    "Nothing has been measured yet. Choose a model and a data set: the costs of each level come from a plan in "
    "seconds, and the button below starts the first measurement."
)
_WHOLE_FAMILY = "Show every unpruned model of the family, not only the surroundings of the levels."


def main() -> None:
    """Draw the page."""
    frame.begin("Explore")
    st.title("How far can you compress this detector?")
    st.markdown(
        "Trimboard removes channels from a YOLO model, fine-tunes what is left and measures it. Level 0 is the "
        "original; level 5 gives up a quarter of its parameters and 22% of its GFLOPs. Drag the slider to see what "
        "each level saves and what it costs in accuracy."
    )
    if may_act():
        st.page_link("pages/bring.py", label="Add your own model or data set", icon=":material/upload_file:")
    store, records = open_store()
    if not any(record.provenance == "measured" for record in records):
        st.info(_NOTHING_YET if may_act() else "Nothing has been measured yet.", icon=":material/info:")
    view = _choose(store, records)
    _draw_level(view)


def _choose(store: Store, records: list[RunRecord]) -> View:
    chosen = choose_series(records)
    return view_of(
        store,
        records,
        model=chosen.model,
        data=chosen.data,
        series=chosen.series,
        same_conditions=chosen.same_conditions,
        given_path=str(st.session_state.get(path_key(chosen.data)) or "").strip(),
    )


@st.fragment
def _draw_level(view: View) -> None:
    """Everything that follows the slider."""
    with st.container(key="controls"):
        level = st.slider("Compression level", LEVELS[0], LEVELS[-1], LEVELS[2], key="level", bind="query-params")
        st.caption(_aim(level))
    outcome = outcome_of(level, view.series, view.plans.get(level))
    _draw_cards(outcome)
    show_verdicts([verdict for verdict in view.verdicts if verdict.level == level])
    _draw_footnote(view, outcome)
    show_runs(view.store, view.subject, view.unmeasured)
    if outcome.record is None:
        _draw_unmeasured(view, level, outcome)
    _draw_tradeoff(view, level, outcome)
    _draw_heatmap(view, level, outcome)
    show_whatif(view, level, outcome)
    left, right = st.columns([5, 4], gap="large")
    with left:
        _draw_table(view, outcome)
    with right:
        _draw_downloads(view, outcome)
    if outcome.record is not None and view.options is not None and may_act():
        with st.expander("Measure this level again, with other settings"):
            launch_form(level, view.options)


def _aim(level: int) -> str:
    target = target_of(level)
    cut = [(1 - (part or 1)) * 100 for part in (target.params_kept, target.gflops_kept)]
    return f"Level {level} aims at {cut[0]:g}% fewer parameters and {cut[1]:g}% fewer GFLOPs."


def _draw_cards(outcome: Outcome) -> None:
    with st.container(key="cards"):
        for card in cards(outcome):
            if card.change is None:
                st.metric(
                    card.label,
                    card.value,
                    f"original {card.original}",
                    delta_color="off",
                    delta_arrow="off",
                    help=HELP[card.name],
                    border=True,
                )
            else:
                unchanged = card.change == formats.NO_CHANGE
                st.metric(
                    card.label,
                    card.value,
                    card.change,
                    delta_color="off" if unchanged else "inverse" if card.lower_is_better else "normal",
                    delta_arrow="off" if unchanged else "auto",
                    delta_description=f"from {card.original}",
                    help=HELP[card.name],
                    border=True,
                )


def _draw_footnote(view: View, outcome: Outcome) -> None:
    graph = deployed(outcome)
    parts = ["GFLOPs and parameters above: training graph, as published."]
    if graph:
        parts.append(f"Deployed (fused, one head): {graph}.")
    if outcome.record is not None:
        _draw_accuracies(view, outcome.record)
        times = _times_of(view, outcome.record)
        if times.line:
            st.markdown(f"**Measured time of a pass:** {times.line}")
        parts.append(_provenance(outcome.record))
    st.caption(" ".join(parts))
    for warning in outcome.warnings:
        st.warning(warning, icon=":material/warning:")


def _draw_accuracies(view: View, record: RunRecord) -> None:
    """What else was measured at this level: on the way to the result, with other seeds, on test images."""
    assert view.series is not None
    assert record.level is not None
    way, seeds = on_the_way(record), among_seeds(record.level, [view.series, *view.other_seeds])
    if way:
        st.markdown(f"**mAP50-95 on the way:** {way}")
    further = [text for text in (seeds, on_test_images(record, view.series.levels.get(ORIGINAL))) if text]
    if further:
        st.markdown(f"**Also measured, mAP50-95:** {'; '.join(further)}")


def _provenance(record: RunRecord) -> str:
    heads = {"e2e": "end-to-end head (e2e)", "nms": "one-to-many head with NMS (nms)"}
    gpu = record.environment.get("gpu", "none")
    hardware = gpu if gpu != "none" else record.environment.get("processor")
    where = f" on {hardware}" if hardware else ""
    return f"Accuracy: {heads[record.head]}, {record.imgsz} px, measured {formats.day(record.created)}{where}."


def _times_of(view: View, record: RunRecord) -> MeasuredTimes:
    assert view.series is not None
    return measured_times(record, view.latencies, originals_of(view.series))


def _draw_unmeasured(view: View, level: int, outcome: Outcome) -> None:
    missing = [one for one in view.unmeasured if one not in view.plans]
    with st.container(border=True, key="unmeasured"):
        conditions = " under these conditions" if view.is_measured_otherwise(level) else ""
        st.subheader(f"Level {level} is not measured yet{conditions}", anchor=False)
        if outcome.plan is not None:
            st.markdown(planned_by(outcome.plan))
        if view.question is not None and missing:
            show_planning(view.store, view.question, missing)
        if not may_act():
            return
        if view.problem:
            st.warning(view.problem, icon=":material/folder_off:")
        if view.options is not None:
            launch_form(level, view.options)
        if view.options is None or view.given_path:
            path = st.text_input(
                f"Path of the data.yaml of {view.file_of}", key=path_key(view.data), persist_state="session"
            )
            if (path or "").strip() != view.given_path:
                st.rerun()


def _draw_tradeoff(view: View, level: int, outcome: Outcome) -> None:
    st.subheader("Accuracy against cost", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        metric = _choose_metric()
        whole = st.toggle("Whole family", key="family", bind="query-params", help=_WHOLE_FAMILY)
        untrained = _choose_untrained(view.series)
    planned = outcome.costs if outcome.record is None else None
    plot = partial(
        tradeoff,
        view.series,
        view.neighbours,
        metric=metric,
        level=level,
        planned=planned,
        untrained=untrained,
        other_seeds=view.other_seeds,
    )
    data = [plot(cost=cost) for cost in COST_LABELS]
    if not any(one.measured or one.siblings_published or one.published or one.custom for one in data):
        st.info(f"No accuracy is known here yet. The first measured level of {view.model} on {view.data} appears here.")
        return
    st.html(legend_html(data[0]))
    for column, one in zip(st.columns(2, gap="medium"), data, strict=True):
        with column:
            figure = draw_tradeoff(one, None if whole else focus(one))
            st.plotly_chart(figure, key=f"tradeoff-{one.cost}", config=CONFIG, width="stretch")
    notes = [view.neighbours.left_out]
    if not (view.neighbours.siblings or view.neighbours.siblings_published):
        notes.append(
            f"No unpruned sibling of {view.model} is measured on {view.data} under these conditions, so the line that "
            "smaller stock models would give is missing."
        )
    if any(notes):
        st.caption(" ".join(filter(None, notes)))
    if view.series is not None and (view.times or outcome.record is not None):
        _draw_times(view, outcome, plot, data[0], whole)


def _draw_times(view: View, outcome: Outcome, plot: Callable[..., Tradeoff], by_gflops: Tradeoff, whole: bool) -> None:
    """The same on a third axis, measured time, and the times of the chosen level."""
    assert view.series is not None
    st.subheader("Accuracy against measured time" if view.times else "Measured time", anchor=False)
    left, right = st.columns(2, gap="medium") if view.times else (None, st.container())
    if left is not None:
        with left:
            setting = st.selectbox(
                "Measured on", list(view.times), format_func=lambda one: one.label, key="timed-on", help=_TIMED_ON
            )
            data = plot(cost="time", ratios=ratios_of(view.series, view.times[setting]))
            st.plotly_chart(
                draw_tradeoff(data, None if whole else focus(data)), key="tradeoff-time", config=CONFIG, width="stretch"
            )
            known = n_points(by_gflops)
            if missing := known - n_points(data):
                st.caption(f"{missing} of {known} measured models were not timed there, and are left out.")
    with right:
        _draw_level_times(view, outcome)


def _draw_level_times(view: View, outcome: Outcome) -> None:
    times = _times_of(view, outcome.record) if outcome.record else None
    if times and not times.rows.empty:
        st.table(times.rows, border="horizontal", hide_index=True)
        st.caption(times.note)
    else:
        st.info(f"Level {outcome.level} was not timed yet. Fewer GFLOPs are not as much less time.")
    st.page_link("pages/device.py", label="Other levers, and where the speed-up is lost", icon=":material/speed:")
    if not may_act():
        return
    if view.bench_command:
        st.caption("What was not timed yet, in turn with the original:")
        st.code(view.bench_command, language="bash", wrap_lines=True)
    elif times and times.rows.empty:
        st.caption(_NO_CHECKPOINT)


def _choose_untrained(series: Series | None) -> bool:
    if series is None or not any(record.metrics_recovered for record in series.compressed):
        return False
    return st.toggle("Before training", value=True, key="untrained", bind="query-params", help=_UNTRAINED)


def _choose_metric() -> MetricName:
    by_label = {label: name for name, label in METRIC_LABELS.items()}
    label = st.segmented_control(
        "Accuracy as",
        list(by_label),
        default=METRIC_LABELS["map50_95"],
        required=True,
        key="metric",
        bind="query-params",
        label_visibility="collapsed",
    )
    return by_label[label or METRIC_LABELS["map50_95"]]


def _draw_heatmap(view: View, level: int, outcome: Outcome) -> None:
    st.subheader("Which layers are cut", anchor=False)
    outcomes = [outcome_of(one, view.series, view.plans.get(one)) for one in LEVELS]
    data = heatmap({one.level: one.layers for one in outcomes})
    if not data.layers:
        st.info("The layers appear here as soon as a level is planned or measured.")
        return
    st.html(scale_html(data))
    st.plotly_chart(draw_heatmap(data, level=level), key="heatmap", config=CONFIG, width="stretch")
    how = made_by(outcome.record) if outcome.record else planned_by(outcome.plan) if outcome.plan else ""
    st.caption(" ".join((most_cut(outcome.layers) or "This level has no layers to show yet.", how)))


def _draw_table(view: View, outcome: Outcome) -> None:
    st.subheader("Before and after", anchor=False)
    if outcome.record is not None:
        st.table(published_table(outcome.record), border="horizontal", hide_index=True)
    published = [record for record in view.neighbours.published if record.level == outcome.level]
    for record in published:
        st.markdown(f"**Published**, not measured here: {record.source}")
        st.table(published_table(record), border="horizontal", hide_index=True)
    if outcome.record is None and not published:
        st.info(f"Level {outcome.level} has no measured accuracy to compare yet.")


def _draw_downloads(view: View, outcome: Outcome) -> None:
    st.subheader("Take it with you", anchor=False)
    records = view.records
    st.download_button(
        "Export comparison CSV",
        data=lambda: to_csv(records, beside_of(view.on_same_data, view.latencies, view.model)),
        file_name=f"trimboard-{view.model}-{view.data}.csv",
        mime="text/csv",
        icon=":material/table_view:",
        on_click="ignore",
        disabled=not records,
        key="csv",
    )
    st.caption("All levels side by side with verdicts and times, measured and published in a column of their own.")
    if outcome.record is not None and may_act():
        _draw_checkpoint(view.store, outcome.record)


def _offer_to_fetch(store: Store, record: RunRecord) -> None:
    asked = st.button("Fetch it from the shared place", icon=":material/cloud_download:", key="fetch")
    if not asked or not may_act():
        return
    try:
        found = store.artifact_path(record)
    except TrimboardError as error:
        st.error(str(error), icon=":material/error:")
        return
    if found:
        st.rerun()
    st.error("It is not there either, or it is damaged.", icon=":material/error:")


def _draw_checkpoint(store: Store, record: RunRecord) -> None:
    artifact = next((item for item in record.artifacts if item.name == CHECKPOINT), None)
    path = store.artifact_path(record, fetch=False)
    if artifact is None or path is None:
        st.caption("The checkpoint of this level is not on this machine.")
        if artifact is not None and store.shares_files:
            _offer_to_fetch(store, record)
        return
    st.download_button(
        f"Download level {record.level} checkpoint ({formats.size(artifact.size_bytes)})",
        # Read when it is asked for, not whenever the slider moves.
        data=path.read_bytes,
        file_name=artifact.file,
        mime="application/octet-stream",
        icon=":material/download:",
        on_click="ignore",
        key="checkpoint",
    )
    st.caption(f'Plain Ultralytics loads it: `YOLO("{artifact.file}")`. SHA-256 `{artifact.sha256}`')


main()
