"""Processes of this machine that outlive the page and the server that started them.

A page asks for a run, for plans or for exported files by the command line that a user would type. What comes of it
stands in the store, or beside the files; kept here is only what these cannot know: that a process was started and has
not done its work yet, or was refused.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from cache import processes
from cache.record import Progress
from compression.home import home
from compression.process import Process, python_process
from compression.request import RunRequest
from compression.spec import WITHOUT_IMAGES, FormatName, HeadName, PrecisionName

JobKind = Literal["run", "plan", "export", "detections", "levers", "sensitivity", "add"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A process that was started here.

    Attributes:
        kind: what it does: queue a run, plan, export, rank what detectors lose, measure combinations or the
            sensitivity of layers, or check what a user brings.
        arguments: its command line behind `python -m compression`.
        pid: its process.
        log_file: where its output goes.
        request: what was asked of a run; None for all else.
    """

    kind: JobKind
    arguments: tuple[str, ...]
    pid: int
    log_file: Path
    request: RunRequest | None = None
    _process: Process = field(repr=False, compare=False)

    def exit_code(self) -> int | None:
        """None while the process works; 0 after success."""
        return self._process.poll()

    def last_line(self) -> str:
        """The last thing it wrote, which for a refused input is the reason in one sentence."""
        return next((line for line in reversed(tail(self.log_file)) if line.strip()), "")


# One job for each command line; a lock, because a server answers every visitor in a thread of his own.
_jobs: dict[tuple[str, ...], Job] = {}
_lock = threading.Lock()


def start_run(request: RunRequest) -> Job:
    """Start queueing a run; where the same one is still being queued, that job is returned and nothing is started.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    _forget_ended(request)
    return _start("run", run_arguments(request), request)


def run_arguments(request: RunRequest) -> tuple[str, ...]:
    """The command line of `start_run`, by which `find_job` knows it again."""
    return ("run", *request.arguments(), "--queue")


def _forget_ended(request: RunRequest) -> None:
    """What is queued stands in the store; and a new attempt takes the place of those at the same level and classes."""
    for job in jobs():
        if job.request is not None and (job.exit_code() == 0 or _aim_of(job.request) == _aim_of(request)):
            forget(job)


def _aim_of(request: RunRequest) -> tuple[object, ...]:
    return (request.model, request.data, request.classes, request.level, request.target, request.layers)


def start_plan(model: str, data: str | None, *, imgsz: int) -> Job:
    """Start computing the plans of all levels, which the process saves in the store.

    Args:
        model: catalog name with suffix, .yaml, or the path of a .pt.
        data: known name or the path of a data.yaml, which decides the number of classes; None for the model's own.
        imgsz: side of the square input, pixels.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    return _start("plan", plan_arguments(model, data, imgsz=imgsz), None)


def plan_arguments(model: str, data: str | None, *, imgsz: int) -> tuple[str, ...]:
    """The command line of `start_plan`, by which `find_job` knows it again."""
    # Without images: a page cannot wait for a data set to be looked through, nor for its download.
    method = ("--criterion", WITHOUT_IMAGES.criterion, "--allocation", WITHOUT_IMAGES.allocation)
    classes_of = () if data is None else ("--data", data)
    return ("plan", model, *classes_of, "--level", "all", "--imgsz", str(imgsz), *method, "--json")


def start_export(
    checkpoint: Path,
    formats: Sequence[FormatName],
    *,
    precision: PrecisionName,
    imgsz: int,
    batch: int,
    head: HeadName,
    data: str,
) -> Job:
    """Start exporting a checkpoint; each file appears in the checkpoint's `exports_folder` when it is done.

    Args:
        checkpoint: the .pt.
        formats: what to export it to, one after the other.
        precision: of all of them, and so on; see `compression.deployment.export`.
        data: known name or the path of a data.yaml, whose images calibrate and compare; "" for none.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    asked = {
        "format": ",".join(formats),
        "precision": precision,
        "imgsz": imgsz,
        "batch": batch,
        "head": head,
        "data": data or None,
    }
    options = (f"--{name}={value}" for name, value in asked.items() if value is not None)
    return _start("export", ("export", str(checkpoint), *options, "--json"), None)


def exports_of(checkpoint: Path) -> list[Job]:
    """The jobs that export a checkpoint, oldest first."""
    return [job for job in jobs() if job.kind == "export" and job.arguments[1] == str(checkpoint)]


def start_detections(arguments: tuple[str, ...]) -> Job:
    """Start ranking what one detector loses against another; the process keeps the ranking in the data folder.

    Args:
        arguments: as `detections_arguments` gives them.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    return _start("detections", arguments, None)


def detections_arguments(
    before: Path, after: Path, data: str, *, classes: str, imgsz: int, head: HeadName, conf: float
) -> tuple[str, ...]:
    """The command line that ranks what is lost between two checkpoints, by which `find_job` knows it again.

    Args:
        before: the first checkpoint.
        after: the second one.
        data: known name or the path of a data.yaml.
        classes: the only classes that both know, as the command line takes them; "" for all.
        imgsz: side of the square input, pixels.
        head: the predictions that count.
        conf: detections of a lower score count as not seen.
    """
    asked = ("--data", data, "--imgsz", str(imgsz), "--head", head, "--conf", str(conf))
    only = ("--classes", classes) if classes else ()
    return ("detections", str(before), str(after), *asked, *only, "--json")


