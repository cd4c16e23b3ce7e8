"""Runs and plans in processes of their own on this machine, which outlive the page and the server that started them.

A process is the command line as a user would type it. A run tells its progress to the store; what is kept here is
only what the store cannot know: that a process was started and has not registered itself yet, or died before it did.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compression.home import home
from compression.spec import (
    DEFAULT_CALIBRATION_IMAGES,
    DEFAULT_RECIPE,
    WITHOUT_IMAGES,
    AllocationName,
    CriterionName,
    CutMethod,
    RecipeName,
    RecoveryName,
)

LOG_FILE_VARIABLE = "TRIMBOARD_LOG_FILE"
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What a page asks to be run.

    Attributes:
        model: catalog name with suffix, .yaml, or the path of a .pt.
        data: known name or the path of a data.yaml.
        level: 0 to 5.
        epochs: at most so many; 0 measures without training.
        patience: epochs without a better result after which fine-tuning ends.
        imgsz: side of the square input, pixels.
        batch: images a step.
        seed: of the fine-tuning.
        recipe: how the pruned model is fine-tuned.
        criterion: how channels are ranked.
        allocation: how the cut is shared out among the layers.
        recovery: what brings accuracy back before training.
        calibration_images: at most so many training images are looked at by criterion and recovery.
        steps: the target is reached in so many rounds of cutting and fine-tuning.
        classes: names or indices of the only classes to keep, as "person,car"; "" for all.
        device: Ultralytics' device string; "" lets Ultralytics choose.
    """

    model: str
    data: str
    level: int
    epochs: int
    patience: int
    imgsz: int
    batch: int
    seed: int
    recipe: RecipeName = DEFAULT_RECIPE
    criterion: CriterionName = CutMethod.criterion
    allocation: AllocationName = CutMethod.allocation
    recovery: RecoveryName = CutMethod.recovery
    calibration_images: int = DEFAULT_CALIBRATION_IMAGES
    steps: int = 1
    classes: str = ""
    device: str = ""

    def arguments(self) -> tuple[str, ...]:
        """The command line behind `python -m compression`."""
        options = {
            "--data": self.data,
            "--level": self.level,
            "--epochs": self.epochs,
            "--patience": self.patience,
            "--imgsz": self.imgsz,
            "--batch": self.batch,
            "--seed": self.seed,
            "--recipe": self.recipe,
            "--criterion": self.criterion,
            "--allocation": self.allocation,
            "--recovery": self.recovery,
            "--calibration-images": self.calibration_images,
            "--steps": self.steps,
        }
        # In one piece, since the name of a class may begin like an option.
        classes = (f"--classes={self.classes}",) if self.classes else ()
        device = ("--device", self.device) if self.device else ()
        return ("run", self.model, *(str(part) for option in options.items() for part in option), *classes, *device)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A process that was started here.

    Attributes:
        kind: what it does.
        arguments: its command line behind `python -m compression`.
        pid: its process.
        log_file: where its output goes.
        request: what was asked of a run; None for a plan.
    """

    kind: Literal["run", "plan"]
    arguments: tuple[str, ...]
    pid: int
    log_file: Path
    request: RunRequest | None = None
    _process: subprocess.Popen[bytes] = field(repr=False, compare=False)

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
    """Start a run; where the same one is still going on, that one is returned and nothing is started.

    Raises:
        OSError: the log cannot be written, or the process cannot be started.
    """
    _forget_ended(request)
    return _start("run", request.arguments(), request)


def _forget_ended(request: RunRequest) -> None:
    """A new attempt takes the place of earlier ones at the same level on the same classes."""
    for job in jobs():
        if job.request is not None and _aim_of(job.request) == _aim_of(request):
            forget(job)


def _aim_of(request: RunRequest) -> tuple[object, ...]:
    return (request.model, request.data, request.classes, request.level)


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
            if job.kind == "plan":
                # Nothing else points to it, while a run's log is part of what the store knows.
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


def _start(kind: Literal["run", "plan"], arguments: tuple[str, ...], request: RunRequest | None) -> Job:
    with _lock:
        earlier = _jobs.pop(arguments, None)
        if earlier is not None and earlier.exit_code() is None:
            _jobs[arguments] = earlier
            return earlier
        log_file, process = _spawn(kind, arguments)
        job = Job(kind=kind, arguments=arguments, pid=process.pid, log_file=log_file, request=request, _process=process)
        _jobs[arguments] = job
        return job


def _spawn(kind: str, arguments: tuple[str, ...]) -> tuple[Path, subprocess.Popen[bytes]]:
    folder = home() / "logs"
    folder.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{kind}-", suffix=".log", dir=folder)
    # The package must be found from whatever folder the server was started in.
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), LOG_FILE_VARIABLE: name}
    with os.fdopen(handle, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "compression", *arguments],
            stdin=subprocess.DEVNULL,
            # The plans themselves go to the store.
            stdout=subprocess.DEVNULL if kind == "plan" else log,
            stderr=log,
            start_new_session=True,
            env=environment,
        )
    return Path(name), process
