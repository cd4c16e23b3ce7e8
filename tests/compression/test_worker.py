"""The queue at work: real processes, on models and data of a second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import psutil
import pytest

from cache.queue import this_host
from cache.record import Progress, RunState, RunStatus
from cache.store import Store
from compression.jobs import worker
from compression.jobs.control import cancel, resume
from compression.jobs.local import run_log
from compression.jobs.submit import submit
from compression.jobs.worker import ensure_worker, startable
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector
from compression.request import RunRequest
from compression.spec import WITHOUT_IMAGES
from tests import factories

PATIENCE_S = 120
TYPED = RunRequest(model="yolo26n.yaml", data="shapes", level=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows as many classes as the small data set has."""
    file = tmp_path_factory.mktemp("models") / "mine.pt"
    write_checkpoint(open_detector("yolo26n.yaml", nc=10, seed=3).module, file, {})
    return file


@pytest.fixture
def request_of(model: Path, tiny_shapes: Path) -> Callable[..., RunRequest]:
    def build(level: int, **changes: Any) -> RunRequest:
        options: dict[str, Any] = {
            "model": str(model),
            "data": str(tiny_shapes),
            "epochs": 1,
            "imgsz": 64,
            "batch": 4,
            "device": "cpu",
            "method": WITHOUT_IMAGES,
        }
        return RunRequest(level=level, **{**options, **changes})

    return build


@pytest.fixture(autouse=True)
def no_process_is_left(own_home: Path) -> Iterator[None]:
    yield
    for process in ours(own_home):
        process.kill()


def ours(own_home: Path) -> list[psutil.Process]:
    """The processes that work for this test's data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("TRIMBOARD_HOME") == str(own_home):
                found.append(process)
        except psutil.Error:
            continue
    return found


def await_that(what: str, condition: Callable[[], bool], patience: float = PATIENCE_S) -> float:
    """Wait for something; how long it took, seconds."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > patience:
            runs = [(run.spec.level, run.state, run.progress.stage, run.message) for run in Store().queue.runs()]
            raise AssertionError(f"{what} does not come: {runs}")
        time.sleep(0.05)
    return time.monotonic() - start


def states() -> dict[int | None, RunState]:
    return {run.spec.level: run.state for run in Store().queue.runs()}


def epochs_done(key: str) -> int:
    return Store().queue.find(key).progress.epoch


# Which runs can start


def status(level: int, state: RunState, lanes: str, **changes: Any) -> RunStatus:
    spec = factories.spec(level)
    values: dict[str, Any] = {
        "key": spec.key,
        "spec": spec,
        "request": None,
        "state": state,
        "progress": Progress(stage="queued"),
        "position": 0.0,
        "lanes": lanes,
        "executor": "local",
        "host": this_host(),
        "pid": 1,
        "process_started": 0.0,
        "memory_mb": 0.0,
        "queued": "",
        "started": "",
        "updated": "",
        "message": "",
        "log_file": "",
    }
    return RunStatus(**{**values, **changes})


def levels(runs: list[RunStatus]) -> list[int | None]:
    return [run.spec.level for run in startable(runs)]


def test_one_run_at_a_time_on_each_device() -> None:
    waiting = [status(1, "queued", "0"), status(2, "queued", "0"), status(3, "queued", "1"), status(4, "queued", "cpu")]
    assert levels(waiting) == [1, 3, 4]
    assert levels([status(0, "running", "1"), *waiting]) == [1, 4]


def test_a_run_on_two_devices_waits_for_both_and_keeps_its_place() -> None:
    waiting = [status(1, "queued", "0,1"), status(2, "queued", "1"), status(3, "queued", "2")]
    assert levels([status(0, "running", "0"), *waiting]) == [3]
    assert levels(waiting) == [1, 3]


def test_what_is_not_for_this_machine_is_left_alone() -> None:
    others = [status(1, "queued", "cpu", host="elsewhere"), status(2, "queued", "cpu", executor="ray", host="")]
    assert levels(others) == []
    assert levels([status(0, "running", "cpu", host="elsewhere"), status(3, "queued", "cpu")]) == [3]
    # A run that was typed, or sent here by a cluster, takes the device as any other does.
    assert levels([status(0, "running", "cpu", executor="ray"), status(3, "queued", "cpu")]) == []


