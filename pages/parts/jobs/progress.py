"""What a page says about the runs of one model and data set: running, waiting, about to be queued, or failed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cache.record import Progress, RunState, RunStatus
from cache.series import method_label
from compression.catalog import TaskName, model_label
from compression.jobs.local import Job
from compression.levels import ORIGINAL
from compression.models.tasks import TASKS
from compression.wishes import Wish, in_short
from pages.parts import formats

# How a run ends that a user did not end.
FAILED: tuple[RunState, ...] = ("failed", "interrupted")


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run as a page shows it.

    Attributes:
        title: which level, and on which data set where that is not the page's.
        state: about to be queued, waiting for its device, at work, or over without a result.
        line: what it does now, or why it failed.
        fraction: part of the stage that is done; None where the stage does not tell.
        how: method and seed, in a few words; empty where the run has not told them yet.
        log_file: its output, for the tail of a failed run.
        job: the process that queued it, if this server started that.
        elsewhere: its result is listed under another data set, or apart from the levels, with its own wishes.
    """

    title: str
    state: Literal["starting", "queued", "running", "failed"]
    line: str
    fraction: float | None = None
    how: str = ""
    log_file: Path | None = None
    job: Job | None = None
    elsewhere: bool = False


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whose runs are asked for.

    Attributes:
        model: label of the model.
        data: name of the data set.
        weights: hashes of weights that this model's results started from; a run may name them by a path.
        arguments: MODEL and DATA as this page passes them to a run.
        classes: the only classes that its results are of, as this page passes them to a run; "" for all.
    """

    model: str
    data: str
    weights: frozenset[str]
    arguments: frozenset[str]
    classes: str = ""


def run_views(
    subject: Subject, statuses: Sequence[RunStatus], jobs: Sequence[Job], unmeasured: Collection[int]
) -> list[RunView]:
    """The runs to show, working ones first.

    Args:
        subject: whose runs.
        statuses: runs as the queue gives them.
        jobs: processes that this server started.
        unmeasured: levels without a result; failures of other levels are only shown if this server started them.
    """
    own = {job.request: job for job in jobs if job.kind == "run" and _is_job_of(job, subject)}
    known = [status for status in statuses if status.request in own or _is_status_of(status, subject)]
    registered = {status.request for status in known}
    waiting = [job for job in own.values() if job.request not in registered]
    running = [_running(status, subject) for status in known if status.state == "running"]
    queued = [_queued(status, statuses, subject) for status in known if status.state == "queued"]
    starting = [_starting(job, subject) for job in waiting if job.exit_code() is None]
    refused = [_refused(job, subject) for job in waiting if job.exit_code() not in (None, 0)]
    failed = [
        _failed(status, own.get(status.request), subject)
        for status in _latest_of_each_level(known)
        if status.state in FAILED and (status.request in own or status.spec.level in unmeasured)
    ]
    return running + queued + starting + refused + failed


def _is_job_of(job: Job, subject: Subject) -> bool:
    request = job.request
    if request is None or not {request.model, request.data} <= subject.arguments:
        return False
    # A run on some classes can be started from the page of all of them, and is told there too.
    return subject.classes in ("", request.classes)


def _is_status_of(status: RunStatus, subject: Subject) -> bool:
    spec = status.spec
    same_model = model_label(spec.model) == subject.model or spec.weights_sha256 in subject.weights
    return spec.data == subject.data and same_model


def _latest_of_each_level(statuses: Sequence[RunStatus]) -> list[RunStatus]:
    """A failure that a later run of the level has made good, or that a later run repeats, is no news."""
    latest: dict[tuple[object, ...], RunStatus] = {}
    for status in statuses:
        latest.setdefault((status.spec.level, status.spec.target, status.spec.data), status)
    return list(latest.values())


def _heading(level: int | None, data: str, subject: Subject, wishes: Sequence[Wish]) -> dict[str, Any]:
    """Title of a run, and whether its result is listed elsewhere than where the page stands; fields of a RunView."""
    name = {None: "Custom target", ORIGINAL: "The original"}.get(level, f"Level {level}")
    if wishes:
        name = f"{name} with {in_short(wishes)}" if level is not None else f"A cut of {in_short(wishes)}"
    on_other_data = data != subject.data
    return {"title": f"{name} on {data}" if on_other_data else name, "elsewhere": on_other_data or bool(wishes)}


def _heading_of_status(status: RunStatus, subject: Subject) -> dict[str, Any]:
    spec = status.spec
    how = f"{method_label(spec)}, seed {spec.seed}" if spec.level != ORIGINAL else ""
    return {**_heading(spec.level, spec.data, subject, spec.target.layers), "how": how}


def _heading_of_job(job: Job, subject: Subject) -> dict[str, Any]:
    request = job.request
    assert request is not None, "a run without a request"
    data = subject.data if request.classes == subject.classes else f"{subject.data} [{request.classes}]"
    return _heading(request.level, data, subject, request.layers)


def _running(status: RunStatus, subject: Subject) -> RunView:
    progress = status.progress
    return RunView(
        **_heading_of_status(status, subject),
        state="running",
        line=progress_line(progress, status.spec.task),
        fraction=min(progress.epoch / progress.epochs, 1.0) if progress.epochs else None,
    )


def progress_line(progress: Progress, task: TaskName = "detect") -> str:
    """Stage, epoch, time to its end and accuracy so far, as far as they are known."""
    parts = [progress.stage.capitalize()]
    if progress.epochs:
        parts.append(f"epoch {progress.epoch} of {progress.epochs}")
    if progress.eta_seconds is not None:
        parts.append(f"about {formats.duration(progress.eta_seconds)} left")
    if progress.map50_95 is not None:
        parts.append(f"{TASKS[task].main} now {formats.accuracy(progress.map50_95)}")
    return " · ".join(parts)


def _queued(status: RunStatus, statuses: Sequence[RunStatus], subject: Subject) -> RunView:
    waiting = [each.key for each in statuses if each.state == "queued"]
    before = waiting.index(status.key)
    place = "next in the queue" if before == 0 else f"{before + 1} in the queue"
    return RunView(**_heading_of_status(status, subject), state="queued", line=f"Waits for its device, {place}")


def _starting(job: Job, subject: Subject) -> RunView:
    return RunView(**_heading_of_job(job, subject), state="starting", line="Checking what was asked", job=job)


def _refused(job: Job, subject: Subject) -> RunView:
    line = job.last_line() or "The process ended before it could say why."
    return RunView(**_heading_of_job(job, subject), state="failed", line=line, log_file=job.log_file, job=job)


def _failed(status: RunStatus, job: Job | None, subject: Subject) -> RunView:
    log_file = job.log_file if job else Path(status.log_file) if status.log_file else None
    line = status.message or "The run failed."
    return RunView(**_heading_of_status(status, subject), state="failed", line=line, log_file=log_file, job=job)
