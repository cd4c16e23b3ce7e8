"""What the layers of the shown model cost: from the store, or counted by a process in the background."""

from __future__ import annotations

import streamlit as st

from compression.errors import TrimboardError
from compression.graph.layer_groups import LayerGroups
from compression.jobs import local
from pages.parts.access import check_may_act, guarded, may_act
from pages.parts.explore.view import View
from pages.parts.jobs.planning import POLL_SECONDS, PlanQuestion
from pages.parts.jobs.runs import plain

_NO_SHEET = "Nobody has counted yet what the layers of this model cost."


def layer_groups_of(view: View) -> LayerGroups | None:
    """Which layers there are and what they cost; None, with the reason, while that is not known."""
    question = view.question
    if question is None:
        st.info((may_act() and view.problem) or _NO_SHEET, icon=":material/info:")
        return None
    sheet = view.store.find_sheet(question.sheet_key)
    if sheet is not None:
        align = view.options.method.align if view.options else view.series.spec.align if view.series else None
        return LayerGroups(sheet) if align is None else LayerGroups(sheet, align)
    if may_act():
        st.fragment(_count, run_every=POLL_SECONDS)(view, question)
    else:
        st.caption(_NO_SHEET)
    return None


def _count(view: View, question: PlanQuestion) -> None:
    """Have the layers counted in the background, and draw again when they are."""
    source = question.source
    job = local.find_job(question.arguments())
    if view.store.find_sheet(question.sheet_key):
        if job is not None:
            local.forget(job)
        st.rerun()
    exit_code = job.exit_code() if job else None
    if exit_code is not None and job is not None:
        why = job.last_line() if exit_code else "The planner ended without them."
        st.error(f"The costs of the layers could not be counted. {plain(why)}", icon=":material/error:")
        st.button("Count again", key="whatif-count", on_click=guarded(local.forget), args=(job,))
        return
    if job is None:
        try:
            check_may_act()
            local.start_plan(source.model, question.data, imgsz=question.imgsz)
        except (TrimboardError, OSError) as error:
            st.error(f"The costs of the layers cannot be counted: {error}", icon=":material/error:")
            return
    st.info("Counting what each layer costs. It takes a few seconds, once.", icon=":material/hourglass_empty:")
