"""On the device: what level, precision, image size and a smaller sibling save and cost, as they were measured."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import pandas as pd
import streamlit as st

from cache.record import SHORT_KEY, RunRecord
from cache.rivals import originals_of
from cache.series import Series
from cache.store import Store
from compression.errors import DatasetError
from compression.jobs import local
from compression.levels import ORIGINAL
from pages.parts import frame
from pages.parts.access import AccessError, check_may_act, may_act
from pages.parts.chooser import Chosen, choose_series
from pages.parts.conditions import find_data, path_key
from pages.parts.device.combinations import (
    Combination,
    CostOnDevice,
    Device,
    combinations_of,
    devices_of,
    forms_of,
    missing_of,
)
from pages.parts.device.device_plot import draw_device
from pages.parts.device.device_points import (
    COLUMN_HEADINGS,
    COST_LABELS,
    DevicePoint,
    combination_rows,
    device_points,
    front_in_words,
)
from pages.parts.device.lost_speed import show_lost_speed
from pages.parts.jobs.job_views import show_jobs
from pages.parts.jobs.runs import plain
from pages.parts.legend import device_legend_html
from pages.parts.outcome import MetricName, metric_key, metric_labels
from pages.parts.plots import CONFIG
from pages.parts.results import open_store

Name = TypeVar("Name", MetricName, CostOnDevice)

# What a newcomer's machine can measure in minutes.
BACKENDS, DEFAULT_BACKENDS = ("onnx", "openvino", "torch", "tensorrt", "cuda"), ("onnx", "openvino")
PRECISIONS, DEFAULT_PRECISIONS = ("fp32", "fp16", "int8"), ("fp32", "int8")
SIZES, DEFAULT_SIZES = (1.0, 0.875, 0.75, 0.625, 0.5), (1.0, 0.75)
MOST_THREADS = 256

_SIZES_HELP = "Parts of the training size, rounded to the model's stride. Accuracy is measured again at each."
_SIBLINGS_HELP = "Also the unpruned models of this family that are measured on this data set."
_NO_TIMES = (
    "Nothing was timed yet. Each combination is exported, its accuracy measured on the file itself, and its time in "
    "turn with level 0 in FP32."
)


def main() -> None:
    """Draw the page."""
    frame.begin("On the device")
    st.title("What does it cost on the device?")
    st.markdown(
        "GFLOPs are not time, and pruning is not the only lever. Here levels, precisions, image sizes and smaller "
        "siblings stand on one picture, each measured: its accuracy on the file that is deployed, and its time in turn "
        "with level 0 in full precision."
    )
    store = open_store()
    chosen = choose_series(store)
    if chosen.series is None:
        st.info(
            f"Nothing is measured of {plain(chosen.model)} on {plain(chosen.data)} yet. Measure a level on the page "
            f"Explore, or by `trimboard run {chosen.model}.pt --data {chosen.data} --level 3`; then come back.",
            icon=":material/info:",
        )
        return
    on_data = chosen.on_same_data
    command = _offer_to_measure(store, chosen, chosen.series, on_data)
    _draw_measured(store, chosen.series, on_data, command)
    _draw_lost_speed(store, chosen.series)


def _offer_to_measure(
    store: Store, chosen: Chosen, series: Series, on_data: Sequence[RunRecord]
) -> Callable[..., tuple[str, ...]]:
    """Draw the form and the jobs that it started; gives what makes command lines of what is still missing."""
    given = str(st.session_state.get(path_key(chosen.data)) or "").strip()
    problem = ""
    try:
        data = find_data(chosen.data, given, on_data).argument
    except DatasetError as error:
        data, problem = "DATA.yaml", str(error)
    keys = [record.key[:SHORT_KEY] for record in (*series.levels.values(), *series.custom)]
    command = partial(local.levers_arguments, data=data)
    if not may_act():
        return command
    show_jobs(lambda: local.levers_of(keys), lambda: _n_measured(store, series, on_data))
    measured = _n_measured(store, series, on_data)
    with st.expander("Measure combinations", expanded=not measured, icon=":material/timer:"):
        if problem:
            st.warning(plain(problem), icon=":material/folder_off:")
            st.text_input(f"Path of the data.yaml of {chosen.data}", key=path_key(chosen.data), persist_state="session")
        _draw_form(store, series, command, can_start=not problem)
    return command


def _n_measured(store: Store, series: Series, on_data: Sequence[RunRecord]) -> int:
    forms = list(forms_of(series, on_data))
    return len(store.accuracies(forms)) + len(store.latencies(forms))


def _draw_form(store: Store, series: Series, command: Callable[..., tuple[str, ...]], *, can_start: bool) -> None:
    here = [level for level, one in sorted(series.levels.items()) if store.artifact_path(one, fetch=False)]
    options = list(dict.fromkeys([ORIGINAL, *here]))
    key = series.any_record.key[:SHORT_KEY]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        levels = st.multiselect("Levels", options, options, key=f"levels-{key}", width=220)
        backends = st.multiselect(
            "Backends", BACKENDS, DEFAULT_BACKENDS, key="backends", bind="query-params", width=260
        )
        precisions = st.multiselect(
            "Precisions", PRECISIONS, DEFAULT_PRECISIONS, key="precisions", bind="query-params", width=220
        )
        sizes = st.multiselect(
            "Image sizes",
            SIZES,
            DEFAULT_SIZES,
            format_func="{:g}".format,
            key="sizes",
            bind="query-params",
            width=260,
            help=_SIZES_HELP,
        )
        threads = st.number_input("Threads", 1, MOST_THREADS, 1, key="threads-wanted", bind="query-params", width=110)
        siblings = st.toggle("Siblings", key="siblings", bind="query-params", help=_SIBLINGS_HELP)
    elsewhere = ", ".join(f"level {level}" for level in sorted(series.levels) if level not in options)
    if elsewhere:
        st.caption(f"Not offered, because its checkpoint is not on this machine: {elsewhere}.")
    is_whole = bool(levels and backends and precisions and sizes)
    arguments = command(
        [key], levels=levels, backends=backends, precisions=precisions, sizes=sizes, siblings=siblings, threads=threads
    )
    if is_whole:
        st.code(_typed(arguments), language="shell", wrap_lines=True)
    if st.button(
        "Measure", type="primary", icon=":material/timer:", key="measure", disabled=not (is_whole and can_start)
    ):
        try:
            check_may_act()
            local.start_levers(arguments)
        except (OSError, AccessError) as error:
            st.error(f"The measurement cannot be started: {error}", icon=":material/error:")
        else:
            st.rerun()
    st.caption("Times are only worth something on a machine that does nothing else meanwhile.")


def _typed(arguments: Sequence[str]) -> str:
    return f"trimboard {shlex.join(arguments)}"


def _draw_measured(
    store: Store, series: Series, on_data: Sequence[RunRecord], command: Callable[..., tuple[str, ...]]
) -> None:
    forms = forms_of(series, on_data)
    accuracies, latencies = store.accuracies(forms), store.latencies(forms)
    device = _choose_device(devices_of(latencies))
    if device is None:
        st.info(_NO_TIMES, icon=":material/info:")
        return
    record = series.any_record
    combinations = combinations_of(
        forms,
        accuracies,
        latencies,
        device,
        imgsz=record.imgsz,
        head=record.head,
        data_fingerprint=series.spec.data_fingerprint,
    )
    st.header("Accuracy against cost", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        metric = _choose("Accuracy as", metric_labels(record.task), "map50_95", key=metric_key(record.task))
        # The ratio first: what else the machine did while one was timed befell level 0 as well.
        cost = _choose("Cost as", COST_LABELS, "ratio", key="cost")
    points = device_points(combinations, cost, metric)
    if points:
        _draw_points(points, cost, metric, device, series)
    _draw_missing(combinations, device, series, command)


def _choose_device(devices: Sequence[Device]) -> Device | None:
    """Narrow down by one select box after the other, which the address of the page keeps; None where there is none."""
    if not devices:
        return None
    left, middle, right = st.columns([4, 8, 2])
    runtimes = list(dict.fromkeys(one.runtime for one in devices))
    runtime = left.selectbox("Backend", runtimes, key="runtime", bind="query-params", disabled=len(runtimes) < 2)
    devices = [one for one in devices if one.runtime == runtime]
    machines = list(dict.fromkeys(one.machine for one in devices))
    machine = middle.selectbox("Machine", machines, key="machine", bind="query-params", disabled=len(machines) < 2)
    devices = [one for one in devices if one.machine == machine]
    threads = [one.threads for one in devices]
    chosen = right.selectbox("Threads", threads, key="threads", bind="query-params", disabled=len(threads) < 2)
    return next(one for one in devices if one.threads == chosen)


def _choose(label: str, labels: dict[Name, str], first: Name, *, key: str) -> Name:
    by_label = {text: name for name, text in labels.items()}
    text = st.segmented_control(
        label,
        list(by_label),
        default=labels[first],
        required=True,
        key=key,
        bind="query-params",
        label_visibility="collapsed",
    )
    return by_label[text or labels[first]]


def _draw_points(
    points: Sequence[DevicePoint], cost: CostOnDevice, metric: MetricName, device: Device, series: Series
) -> None:
    st.html(device_legend_html(points))
    st.plotly_chart(draw_device(points, cost, metric), key="device-plot", config=CONFIG, width="stretch")
    st.markdown("\n".join(f"- {sentence}" for sentence in front_in_words(points, cost, metric)))
    accuracy, record = points[0].combination.accuracy, series.any_record
    assert accuracy is not None
    threads = f", {device.threads} thread{'s' * (device.threads != 1)}" if device.threads else ""
    st.caption(
        f"{plain(device.runtime)} on {plain(device.machine)}{threads}, batch 1, {record.head} head. Accuracy on "
        f"{accuracy.n_images} validation images of {plain(accuracy.data)}, padded to squares, by Ultralytics' own "
        "validation of what is deployed, in the arithmetic that was timed. The time is that of a forward pass; reading "
        "the image and non-maximum suppression are not in it."
    )
    rows = pd.DataFrame(combination_rows(points))
    # None hides a column.
    headings = {name: COLUMN_HEADINGS.get(name) for name in rows.columns}
    st.dataframe(rows, hide_index=True, width="stretch", key="device-table", column_config=headings)
    st.download_button(
        "Export CSV",
        data=lambda: rows.to_csv(index=False).encode(),
        file_name=f"trimboard-{record.model}-{record.data}-{device.backend}.csv",
        mime="text/csv",
        icon=":material/table_view:",
        on_click="ignore",
        key="device-csv",
    )


def _draw_missing(
    combinations: Sequence[Combination], device: Device, series: Series, command: Callable[..., tuple[str, ...]]
) -> None:
    half = [one for one in combinations if one.accuracy is None or one.cost("ratio") is None]
    if not half:
        return
    st.header("Not measured yet", anchor=False)
    st.markdown("\n".join(f"- {sentence}" for sentence in missing_of(half)))
    if not may_act():
        return
    by_level = [one for one in half if one.form.level is not None or one.form.is_sibling]
    of_own_target = [one for one in half if one not in by_level]
    # The key of a result with a target of its own stands for that alone, any other for a level beside it.
    own_keys = [one.form.key for one in of_own_target]
    for group, keys, levels in (
        (by_level, [series.any_record.key], _levels_of(by_level)),
        (of_own_target, own_keys, []),
    ):
        if not group:
            continue
        arguments = command(
            list(dict.fromkeys(key[:SHORT_KEY] for key in keys)),
            levels=levels,
            backends=[device.backend],
            precisions=list(dict.fromkeys(one.precision for one in group)),
            sizes=list(dict.fromkeys(one.imgsz for one in group)),
            siblings=any(one.form.is_sibling for one in group),
            threads=device.threads or 1,
        )
        st.code(_typed(arguments), language="shell", wrap_lines=True)


def _levels_of(combinations: Sequence[Combination]) -> list[int]:
    return sorted({one.form.level for one in combinations if one.form.level is not None}) or [ORIGINAL]


def _draw_lost_speed(store: Store, series: Series) -> None:
    levels = [level for level in sorted(series.levels) if level != ORIGINAL]
    if not levels:
        return
    st.header("Where the speed-up is lost", anchor=False)
    level = st.segmented_control(
        "Level",
        levels,
        default=levels[-1],
        required=True,
        format_func="level {}".format,
        key="lost-speed-level",
        bind="query-params",
    )
    show_lost_speed(store, series.levels[level or levels[-1]], originals_of(series))


main()
