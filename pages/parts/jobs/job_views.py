"""Work in the background as a page shows it: what it does now, and what it could not do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st

from compression.jobs import local
from compression.jobs.local import Job, tail
from pages.parts.access import guarded
from pages.parts.jobs.runs import plain

POLL_SECONDS = 1.0
# Ultralytics tells much of each export; what we tell stands within so many lines.
LOG_LINES = 400
# How the command line marks its progress, and a sentence that says what went wrong.
PROGRESS, SENTENCE = "[trimboard] ", "trimboard: "


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job, as the page shows it.

    Attributes:
        job: the process.
        line: what it does now; empty once it is over.
        problems: what could not be done and why, a sentence each; only once it is over.
    """

    job: Job
    line: str
    problems: tuple[str, ...]


def job_view(job: Job) -> JobView:
    """How a job stands, by its exit code and its log."""
    lines = [line.strip() for line in tail(job.log_file, LOG_LINES)]
    code = job.exit_code()
    if code is None:
        told = [line.removeprefix(PROGRESS) for line in lines if line.startswith(PROGRESS)]
        return JobView(job=job, line=told[-1] if told else "opening the checkpoint and the data set", problems=())
    problems = tuple(line.removeprefix(SENTENCE) for line in lines if line.startswith(SENTENCE))
    if code and not problems:
        problems = (job.last_line() or "The process ended before it could say why.",)
    return JobView(job=job, line="", problems=problems)


def show_jobs(find: Callable[[], Sequence[Job]], count: Callable[[], int], *, can_cancel: bool = False) -> None:
    """Draw jobs that are at work or failed, and look again every second while one works.

    Args:
        find: the jobs of what the page shows.
        count: how much of their work is done; where it changes, the whole page is drawn again.
        can_cancel: offer to end those at work.
    """
    views = [job_view(job) for job in find()]
    for view in views:
        if not view.line and not view.problems:
            local.forget(view.job)
    working = any(view.line for view in views)
    st.fragment(_draw, run_every=POLL_SECONDS if working else None)(find, count, working, count(), can_cancel)


def _draw(
    find: Callable[[], Sequence[Job]], count: Callable[[], int], was_working: bool, n_shown: int, can_cancel: bool
) -> None:
    views = [job_view(job) for job in find()]
    if any(view.line for view in views) != was_working or count() != n_shown:
        # Something is done, or all is: the rest of the page is not part of what is looked at every second.
        st.rerun()
    for number, view in enumerate(views):
        if view.line:
            st.info(f"{plain(view.line)}. It goes on when you close this page.", icon=":material/hourglass_empty:")
            if can_cancel:
                st.button("Cancel", key=f"cancel-job-{number}", on_click=guarded(local.cancel), args=(view.job,))
        elif view.problems:
            _draw_problems(view, number)


def _draw_problems(view: JobView, number: int) -> None:
    with st.container(border=True, key=f"problems-{number}"):
        for sentence in view.problems:
            st.error(plain(sentence), icon=":material/error:")
        with st.expander("End of its log"):
            st.code("\n".join(tail(view.job.log_file)), language=None, wrap_lines=True)
        st.button("Dismiss", key=f"dismiss-job-{number}", on_click=guarded(local.forget), args=(view.job,))
