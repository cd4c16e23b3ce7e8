"""The panel of runs: live progress, read from the store so that a reload loses nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import streamlit as st

from cache.store import Store
from compression.jobs import local
from pages.parts.access import guarded, may_act
from pages.parts.jobs.progress import RunView, Subject, run_views

POLL_SECONDS = 1.0

# Session state: a run of what is shown has just ended with a result, so that the page turns to it.
NEWEST_WANTED = "newest-wanted"


def show_runs(store: Store, subject: Subject, unmeasured: Collection[int]) -> None:
    """Draw the runs of a model and data set, and look again every second while one of them works."""
    views = _views(store, subject, unmeasured)
    working = any(view.state != "failed" for view in views)
    st.fragment(_draw, run_every=POLL_SECONDS if working else None)(store, subject, unmeasured)


def _views(store: Store, subject: Subject, unmeasured: Collection[int]) -> list[RunView]:
    return run_views(subject, store.queue.runs(), local.jobs(), unmeasured)


def _draw(store: Store, subject: Subject, unmeasured: Collection[int]) -> None:
    views = _views(store, subject, unmeasured)
    _note_endings(subject, views)
    for number, view in enumerate(views):
        with st.container(border=True, key=f"run-{number}"):
            _draw_failed(view, number) if view.state == "failed" else _draw_working(view)


def _note_endings(subject: Subject, views: list[RunView]) -> None:
    """Once a run is over, let the whole page read its result; a failure needs no more than its own box."""
    working = Counter(view.elsewhere for view in views if view.state != "failed")
    n_failed = sum(view.state == "failed" for view in views)
    noted = f"runs-of-{subject.model}-on-{subject.data}"
    before, before_failed = st.session_state.get(noted, (Counter(), 0))
    st.session_state[noted] = (working, n_failed)
    if working.total() < before.total():
        st.session_state[NEWEST_WANTED] = n_failed == before_failed and working[False] < before[False]
        st.rerun()


def _draw_working(view: RunView) -> None:
    is_what = "is queued" if view.state == "queued" else "is being measured"
    st.markdown(f"**{plain(view.title)} {is_what}.**{_how(view)} It goes on when you close this page.")
    if view.fraction is None:
        # An empty bar would say that nothing was done yet.
        st.markdown(f":material/hourglass_empty: {plain(view.line)}")
    else:
        st.progress(view.fraction, text=view.line)


def _draw_failed(view: RunView, number: int) -> None:
    # It may name paths of the server.
    why = plain(view.line) if may_act() else ""
    st.error(f"**{plain(view.title)} was not measured.**{_how(view)} {why}", icon=":material/error:")
    if not may_act():
        return
    lines = local.tail(view.log_file) if view.log_file else []
    if lines:
        with st.expander("End of its log"):
            st.code("\n".join(lines), language=None, wrap_lines=True)
    if view.job is not None:
        st.button("Dismiss", key=f"dismiss-{number}", on_click=guarded(local.forget), args=(view.job,))


def _how(view: RunView) -> str:
    return f" {plain(view.how).capitalize()}." if view.how else ""


def plain(text: str) -> str:
    """Text of a program, with nothing in it read as Markdown."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#$~:|" else sign for sign in text)
