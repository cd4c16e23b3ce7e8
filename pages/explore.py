"""Explore: what each compression level of a model saves, and what it costs in accuracy."""

from __future__ import annotations

import streamlit as st

from cache.comparison import published_table
from cache.record import RunRecord
from cache.rivals import originals_of
from compression.levels import LEVELS, ORIGINAL, target_of
from compression.models.tasks import TASKS, head_in_words
from pages.parts import formats, frame
from pages.parts.access import may_act
from pages.parts.chooser import choose_series
from pages.parts.conditions import path_key
from pages.parts.device.measured_times import MeasuredTimes, measured_times
from pages.parts.explore.light import draw_command, draw_table
from pages.parts.explore.recommend import show_recommendation
from pages.parts.explore.sharing import show_sharing
from pages.parts.explore.tradeoff_view import show_tradeoff
from pages.parts.explore.verdict_box import show_verdicts
from pages.parts.explore.view import View, view_of
from pages.parts.jobs.launch import launch_form
from pages.parts.jobs.planning import show_planning
from pages.parts.jobs.runs import plain, show_runs
from pages.parts.layers.layers_view import show_layers
from pages.parts.methods import planned_by
from pages.parts.outcome import (
    Outcome,
    among_seeds,
    cards,
    deployed,
    metric_help,
    on_test_images,
    on_the_way,
    outcome_of,
)
from pages.parts.results import open_store
from pages.parts.whatif.section import show_whatif

_NO_CHECKPOINT = (
    "It cannot be timed here, because its checkpoint or that of the original is not on this machine. To get both, run "
    "the levels here, or take them with `trimboard import-results`."
)
_NOTHING_YET = (
    "Nothing has been measured yet. Choose a model and a data set: the costs of each level come from a plan in "
    "seconds, and the button below starts the first measurement."
)


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
    store = open_store()
    chosen = choose_series(store)
    if not any(known.provenance == "measured" for known in chosen.known):
        st.info(_NOTHING_YET if may_act() else "Nothing has been measured yet.", icon=":material/info:")
    given_path = str(st.session_state.get(path_key(chosen.data)) or "").strip()
    _draw_level(view_of(store, chosen, given_path))


@st.fragment
def _draw_level(view: View) -> None:
    """Everything that follows the slider."""
    show_recommendation(view)
    with st.container(key="controls"):
        level = _choose_level()
        st.caption(_aim(level))
    outcome = outcome_of(level, view.series, view.plans.get(level))
    _draw_cards(outcome)
    show_verdicts([verdict for verdict in view.verdicts if verdict.level == level])
    _draw_footnote(view, outcome)
    show_runs(view.store, view.subject, view.unmeasured)
    if outcome.record is None:
        _draw_unmeasured(view, level, outcome)
    show_tradeoff(view, level)
    show_layers(view, level, outcome)
    show_whatif(view, level, outcome)
    left, right = st.columns(2, gap="large")
    with left:
        _draw_table(view, outcome)
    with right:
        _draw_times(view, outcome)
    show_sharing(view, outcome)
    if outcome.record is not None and view.options is not None and may_act():
        # A form of twenty fields would travel to the browser with each step of the slider.
        again = st.expander("Measure this level again, with other settings", key="again", on_change="rerun")
        if again.open:
            with again:
                launch_form(level, view.options)


def _choose_level() -> int:
    """The slider, whose value the address always tells.

    Streamlit's own binding would leave out the level that the slider begins at where nothing is recommended, and a link
    to it would open on the recommended one.
    """
    asked = st.query_params.get("level", "")
    if "level" not in st.session_state and asked in map(str, LEVELS):
        st.session_state["level"] = int(asked)
    st.session_state.setdefault("level", LEVELS[2])
    level = st.slider("Compression level", LEVELS[0], LEVELS[-1], key="level")
    st.query_params["level"] = str(level)
    return level


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
                    help=metric_help(card.name, outcome.task),
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
                    help=metric_help(card.name, outcome.task),
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
        st.markdown(f"**{TASKS[record.task].main} on the way:** {way}")
    further = [text for text in (seeds, on_test_images(record, view.series.levels.get(ORIGINAL))) if text]
    if further:
        st.markdown(f"**Also measured, {TASKS[record.task].main}:** {'; '.join(further)}")


def _provenance(record: RunRecord) -> str:
    heads = {"e2e": "end-to-end head (e2e)", "nms": "one-to-many head with NMS (nms)"}
    gpu = record.environment.get("gpu", "none")
    hardware = gpu if gpu != "none" else record.environment.get("processor")
    where = f" on {hardware}" if hardware else ""
    head = head_in_words(record.task, record.head) if record.task == "classify" else heads[record.head]
    return f"Accuracy: {head}, {record.imgsz} px, measured {formats.day(record.created)}{where}."


def _times_of(view: View, record: RunRecord) -> MeasuredTimes:
    assert view.series is not None
    return measured_times(record, view.latencies, originals_of(view.series))


def _draw_unmeasured(view: View, level: int, outcome: Outcome) -> None:
    missing = [one for one in view.unmeasured if one not in view.plans]
    with st.container(border=True, key="unmeasured"):
        conditions = " under these conditions" if view.is_measured_otherwise(level) else ""
        st.header(f"Level {level} is not measured yet{conditions}", anchor=False)
        if outcome.plan is not None:
            st.markdown(planned_by(outcome.plan))
        if view.question is not None and missing:
            show_planning(view.store, view.question, missing)
        if not may_act():
            return
        if view.problem:
            st.warning(plain(view.problem), icon=":material/folder_off:")
        if view.options is not None:
            launch_form(level, view.options)
        if view.options is None or view.given_path:
            path = st.text_input(
                f"Path of the data.yaml of {view.file_of}", key=path_key(view.data), persist_state="session"
            )
            if (path or "").strip() != view.given_path:
                st.rerun()


def _draw_times(view: View, outcome: Outcome) -> None:
    if view.series is None or not (view.times or outcome.record):
        return
    st.header("Measured time", anchor=False)
    times = _times_of(view, outcome.record) if outcome.record else None
    if times and not times.rows.empty:
        draw_table(times.rows)
        st.caption(times.note)
    else:
        st.info(f"Level {outcome.level} was not timed yet. Fewer GFLOPs are not as much less time.")
    st.page_link("pages/device.py", label="Other levers, and where the speed-up is lost", icon=":material/speed:")
    if not may_act():
        return
    if view.bench_command:
        draw_command("Command that times what was not timed yet", view.bench_command, "bench-command")
    elif times and times.rows.empty:
        st.caption(_NO_CHECKPOINT)


def _draw_table(view: View, outcome: Outcome) -> None:
    st.header("Before and after", anchor=False)
    if outcome.record is not None:
        draw_table(published_table(outcome.record))
    published = [record for record in view.neighbours.published if record.level == outcome.level]
    for record in published:
        st.markdown(f"**Published**, not measured here: {record.source}")
        draw_table(published_table(record))
    if outcome.record is None and not published:
        st.info(f"Level {outcome.level} has no measured accuracy to compare yet.")


main()