def test_a_run_that_cannot_be_started_fails_and_holds_up_no_other(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Store().queue
    good = str(run_log(factories.spec(2).key))
    # The log of a run that was typed, or of one that another machine queued, has no place here.
    for level, log_file in ((1, ""), (2, good)):
        assert queue.submit(factories.spec(level), TYPED, lanes="cpu", log_file=log_file)
    started: list[str] = []

    def begin(*arguments: str, output: BinaryIO) -> SimpleNamespace:
        started.append(output.name)
        return SimpleNamespace(pid=os.getpid(), poll=lambda: queue.end(factories.spec(2).key, "done"))

    monkeypatch.setattr(worker, "python_process", begin)
    monkeypatch.setattr(worker, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(worker, "IDLE_S", 0.1)
    worker.work()
    assert states() == {1: "failed", 2: "done"}
    assert "It cannot be started here" in queue.find(factories.spec(1).key).message
    assert started == [good]


def test_each_machine_that_shares_the_data_folder_has_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    with worker._lock():
        assert worker.is_at_work()
        monkeypatch.setattr(worker, "this_host", lambda: "elsewhere")
        assert not worker.is_at_work()


def test_a_resumed_run_writes_its_log_on_this_machine(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compression.jobs.control.ensure_worker", lambda: None)
    queue, key = Store().queue, factories.spec(1).key
    queue.begin(factories.spec(1), TYPED, lanes="cpu", pid=os.getpid(), log_file="")
    queue.end(key, "interrupted")
    resume(queue, key)
    assert Path(queue.find(key).log_file) == own_home / "logs" / f"run-{key[:16]}.log"


# Real processes


def test_queued_runs_are_done_one_after_the_other_and_only_once(request_of: Callable[..., RunRequest]) -> None:
    requests = [request_of(1), request_of(2)]
    assert [each.state for each in submit(requests)] == ["queued", "queued"]
    assert [each.state for each in submit(requests[:1])] == ["waiting"]
    ensure_worker()
    ensure_worker()
    seen: set[int] = set()

    def both_done() -> bool:
        seen.add(list(states().values()).count("running"))
        return set(states().values()) == {"done"}

    await_that("both results", both_done)
    assert seen == {0, 1}
    again = submit(requests)
    assert [each.state for each in again] == ["measured", "measured"]
    assert [each.record.level for each in again if each.record] == [1, 2]
    assert all(run.memory_mb > 50 or run.progress.stage == "saving" for run in Store().queue.runs())
    assert all("[trimboard] fine-tuning" in Path(run.log_file).read_text() for run in Store().queue.runs())


def test_a_cancelled_run_leaves_no_process_and_can_be_resumed(
    request_of: Callable[..., RunRequest], own_home: Path
) -> None:
    first, _ = submit([request_of(3, epochs=400), request_of(4)])
    ensure_worker()
    queue = Store().queue
    await_that("an epoch", lambda: epochs_done(first.key) >= 2)
    (at_work,) = [run for run in queue.runs() if run.state == "running"]
    start = time.monotonic()
    cancel(queue, first.key)
    await_that("the end of its process", lambda: not psutil.pid_exists(at_work.pid), 5)
    assert time.monotonic() - start < 5
    assert states()[3] == "cancelled"
    await_that("the next run", lambda: states()[4] == "running")
    before = epochs_done(first.key)
    resume(queue, first.key)
    assert states()[3] == "queued"
    await_that("the second result", lambda: states()[4] == "done")
    await_that("the resumed run's next epoch", lambda: epochs_done(first.key) > before)
    cancel(queue, first.key)


def test_a_killed_run_is_interrupted_and_the_next_one_starts(request_of: Callable[..., RunRequest]) -> None:
    submit([request_of(1, epochs=400), request_of(2)])
    ensure_worker()
    queue = Store().queue
    await_that("a start", lambda: states()[1] == "running")
    (at_work,) = [run for run in queue.runs() if run.state == "running"]
    psutil.Process(at_work.pid).kill()
    await_that("the next result", lambda: states() == {1: "interrupted", 2: "done"})


def test_a_killed_worker_takes_no_run_along(request_of: Callable[..., RunRequest], own_home: Path) -> None:
    submit([request_of(1, epochs=3), request_of(2)])
    ensure_worker()
    await_that("a start", lambda: states()[1] == "running")
    (worker,) = [process for process in ours(own_home) if process.cmdline()[-1:] == ["worker"]]
    worker.kill()
    worker.wait(10)
    await_that("the first result", lambda: states()[1] == "done")
    assert states()[2] == "queued"
    ensure_worker()
    await_that("the second result", lambda: states()[2] == "done")


def test_a_run_that_is_cancelled_elsewhere_ends_itself(request_of: Callable[..., RunRequest]) -> None:
    (only,) = submit([request_of(1, epochs=400)])
    ensure_worker()
    queue = Store().queue
    await_that("an epoch", lambda: epochs_done(only.key) >= 1)
    (at_work,) = [run for run in queue.runs() if run.state == "running"]
    # As another machine does, which cannot reach the process.
    queue.cancel(only.key)
    await_that("the end of its process", lambda: not psutil.pid_exists(at_work.pid), 5)
    assert states() == {1: "cancelled"}


def test_what_changed_while_it_waited_is_refused(
    request_of: Callable[..., RunRequest], model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "mine.pt"
    write_checkpoint(open_detector(str(model)).module, other, {})
    submit([request_of(1, model=str(other))])
    write_checkpoint(open_detector("yolo26n.yaml", nc=10, seed=4).module, other, {})
    ensure_worker()
    await_that("an end", lambda: states()[1] != "queued" and states()[1] != "running")
    (run,) = Store().queue.runs()
    assert (run.state, run.message) == (
        "failed",
        "The data set, the weights or this program changed since the run was queued; queue it anew.",
    )


def test_a_data_set_that_vanished_is_told_and_the_next_run_starts(
    request_of: Callable[..., RunRequest], tiny_shapes: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "away"
    subprocess.run(["cp", "-r", str(tiny_shapes.parent), str(copy)], check=True)
    submit([request_of(1, data=str(copy / "data.yaml")), request_of(2)])
    copy.rename(tmp_path / "elsewhere")
    ensure_worker()
    await_that("both ends", lambda: states() == {1: "failed", 2: "done"})
    (run,) = [run for run in Store().queue.runs() if run.state == "failed"]
    assert "away/data.yaml" in run.message
    assert "\n" not in run.message


# The command line


def trimboard(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "compression", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def test_a_sweep_from_the_command_line(request_of: Callable[..., RunRequest]) -> None:
    request = request_of(1)
    swept = trimboard(
        *("sweep", request.model, "--data", request.data, "--levels", "1-2", "--seeds", "0,1", "--criterion", "l2,l1"),
        *(
            "--allocation",
            "uniform",
            "--recovery",
            "none",
            "--epochs",
            "0",
            "--imgsz",
            "64",
            "--device",
            "cpu",
            "--json",
        ),
    )
    assert swept.returncode == 0, swept.stderr
    rows = json.loads(swept.stdout)
    assert [(row["seed"], row["criterion"], row["level"]) for row in rows] == [
        (seed, criterion, level) for seed in (0, 1) for criterion in ("l2", "l1") for level in (1, 2)
    ]
    assert {row["state"] for row in rows} == {"queued"}
    listed = json.loads(trimboard("runs", "--json").stdout)
    assert [row["key"] for row in listed if row["state"] == "queued"] == [
        row["key"] for row in rows if row["key"] in {each["key"] for each in listed if each["state"] == "queued"}
    ]
    last = rows[-1]["key"]
    moved = trimboard("move", last, "-99", "--json")
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)[0]["key"] == last
    cancelled = trimboard("cancel", last, "--json")
    assert [row["state"] for row in json.loads(cancelled.stdout)] == ["cancelled"]
    assert trimboard("cancel", last).returncode == 2
    one = json.loads(trimboard("runs", last, "--json").stdout)
    assert (one["state"], one["curve"], one["spec"]["criterion"]) == ("cancelled", [], "l1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("runs", "zzz"), "No run has a key that begins with 'zzz'"),
        (("cancel", "zzz"), "No run has a key that begins with 'zzz'"),
        (("resume",), "Give the keys of the runs to resume, or --all."),
        (("sweep", "yolo26n.yaml", "--data", "shapes", "--levels", "1-six"), "'1-six' in --levels is not understood"),
        (("sweep", "yolo26n.yaml", "--data", "shapes", "--levels", "7"), "Level 7 does not exist"),
        (("sweep", "yolo26n.yaml", "--data", "shapes", "--seeds", ","), "',' names no seeds"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = trimboard(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_resume_of_nothing_is_no_fault() -> None:
    done = trimboard("resume", "--all")
    assert (done.returncode, done.stdout) == (0, "")
