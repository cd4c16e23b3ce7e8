"""Plans of levels that were not measured: from the store, or computed by a process in the background."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import streamlit as st

from cache.record import PlanRecord
from cache.store import Store, plan_key, sheet_key
from compression.jobs import local
from pages.parts.access import guarded, may_act
from pages.parts.jobs.runs import plain
from pages.parts.source import Source

POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class PlanQuestion:
    """Everything that decides the plans of a model.

    Attributes:
        source: the model.
        data: DATA as the command line takes it; None where the model has the wanted classes already.
        nc: number of classes that it shall predict.
        imgsz: side of the square input, pixels.
        kpt_shape: key points of the data set; None where it names none, or the model has them already.
    """

    source: Source
    data: str | None
    nc: int
    imgsz: int
    kpt_shape: tuple[int, int] | None = None

    def plan_key(self, level: int) -> str:
        """What the plan of a level is kept under."""
        source = self.source
        return plan_key(source.model, source.weights_sha256, self.nc, self.imgsz, level, self.kpt_shape)

    @property
    def sheet_key(self) -> str:
        """What the costs of the layers are kept under."""
        source = self.source
        return sheet_key(source.model, source.weights_sha256, self.nc, self.imgsz, self.kpt_shape)

    def arguments(self) -> tuple[str, ...]:
        """The command line that answers it."""
        return local.plan_arguments(self.source.model, self.data, imgsz=self.imgsz)


def find_plans(store: Store, question: PlanQuestion, levels: Collection[int]) -> dict[int, PlanRecord]:
    """The plans of those levels that the store has."""
    found = {level: store.find_plan(question.plan_key(level)) for level in levels}
    return {level: plan for level, plan in found.items() if plan is not None}


def show_planning(store: Store, question: PlanQuestion, missing: Collection[int]) -> None:
    """Start the process that computes missing plans if need be, and say how it stands; redraw the page at the end."""
    if not may_act():
        st.caption("Nobody has planned yet what this level would cut.")
        return
    job = local.find_job(question.arguments())
    over = job is not None and job.exit_code() is not None
    st.fragment(_draw, run_every=None if over else POLL_SECONDS)(store, question, missing, over)


def _draw(store: Store, question: PlanQuestion, missing: Collection[int], was_over: bool) -> None:
    job = local.find_job(question.arguments())
    if len(find_plans(store, question, missing)) == len(missing):
        if job is not None:
            local.forget(job)
        st.rerun()
    if job is None and may_act():
        try:
            job = _start_unless_busy(question)
        except OSError as error:
            st.error(f"The planner cannot be started: {error}.", icon=":material/error:")
            return
    exit_code = job.exit_code() if job else None
    if was_over and (job is None or exit_code is None):
        # "Plan again": this fragment does not look by itself, which the one of the page drawn anew does.
        st.rerun()
    if job is None or exit_code is None:
        waiting = "Waiting for another plan to finish." if job is None else "Planning what each level would cut."
        st.info(f"{waiting} Exact costs appear here in a few seconds.", icon=":material/hourglass_empty:")
    else:
        why = job.last_line() if exit_code else "The planner ended without a plan for every level."
        st.error(f"The costs of this level could not be planned. {plain(why)}", icon=":material/error:")
        st.button("Plan again", on_click=guarded(local.forget), args=(job,))


def _start_unless_busy(question: PlanQuestion) -> local.Job | None:
    """One plan at a time, so that leafing through models does not fill the machine with processes."""
    if any(job.kind == "plan" and job.exit_code() is None for job in local.jobs()):
        return None
    return local.start_plan(question.source.model, question.data, imgsz=question.imgsz)
