"""Measuring what each layer is worth, from the page: the question, the button, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import streamlit as st

from cache.rivals import originals_of
from cache.sensitivity import DEFAULT_IMAGES, DEFAULT_PART, SensitivityRecord, measured_like
from cache.series import Series
from cache.store import Store
from compression.catalog import TaskName
from compression.jobs import local
from compression.models.tasks import TASKS
from pages.parts import formats
from pages.parts.access import AccessError, check_may_act, may_act
from pages.parts.explore.view import View
from pages.parts.jobs.job_views import show_jobs
from pages.parts.source import original_checkpoint, source_of

# What a run calls the stage in which it validated a level, by which the time of a pass is known.
VALIDATING = "measuring"


@dataclass(frozen=True, kw_only=True)
class SensitivityQuestion:
    """How the sensitivity of the shown model is measured here.

    Attributes:
        arguments: the command line; empty where the model or the data set is not on this machine.
        seconds: what it takes at most, by the time that validating took in a run; None where that is not known.
    """

    arguments: tuple[str, ...]
    seconds: float | None


def sensitivity_of(store: Store, series: Series | None) -> SensitivityRecord | None:
    """The newest sensitivities of a series' original, measured as its levels were."""
    if series is None:
        return None
    return measured_like(series, store.sensitivities(originals_of(series)))


def question_of(view: View) -> SensitivityQuestion | None:
    """How to measure the sensitivity of what is shown; None where nothing of it was measured yet."""
    series = view.series
    if series is None:
        return None
    record, here = series.any_record, partial(view.store.artifact_path, fetch=False)
    # A model of some classes is only in the checkpoint that its original left.
    source = original_checkpoint(series, here) if series.spec.classes else source_of(series, here)
    arguments: tuple[str, ...] = ()
    if source is not None and view.options is not None:
        arguments = local.sensitivity_arguments(
            source.model, view.options.data, classes=view.options.classes, imgsz=record.imgsz, head=record.head
        )
    passes = [one.seconds[VALIDATING] for one in series.compressed if VALIDATING in one.seconds]
    n_cuts = sum(row.locked is None for row in record.layers)
    return SensitivityQuestion(arguments=arguments, seconds=n_cuts * passes[0] if passes and n_cuts else None)


def _explained(task: TaskName) -> str:
    return (
        f"Cuts {100 * DEFAULT_PART:g}% of one layer's channels and nothing else, measures {TASKS[task].main} on at "
        f"most {DEFAULT_IMAGES} validation images with nothing recovered and nothing trained, and goes on to the next "
        "layer. It shows which layers can give, and is kept."
    )


def offer_to_measure(view: View, record: SensitivityRecord | None) -> None:
    """Draw the button where nothing is measured, the process where one is at work, or why neither is possible."""
    question = question_of(view)
    if question is None:
        st.caption("The sensitivity of layers can be measured once the original or one of its levels is.")
        return
    if not may_act():
        if record is None:
            st.caption("Nobody has measured the sensitivity of these layers yet.")
        return
    show_jobs(
        lambda: [job for job in [local.find_job(question.arguments)] if job],
        lambda: int(sensitivity_of(view.store, view.series) is not None),
        can_cancel=True,
    )
    if record is not None or local.find_job(question.arguments) is not None:
        return
    if not question.arguments:
        st.caption(
            "The sensitivity of these layers is not measured; for that the original's weights and the data set have to "
            "be on this machine."
        )
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        asked = st.button(
            "Measure the layers' sensitivity",
            icon=":material/biotech:",
            key="measure-sensitivity",
            help=_explained(view.task),
        )
        if question.seconds is not None:
            st.caption(f"At most about {formats.duration(question.seconds)}, by the time that validating a level took.")
    if asked:
        try:
            check_may_act()
            local.start_sensitivity(question.arguments)
        except (OSError, AccessError) as error:
            st.error(f"The measurement cannot be started: {error}", icon=":material/error:")
        else:
            st.rerun()
