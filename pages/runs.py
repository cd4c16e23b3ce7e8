"""Runs: what is at work, what waits in which order, and how the others ended."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from cache.queue import RunQueue
from cache.record import RunStatus
from cache.store import Store
from compression.errors import TrimboardError
from compression.jobs import control, worker
from compression.jobs.logs import log_tail
from pages.parts import frame
from pages.parts.access import check_may_act, guarded, may_act
from pages.parts.jobs.run_cards import RunCard, cards_of, utc_now
from pages.parts.jobs.runs import plain
from pages.parts.plots import CONFIG, draw_accuracy_curve, draw_loss_curve
from pages.parts.results import open_store

POLL_S = 1.0
# A cluster is asked over the network, so less often.
CLUSTER_EVERY_S = 10.0
# Of the runs that are over so many are shown at first.
MOST_SHOWN = 20

_STATE_BADGES = {
    "done": (":material/check_circle:", "green"),
    "failed": (":material/error:", "red"),
    "interrupted": (":material/power_off:", "orange"),
    "cancelled": (":material/cancel:", "gray"),
}
_NO_RUNS = (
    "No run was asked for yet. Start one on the page Explore, or queue many at once: "
    "`trimboard sweep yolo26n.pt --data shapes --levels 1-5`."
)
_REMOVE_HELP = "From this list only: its result, where it has one, stays."
# Session state: why the last click did nothing.
_REFUSAL = "refusal"


def main() -> None:
    """Draw the page."""
    frame.begin("Runs")
    st.title("Runs")
    st.markdown(
        "One run at a time works on each device; the others wait in order. Runs belong to no browser: closing this "
        "page, or the server, changes nothing. What was interrupted goes on from its last whole epoch once you resume "
        "it."
    )
    store = open_store()
    # A run may also be queued on the command line, or by a colleague.
    st.fragment(_draw, run_every=POLL_S)(store)


def _draw(store: Store) -> None:
    try:
        runs = store.queue.runs()
    except TrimboardError as error:
        st.error(str(error), icon=":material/error:")
        return
    refusal = st.session_state.pop(_REFUSAL, "")
    if refusal:
        st.warning(refusal, icon=":material/info:")
    waiting = tuple(run.key for run in runs if run.executor == "ray" and run.state == "queued")
    if waiting:
        _settle_cluster(store.queue, waiting)
    pairs = list(zip(runs, cards_of(runs, utc_now()), strict=True))
    if not pairs:
        st.info(_NO_RUNS if may_act() else "No run was asked for yet.", icon=":material/info:")
        return
    _draw_at_work(store.queue, [pair for pair in pairs if pair[0].state == "running"])
    _draw_queued(store.queue, [pair for pair in pairs if pair[0].state == "queued"])
    _draw_over(store.queue, [pair for pair in pairs if pair[0].state not in ("running", "queued")])


def _draw_at_work(queue: RunQueue, pairs: list[tuple[RunStatus, RunCard]]) -> None:
    st.header("At work", anchor=False)
    if not pairs:
        st.caption("Nothing is at work.")
    for run, card in pairs:
        with st.container(border=True, key=f"work-{card.key[:12]}"):
            with _line(f"**{plain(card.title)}** · {plain(card.how)}"):
                _button("Cancel", ":material/cancel:", lambda key: control.cancel(queue, key), card)
            if card.fraction is None:
                st.markdown(f":material/hourglass_empty: {plain(card.line)}")
            else:
                st.progress(card.fraction, text=card.line)
            st.caption(" · ".join(plain(fact) for fact in card.facts))
            _draw_curves(queue, card)
            _draw_log(run)


def _draw_curves(queue: RunQueue, card: RunCard) -> None:
    curve = queue.curve(card.key)
    if not curve:
        return
    left, right = st.columns(2)
    left.plotly_chart(
        draw_accuracy_curve(curve, card.task), key=f"accuracy-{card.key[:12]}", config=CONFIG, width="stretch"
    )
    right.plotly_chart(draw_loss_curve(curve), key=f"loss-{card.key[:12]}", config=CONFIG, width="stretch")


@st.cache_data(ttl=CLUSTER_EVERY_S, show_spinner=False)
def _cluster_log(key: str, _run: RunStatus) -> list[str]:
    return log_tail(_run)


@st.cache_data(ttl=CLUSTER_EVERY_S, show_spinner=False)
def _settle_cluster(_queue: RunQueue, waiting: tuple[str, ...]) -> None:
    """Ask the cluster after queued runs whose job may have ended before they began."""
    from compression.jobs.ray_cluster import settle

    settle(_queue)


def _draw_log(run: RunStatus) -> None:
    # A log names places and people of the server, which are no results.
    if not may_act():
        return
    lines = log_tail(run) if run.executor == "local" else _cluster_log(run.key, run)
    if lines:
        with st.expander("End of its log"):
            st.code("\n".join(lines), language=None, wrap_lines=True)


def _draw_queued(queue: RunQueue, pairs: list[tuple[RunStatus, RunCard]]) -> None:
    if not pairs:
        return
    st.header(f"In the queue ({len(pairs)})", anchor=False)
    if any(worker.is_ours(run) for run, _ in pairs) and not worker.is_at_work():
        st.warning("Nobody works on this machine's queue: its worker was ended.", icon=":material/power_off:")
        if may_act():
            st.button("Work on the queue", on_click=guarded(worker.ensure_worker), type="primary", key="ensure-worker")
    # A cluster has an order of its own.
    movable = [run.key for run, _ in pairs if run.executor == "local"]
    for place, (run, card) in enumerate(pairs, start=1):
        text = f"{place}\\. **{plain(card.title)}** · {plain(card.how)} · {plain(card.line)}"
        with st.container(border=True, key=f"queued-{card.key[:12]}"), _line(text):
            if run.key in movable:
                first, last = run.key == movable[0], run.key == movable[-1]
                _button("Earlier", ":material/arrow_upward:", lambda key: queue.move(key, -1), card, disabled=first)
                _button("Later", ":material/arrow_downward:", lambda key: queue.move(key, 1), card, disabled=last)
            _button("Cancel", ":material/cancel:", lambda key: control.cancel(queue, key), card)


def _draw_over(queue: RunQueue, pairs: list[tuple[RunStatus, RunCard]]) -> None:
    if not pairs:
        return
    st.header(f"Over ({len(pairs)})", anchor=False)
    all_shown = len(pairs) <= MOST_SHOWN or st.toggle(f"Show all {len(pairs)}", key="all-runs", bind="query-params")
    for run, card in pairs if all_shown else pairs[:MOST_SHOWN]:
        with st.container(border=True, key=f"over-{card.key[:12]}"):
            icon, colour = _STATE_BADGES[card.state]
            # Why a run ended may name paths of the server.
            line = card.line if may_act() else card.line.removesuffix(run.message).strip()
            with _line(f":{colour}[{icon}] **{plain(card.title)}** · {plain(card.how)} · {plain(line)}"):
                if card.resumable:
                    _button("Resume", ":material/play_arrow:", lambda key: control.resume(queue, key), card)
                _button("Remove", ":material/delete:", queue.remove, card, help_=_REMOVE_HELP)
            if card.state != "done":
                _draw_log(run)


def _line(text: str) -> st.delta_generator.DeltaGenerator:
    """A text, and the place for its buttons: beside it at the right, or below it where there is little room."""
    line = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center")
    line.markdown(text, width="content")
    return line.container(horizontal=True, gap="small", width="content")


def _button(
    label: str,
    icon: str,
    action: Callable[[str], object],
    card: RunCard,
    *,
    help_: str | None = None,
    disabled: bool = False,
) -> None:
    """A button that acts on a run; where the run has moved on since it was drawn, the page says so."""
    if not may_act():
        return

    def act() -> None:
        try:
            check_may_act()
            action(card.key)
        except (TrimboardError, OSError) as error:
            st.session_state[_REFUSAL] = str(error)

    st.button(label, icon=icon, key=f"{label}-{card.key[:12]}", help=help_, on_click=act, disabled=disabled)


main()
