"""The answer that Explore opens on: which level to take within a budget."""

from __future__ import annotations

from typing import Literal, get_args

import streamlit as st

from cache.recommendation import Advice, Budget, BudgetName, Option, advise, options_of
from cache.series import capitalized
from cache.timings import Setting
from compression.levels import LEVELS, ORIGINAL
from compression.models.tasks import TASKS
from pages.parts.explore.tradeoff_view import ELSEWHERE, PICKED
from pages.parts.explore.view import View
from pages.parts.jobs.runs import plain

BudgetLabel = Literal["Accuracy lost", "GFLOPs", "Parameters", "File size", "Latency"]

# What is asked for -> what it is, unit, and the step of its field.
_BUDGETS: dict[BudgetLabel, tuple[BudgetName, str, float]] = {
    "Accuracy lost": ("loss", "points of {accuracy}", 0.1),
    "GFLOPs": ("gflops", "GFLOPs, training graph", 0.1),
    "Parameters": ("params", "millions, training graph", 0.1),
    "File size": ("size", "MB of the checkpoint", 0.1),
    "Latency": ("time", "ms a pass", 0.1),
}
# Points of mAP50-95: what most readers of a benchmark table would call the same.
USUAL_LOSS = 1.0
# Of the original's cost, where a budget of costs begins.
USUAL_PART = 0.85
# Session state: the budget has just changed.
_FOLLOW = "follow-answer"
_KIND_HELP = (
    "Accuracy lost: the smallest level that stays within it. A cost: the most accurate level that stays within it."
)


def show_recommendation(view: View) -> None:
    """Draw budget and answer. Has to be called before the slider is drawn, which begins at the answer."""
    if view.series is None or view.rivals is None:
        return
    with st.container(border=True, key="answer"):
        answer, asked = st.columns([3, 2], gap="large", vertical_alignment="center")
        with asked:
            label, setting = _choose_kind(view)
            options = _options(view, setting)
            budget = _choose_limit(view, label, setting, options)
        advice = advise(options, budget, view.rivals.spread, TASKS[view.task].main)
        option = advice.option
        _begin_at(view, option)
        with answer:
            _draw(advice, budget, setting)
            if option is not None:
                _offer_to_show(view, option)


def _offer_to_show(view: View, option: Option) -> None:
    """A button that turns to what is recommended, unless it is shown already, or is the original."""
    assert view.series is not None
    icon = ":material/arrow_downward:"
    if option.level is None:
        if st.session_state.get(PICKED) != option.key:
            st.button("Show its figures", icon=icon, on_click=_pick, args=(option.key,), key="show")
        return
    elsewhere = option.seed != view.series.seed
    if option.level in LEVELS and (elsewhere or option.level != st.session_state.get("level")):
        label = f"Show level {option.level}" + (f" of seed {option.seed}" if elsewhere else "")
        st.button(label, icon=icon, on_click=_turn_to, args=(option,), key="show")


def _options(view: View, setting: Setting | None) -> list[Option]:
    assert view.series is not None
    assert view.rivals is not None
    return options_of([view.series, *view.other_seeds], view.rivals, view.times[setting] if setting else None)


def _choose_kind(view: View) -> tuple[BudgetLabel, Setting | None]:
    """What the budget is of, and where times are those of."""
    labels = [label for label in get_args(BudgetLabel) if _BUDGETS[label][0] != "time" or view.times]
    label: BudgetLabel | None = st.segmented_control(
        "My limit is on",
        labels,
        default=labels[0],
        required=True,
        key="budget",
        bind="query-params",
        help=_KIND_HELP,
        on_change=_follow_answer,
    )
    label = label or labels[0]
    if _BUDGETS[label][0] != "time":
        return label, next(iter(view.times), None)
    by_label = {one.label: one for one in view.times}
    return label, by_label[st.selectbox("Timed on", list(by_label), key="budget-on", bind="query-params")]


def _choose_limit(view: View, label: BudgetLabel, setting: Setting | None, options: list[Option]) -> Budget:
    name, unit, step = _BUDGETS[label]
    is_loss = name == "loss"
    # Another cost is another field, so that its number is not taken for one of this.
    key = "limit" if is_loss else f"limit-{name}"
    if not is_loss:
        _forget_limit_of_another(key, view, setting if name == "time" else None)
    limit = st.number_input(
        f"At most, {unit.format(accuracy=TASKS[view.task].main)}",
        min_value=0.0,
        value=USUAL_LOSS if is_loss else _usual(name, options),
        step=step,
        key=key,
        bind="query-params",
        format="%.1f" if is_loss else "%.2f",
        on_change=_follow_answer,
    )
    return Budget(name=name, limit=limit)


def _forget_limit_of_another(key: str, view: View, setting: Setting | None) -> None:
    """A limit on the costs of one model means nothing for another one, or on another machine."""
    basis = (view.model, view.data, view.series.any_record.imgsz if view.series else None, setting)
    before = st.session_state.get(f"{key}-is-of")
    st.session_state[f"{key}-is-of"] = basis
    if before is not None and before != basis:
        st.session_state.pop(key, None)
        st.query_params.pop(key, None)


def _usual(name: BudgetName, options: list[Option]) -> float:
    costs = [option.costs[name] for option in options if name != "loss" and name in option.costs]
    return round(USUAL_PART * max(costs, default=0.0), 2)


def _begin_at(view: View, option: Option | None) -> None:
    """Let the slider begin at the answer, unless the address or the user says where, or only another seed has it."""
    fresh = "level" not in st.session_state and "level" not in st.query_params
    if not (st.session_state.pop(_FOLLOW, False) or fresh) or option is None or option.level not in LEVELS:
        return
    if view.series is not None and option.seed == view.series.seed:
        st.session_state["level"] = option.level


def _follow_answer() -> None:
    """Another budget is another question, so the slider goes where its answer is."""
    st.session_state[_FOLLOW] = True


def _turn_to(option: Option) -> None:
    st.session_state["level"] = option.level
    if option.seed != st.session_state.get("seed"):
        st.session_state["seed"], st.session_state[ELSEWHERE] = option.seed, True


def _pick(key: str) -> None:
    st.session_state[PICKED] = key


def _draw(advice: Advice, budget: Budget, setting: Setting | None) -> None:
    st.header(plain(advice.lead), anchor=False)
    st.markdown(plain(capitalized(advice.text)))
    notes = [advice.sureness, advice.missing]
    # Within a limit on a cost the original is the answer because it meets that limit.
    if budget.name == "loss" and advice.option is not None and advice.option.level == ORIGINAL:
        notes.append("Allow more, or measure further levels.")
    if setting is not None and advice.option is not None and "time" in advice.option.costs:
        notes.append(f"Time: {setting.label}.")
    if any(notes):
        st.caption(plain(" ".join(filter(None, notes))))
