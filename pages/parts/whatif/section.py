"""What if a layer were locked, or cut deeper? Costs follow at once, the accuracy without training within a minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from cache.record import Costs, LayerRow
from compression.errors import TrimboardError
from compression.graph.layer_groups import Choice, LayerGroups
from compression.jobs import local
from compression.models.tasks import TASKS
from compression.request import RunRequest
from compression.spec import CutMethod
from compression.wishes import ALL, Wish, parse_wishes, settled
from pages.parts import formats
from pages.parts.access import check_may_act, may_act
from pages.parts.explore.view import View
from pages.parts.jobs.launch import LaunchOptions
from pages.parts.jobs.progress import progress_line
from pages.parts.jobs.runs import plain
from pages.parts.outcome import Outcome
from pages.parts.plots import CONFIG
from pages.parts.whatif.changed_plan import (
    ChangedPlan,
    address_text,
    changed_plan,
    counts_of_rows,
    coupled_in_words,
    in_short,
    strip,
    totals,
    untrained_metrics,
    with_wish,
)
from pages.parts.whatif.plot import draw_strip
from pages.parts.whatif.sheet import layer_groups_of

POLL_SECONDS = 1.0
ADDRESS = "wish"
# Session state: the wishes, and of which model they are.
WISHES, WISHES_OF = "wishes", "wishes-of"

ORIGINAL_NAME, _CHOSEN_LEVEL = "Original", "Chosen level"
_HELP = (
    "Lock a layer or cut it deeper: the costs follow at once. What the other layers keep stays as it is in the chosen "
    "level."
)
_OTHER_LAYERS = "The layers of this level are not those of the model that is here, so they cannot be changed."
_NOTHING_CUT = "Nothing is cut by this, so there is nothing to measure."
_NOT_HERE = "The model or the data set is not on this machine, so the accuracy cannot be measured here."
_UNTRAINED_ORIGINAL = "Measure the original or a level first: the model has to be trained on this data set."
_AS_PLANNED, _ANEW = "stay as they are", "are planned anew for the level's target"


@st.fragment
def show_whatif(view: View, level: int, outcome: Outcome) -> None:
    """Draw the section.

    Args:
        view: what was chosen above.
        level: the chosen one.
        outcome: what is known of it.
    """
    st.header("What if?", anchor=False)
    problem = _read_address(view.model)
    if not st.toggle("Change layers by hand", value=bool(_wishes()), key="whatif", bind="query-params", help=_HELP):
        return
    if problem:
        st.warning(plain(problem), icon=":material/link_off:")
    groups = layer_groups_of(view)
    if groups is None:
        return
    if view.series is not None and view.series.any_record.costs_original.params != _params(groups):
        st.info(_OTHER_LAYERS, icon=":material/info:")
        return
    start_name = _choose_start(level, outcome)
    start_rows = outcome.layers if start_name != ORIGINAL_NAME else _uncut_rows(groups)
    start = counts_of_rows(groups, start_rows)
    if start is None:
        st.info(_OTHER_LAYERS, icon=":material/info:")
        return
    try:
        changed = changed_plan(groups, start, _wishes())
    except TrimboardError as error:
        st.error(plain(str(error)), icon=":material/error:")
        st.button("Remove all wishes", key="whatif-clear", on_click=_set, args=((),))
        return
    left, right = st.columns([5, 6], gap="large")
    with left:
        _draw_editor(groups, changed)
        _draw_wishes(changed, start_name)
    with right:
        _draw_totals(groups, outcome, changed, start_name)
        _draw_accuracy(view, outcome, changed, start_name)
    plans: dict[str, Sequence[LayerRow]] = {"What if": changed.rows}
    if start_name != ORIGINAL_NAME:
        plans = {start_name: start_rows, **plans}
    st.plotly_chart(draw_strip(strip(plans, changed.wished)), key="whatif-strip", config=CONFIG, width="stretch")
    _draw_keep(view, level, changed, start_name)


# State


def _wishes() -> tuple[Wish, ...]:
    found: tuple[Wish, ...] = st.session_state.get(WISHES, ())
    return found


def _set(wishes: tuple[Wish, ...]) -> None:
    st.session_state[WISHES] = wishes
    if wishes:
        st.query_params[ADDRESS] = address_text(wishes)
    elif ADDRESS in st.query_params:
        del st.query_params[ADDRESS]


def _read_address(model: str) -> str:
    """Take what the link wishes on a visit's first run, and forget what was wished of another model.

    Returns:
        What is wrong with the link; empty if nothing.
    """
    before = st.session_state.get(WISHES_OF)
    st.session_state[WISHES_OF] = model
    if before is not None:
        if before != model:
            _set(())
        return ""
    try:
        st.session_state[WISHES] = parse_wishes((), [st.query_params.get(ADDRESS, "").replace(":", "=")])
    except TrimboardError as error:
        _set(())
        return f"What this link wishes of layers cannot be read. {error}"
    return ""


def _choose_start(level: int, outcome: Outcome) -> str:
    names = [f"Level {level}", ORIGINAL_NAME] if outcome.layers else [ORIGINAL_NAME]
    if len(names) == 1:
        return ORIGINAL_NAME
    # Named alike for all levels, so that the choice lasts while the slider moves.
    chosen = st.segmented_control(
        "Start from",
        [_CHOSEN_LEVEL, ORIGINAL_NAME],
        default=_CHOSEN_LEVEL,
        required=True,
        key="whatif-from",
        bind="query-params",
    )
    return names[1] if chosen == ORIGINAL_NAME else names[0]


def _params(groups: LayerGroups) -> int | None:
    return groups.sheet.costs(groups.sheet.widths).params


def _uncut_rows(groups: LayerGroups) -> tuple[LayerRow, ...]:
    return groups.sheet.rows(groups.sheet.widths)


# Drawing


def _draw_editor(groups: LayerGroups, changed: ChangedPlan) -> None:
    choices = {choice.layer: choice for choice in groups.choices()}
    kept = {row.name: row.channels_after for row in changed.rows}

    # Options that read otherwise after each change would lose what was chosen.
    layer = st.selectbox("Layer", list(choices), key="whatif-layer")
    choice = choices[layer]
    key = f"whatif-kept-{layer}"
    # What the plan keeps need not stand on a step.
    options = sorted({*choice.counts, kept[layer]})
    st.session_state[key] = kept[layer]
    if len(options) > 1:
        label = f"Channels kept, of {options[-1]}"
        st.select_slider(label, options, key=key, on_change=_wish_by_slider, args=(groups, choice, key))
    st.button(
        "Lock: keep all channels",
        key="whatif-lock",
        icon=":material/lock:",
        disabled=any(one.wish.layer == layer and one.wish.locks for one in changed.wished),
        on_click=_wish,
        args=(groups, Wish(layer=layer, kept=ALL)),
    )


def _wish_by_slider(groups: LayerGroups, choice: Choice, key: str) -> None:
    n_kept = int(st.session_state[key])
    # A single channel would read as the whole layer.
    part = ALL if n_kept == choice.counts[-1] else n_kept if n_kept > 1 else n_kept / choice.counts[-1]
    _wish(groups, Wish(layer=choice.layer, kept=part))


def _wish(groups: LayerGroups, wish: Wish) -> None:
    _set(with_wish(groups, _wishes(), wish))


def _draw_wishes(changed: ChangedPlan, start_name: str) -> None:
    if not changed.wished:
        st.caption("Nothing is changed yet. Move the slider, or lock the layer.")
        return
    for one in changed.wished:
        named = start_name if start_name != ORIGINAL_NAME else None
        others = tuple(wish for wish in _wishes() if wish != one.wish)
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            # First, so that it has one place whatever the length of the line.
            st.button(
                "",
                key=f"whatif-remove-{one.wish.layer}",
                icon=":material/close:",
                help=f"Remove the wish about {one.wish.layer}",
                type="tertiary",
                on_click=_set,
                args=(others,),
            )
            st.markdown(f"`{one.wish.layer}` {plain(in_short(one, named))}")
        if one.coupled:
            st.caption(plain(coupled_in_words(one)))
    if len(changed.wished) > 1:
        st.button("Remove all wishes", key="whatif-clear", on_click=_set, args=((),))


def _draw_totals(groups: LayerGroups, outcome: Outcome, changed: ChangedPlan, start_name: str) -> None:
    original = groups.sheet.costs(groups.sheet.widths)
    start: Costs | None = outcome.costs if start_name != ORIGINAL_NAME else None
    st.table(totals(original, start, changed.costs, start_name), border="horizontal", hide_index=True)


def _draw_accuracy(view: View, outcome: Outcome, changed: ChangedPlan, start_name: str) -> None:
    """The accuracy without training: what was measured of it, how far that is, or the button that begins it."""
    if not changed.layers:
        st.caption(_NOTHING_CUT)
        return
    request = _request(view, changed.layers, epochs=0)
    if request is None or view.series is None:
        st.caption(_NOT_HERE if view.series is not None else _UNTRAINED_ORIGINAL)
        return
    if request.method.recovery == "none":
        # Conditions that leave it all to the training tell nothing without any.
        request = replace(request, method=CutMethod(seed=request.seed))
    found = untrained_metrics(request, view.series, view.records)
    if found is not None:
        metrics, record = found
        before = record.metrics_original.map50_95
        change = formats.change(before, metrics.map50_95)
        st.metric(
            f"{TASKS[view.task].main} without training",
            formats.accuracy(metrics.map50_95),
            change,
            delta_description=f"from {formats.accuracy(before)}",
            border=True,
        )
        st.caption(_beside(outcome, start_name, sum(record.seconds.values())))
        return
    if _at_work(view, request):
        st.fragment(_draw_progress, run_every=POLL_SECONDS)(view, request)
    elif may_act():
        if st.button("Accuracy without training", key="whatif-measure", icon=":material/speed:", type="primary"):
            _start(request)
        st.caption(
            f"Cuts the model, recovers it by its training images and measures it, in the background (criterion "
            f"{request.method.criterion}, recovery {request.method.recovery})."
        )
    else:
        st.caption("Its accuracy was not measured.")


def _beside(outcome: Outcome, start_name: str, seconds: float) -> str:
    """What the start has without training, and how long the measurement took."""
    record = outcome.record
    parts = [f"Cut, recovered and measured in {formats.duration(seconds)}."]
    if record is not None and start_name != ORIGINAL_NAME:
        untrained = record.metrics_recovered
        if untrained is not None:
            parts.append(f"{start_name} has {formats.accuracy(untrained.map50_95)} after recovery.")
    return " ".join(parts)


def _at_work(view: View, request: RunRequest) -> bool:
    job = local.find_job(local.run_arguments(request))
    states = [status.state for status in view.store.queue.runs() if status.request == request]
    return (job is not None and job.exit_code() is None) or any(state in ("queued", "running") for state in states)


def _draw_progress(view: View, request: RunRequest) -> None:
    if not _at_work(view, request):
        # The whole page, which reads results.
        st.rerun()
    status = next((one for one in view.store.queue.runs() if one.request == request), None)
    line = "Checking what was asked" if status is None else progress_line(status.progress)
    st.info(
        plain(line if status is None or status.state == "running" else "Waits for its device"),
        icon=":material/hourglass_empty:",
    )


def _draw_keep(view: View, level: int, changed: ChangedPlan, start_name: str) -> None:
    """Fine-tune this cut: the form and the command."""
    if not may_act() or not changed.layers:
        return
    with st.expander("Keep as a custom run", icon=":material/bookmark_add:"):
        if view.options is None or _request(view, changed.layers, epochs=0) is None:
            st.caption(_NOT_HERE)
            return
        left, right = st.columns(2)
        usual = view.options.epochs
        epochs = left.number_input(
            "Epochs", 0, max(10_000, usual), usual, key="whatif-epochs", help="0 trains nothing."
        )
        anew = False
        if start_name != ORIGINAL_NAME and changed.wished:
            anew = right.selectbox("The other layers", [_AS_PLANNED, _ANEW], key="whatif-rest") == _ANEW
        wishes = settled(one.wish for one in changed.wished) if anew else changed.layers
        request = _request(view, wishes, epochs=int(epochs))
        assert request is not None
        if anew:
            request = replace(request, level=level)
        if st.button("Keep as a custom run", key="whatif-keep", type="primary", icon=":material/play_arrow:"):
            _start(request)
        st.caption(f"Under the conditions above: {_conditions(view.options)}. Or on the command line:")
        st.code(request.command(), language="bash", wrap_lines=True)


def _request(view: View, layers: tuple[Wish, ...], *, epochs: int) -> RunRequest | None:
    """A run under the page's conditions; None where the weights that were measured or the data set are not here."""
    options = view.options
    # Several models are offered where the one that was measured is not here.
    if options is None or len(options.models) > 1:
        return None
    return RunRequest(
        model=next(iter(options.models)),
        data=options.data,
        layers=layers,
        classes=options.classes,
        recipe=options.recipe,
        method=options.method,
        epochs=epochs,
        patience=options.patience,
        imgsz=options.imgsz,
        batch=options.batch,
        seed=options.seed,
        head=options.head,
    )


def _conditions(options: LaunchOptions) -> str:
    return (
        f"{options.imgsz} px, criterion {options.method.criterion}, recovery {options.method.recovery}, recipe "
        f"{options.recipe}, seed {options.seed}"
    )


def _start(request: RunRequest) -> None:
    try:
        check_may_act()
        local.start_run(request)
    except (TrimboardError, OSError) as error:
        st.error(f"The run cannot be started: {error}", icon=":material/error:")
    else:
        st.rerun()