def start_add(file: str, name: str) -> Job:
    """Start checking a model or data set of the user's; where it is kept then is the last line of the log.

    Args:
        file: as `compression.brought.add` takes it.
        name: that results shall be grouped by; "" for that of the file.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    # In one piece, since a name may begin like an option; what follows `--` is none.
    return _start("add", ("add", f"--name={name}", "--", file), None)


def start_levers(arguments: tuple[str, ...]) -> Job:
    """Start measuring combinations of level, precision and image size; what is measured appears in the store.

    Args:
        arguments: as `levers_arguments` gives them.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    return _start("levers", (*arguments, "--json"), None)


def levers_arguments(
    results: Sequence[str],
    data: str,
    *,
    levels: Sequence[int],
    backends: Sequence[str],
    precisions: Sequence[str],
    sizes: Sequence[float],
    siblings: bool,
    threads: int,
) -> tuple[str, ...]:
    """The command line that measures combinations.

    Args:
        results: the keys of results, or their beginnings.
        data: known name or the path of a data.yaml.
        levels: 0 to 5, those beside the results; none where the results themselves are meant.
        backends: what runs the models.
        precisions: of the files.
        sizes: of the images: parts of the training size, or pixels.
        siblings: also the measured originals of the family.
        threads: of the processor.
    """
    lists = {
        "levels": map(str, levels),
        "backend": backends,
        "precision": precisions,
        "imgsz": (f"{size:g}" for size in sizes),
    }
    texts = {name: ",".join(values) for name, values in lists.items()}
    asked = (word for name, text in texts.items() if text for word in (f"--{name}", text))
    also = ("--siblings",) if siblings else ()
    return ("levers", *results, "--data", data, *asked, "--threads", str(threads), *also)


def levers_of(results: Collection[str]) -> list[Job]:
    """The jobs that measure combinations of one of these results, by the beginnings of their keys, oldest first."""
    return [job for job in jobs() if job.kind == "levers" and job.arguments[1] in results]


def start_sensitivity(arguments: tuple[str, ...]) -> Job:
    """Start measuring what each layer is worth; what is measured appears in the store.

    Args:
        arguments: as `sensitivity_arguments` gives them.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    return _start("sensitivity", arguments, None)


def sensitivity_arguments(model: str, data: str, *, classes: str, imgsz: int, head: HeadName) -> tuple[str, ...]:
    """The command line that measures what each layer is worth, by which `find_job` knows it again.

    Args:
        model: path of a .pt.
        data: known name or the path of a data.yaml.
        classes: the only classes that the model knows, as the command line takes them; "" for all.
        imgsz: side of the square input, pixels.
        head: the predictions that count.
    """
    only = ("--classes", classes) if classes else ()
    return ("sensitivity", model, "--data", data, *only, "--imgsz", str(imgsz), "--head", head, "--json")


def cancel(job: Job) -> None:
    """End a job's process and all that it started, and forget it."""
    processes.end(job.pid, processes.started_at(job.pid))
    job._process.wait()
    forget(job)


def find_job(arguments: tuple[str, ...]) -> Job | None:
    """The job that was last started with that command line."""
    return _jobs.get(arguments)


def jobs() -> list[Job]:
    """All jobs that this server started and has not forgotten, oldest first."""
    return list(_jobs.values())


def forget(job: Job) -> None:
    """Drop a job that has ended, so that the same command line can be started as if for the first time."""
    with _lock:
        if _jobs.get(job.arguments) is job and job.exit_code() is not None:
            del _jobs[job.arguments]
            # Nothing else points to it. Why a run could not be queued stays readable.
            if job.kind != "run" or job.exit_code() == 0:
                job.log_file.unlink(missing_ok=True)


def tail(log_file: Path, n_lines: int = 40) -> list[str]:
    """The last lines of a log, empty if it is not there; progress bars leave only their last state."""
    try:
        with log_file.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - 200 * n_lines, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")][-n_lines:]


def _start(kind: JobKind, arguments: tuple[str, ...], request: RunRequest | None) -> Job:
    with _lock:
        earlier = _jobs.pop(arguments, None)
        if earlier is not None and earlier.exit_code() is None:
            _jobs[arguments] = earlier
            return earlier
        log_file = _new_log(kind)
        with append_to(log_file) as log:
            # What is computed is kept where the page looks for it: the log is of what is said on the way.
            results = log if kind in ("run", "add") else subprocess.DEVNULL
            process = python_process("-m", "compression", *arguments, output=results, errors=log)
        job = Job(kind=kind, arguments=arguments, pid=process.pid, log_file=log_file, request=request, _process=process)
        _jobs[arguments] = job
        return job


def _new_log(kind: str) -> Path:
    folder = home() / "logs"
    folder.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{kind}-", suffix=".log", dir=folder)
    os.close(handle)
    return Path(name)


def run_log(key: str) -> Path:
    """Where the output of a run of this machine's queue goes; not created."""
    return home() / "logs" / f"run-{key[:16]}.log"


def append_to(log_file: Path) -> BinaryIO:
    """A log opened for a process's output, behind what earlier attempts wrote."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    return log_file.open("ab")


def write_progress(progress: Progress) -> None:
    """One line of progress to stderr."""
    epochs = f" {progress.epoch}/{progress.epochs} epochs" if progress.epochs else ""
    left = f", {progress.eta_seconds:.0f} s left" if progress.eta_seconds is not None else ""
    accuracy = f", accuracy {progress.map50_95:.3f}" if progress.map50_95 is not None else ""
    sys.stderr.write(f"[trimboard] {progress.stage}{epochs}{left}{accuracy}\n")
