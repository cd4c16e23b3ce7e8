"""The queue of runs: places, states, signs of life."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from cache.queue import INTERRUPTED, SILENCE, RunBusyError, RunQueue, UnknownRunError, this_host
from cache.record import Progress
from cache.store import Store
from cache.tables import runs_table
from compression.request import RunRequest
from compression.spec import RunSpec
from tests.cache.samples import EPOCH, make_spec

REQUEST = RunRequest(model="weights/my-yolo26n.pt", data="shapes", level=5)
OWN_PID = os.getpid()


@pytest.fixture
def queue(store: Store) -> RunQueue:
    return store.queue


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A living process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def seeds(queue: RunQueue, state: str = "queued") -> list[int]:
    return [run.spec.seed for run in queue.runs() if run.state == state]


def submit(queue: RunQueue, *numbers: int, **options: Any) -> list[RunSpec]:
    specs = [make_spec(seed=number) for number in numbers]
    for spec in specs:
        assert queue.submit(spec, replace(REQUEST, seed=spec.seed), lanes="cpu", **options)
    return specs


def note(queue: RunQueue, key: str, **values: Any) -> None:
    """Change what is stored of a run."""
    with queue._database.writing() as connection:
        connection.execute(update(runs_table).where(runs_table.c.key == key).values(**values))


# A run from its start to its end


def test_a_run_tells_its_way_from_start_to_end(queue: RunQueue) -> None:
    spec = make_spec()
    queue.begin(spec, REQUEST, lanes="cpu", pid=OWN_PID, log_file="run.log")
    (begun,) = queue.runs()
    assert (begun.key, begun.spec, begun.request, begun.state) == (spec.key, spec, REQUEST, "running")
    assert (begun.pid, begun.host, begun.lanes, begun.executor) == (OWN_PID, this_host(), "cpu", "local")
    assert (begun.message, begun.log_file) == ("", "run.log")

    progress = Progress(stage="fine-tuning", epoch=2, epochs=30, eta_seconds=12.5, map50=0.5, map50_95=0.25)
    queue.tell(spec.key, progress)
    (told,) = queue.runs()
    assert told.progress == progress
    assert told.updated >= told.started == begun.started

    queue.end(spec.key, "done")
    assert [(run.state, run.progress) for run in queue.runs()] == [("done", progress)]


def test_a_failed_run_says_why(queue: RunQueue) -> None:
    queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
    queue.end(make_spec().key, "failed", "The data set has no labels.")
    assert [(run.state, run.message) for run in queue.runs()] == [("failed", "The data set has no labels.")]


def test_a_run_that_was_not_begun_cannot_tell(queue: RunQueue) -> None:
    with pytest.raises(UnknownRunError, match="no run 'unknown'"):
        queue.tell("unknown", Progress(stage="pruning"))
    with pytest.raises(UnknownRunError, match="no run 'unknown'"):
        queue.end("unknown", "done")


def test_epochs_are_kept_and_those_that_are_repeated_replaced(queue: RunQueue) -> None:
    key = make_spec().key
    queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
    rows = [replace(EPOCH, epoch=number, map50_95=number / 10) for number in (1, 2, 3)]
    for row in rows:
        queue.tell(key, Progress(stage="fine-tuning", epoch=row.epoch, epochs=3, finished=row))
    assert queue.curve(key) == tuple(rows)
    assert queue.runs()[0].progress == Progress(stage="fine-tuning", epoch=3, epochs=3)
    # A resumed run begins behind its last whole epoch.
    again = replace(EPOCH, epoch=2, map50_95=0.9)
    queue.tell(key, Progress(stage="fine-tuning", epoch=2, epochs=3, finished=again))
    assert queue.curve(key) == (rows[0], again)


def test_the_same_run_is_not_begun_twice_at_once(queue: RunQueue, sleeper: subprocess.Popen[bytes]) -> None:
    queue.begin(make_spec(), lanes="cpu", pid=sleeper.pid, log_file="first.log")
    with pytest.raises(RunBusyError, match=f"process {sleeper.pid};"):
        queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="second.log")
    assert [run.log_file for run in queue.runs()] == ["first.log"]
    queue.begin(make_spec(seed=7), lanes="cpu", pid=OWN_PID, log_file="")
    assert len(seeds(queue, "running")) == 2


def test_a_process_may_note_its_own_run_again(queue: RunQueue, sleeper: subprocess.Popen[bytes]) -> None:
    queue.begin(make_spec(), lanes="cpu", pid=sleeper.pid, log_file="page.log")
    queue.begin(make_spec(), lanes="cpu", pid=sleeper.pid, log_file="own.log")
    assert [run.log_file for run in queue.runs()] == ["own.log"]


def test_a_run_from_the_queue_has_begun_when_it_was_taken(queue: RunQueue) -> None:
    (spec,) = submit(queue, 1)
    queue.take(spec.key, pid=OWN_PID)
    note(queue, spec.key, started="2026-01-01T00:00:00.000+00:00")
    queue.begin(spec, lanes="cpu", pid=OWN_PID, log_file="own.log")
    (run,) = queue.runs()
    assert (run.started, run.log_file, run.request) == (
        "2026-01-01T00:00:00.000+00:00",
        "own.log",
        replace(REQUEST, seed=1),
    )


def test_what_failed_keeps_its_epochs_when_it_begins_again_and_what_is_done_does_not(queue: RunQueue) -> None:
    key = make_spec().key
    for state, kept in (("failed", 1), ("done", 0)):
        queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
        queue.tell(key, Progress(stage="fine-tuning", finished=EPOCH))
        queue.end(key, "failed" if state == "failed" else "done", "Out of memory.")
        queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
        assert len(queue.curve(key)) == kept
        assert [(run.state, run.message) for run in queue.runs()] == [("running", "")]


# Processes that are gone


def assert_lost(queue: RunQueue) -> None:
    (run,) = queue.runs()
    assert (run.state, run.message) == ("interrupted", INTERRUPTED)
    queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
    assert [run.pid for run in queue.runs()] == [OWN_PID]


def test_a_run_whose_process_is_gone_is_interrupted(queue: RunQueue, sleeper: subprocess.Popen[bytes]) -> None:
    queue.begin(make_spec(), lanes="cpu", pid=sleeper.pid, log_file="")
    end(sleeper)
    assert_lost(queue)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no zombies")
def test_a_run_whose_process_is_a_zombie_is_interrupted(queue: RunQueue, sleeper: subprocess.Popen[bytes]) -> None:
    queue.begin(make_spec(), lanes="cpu", pid=sleeper.pid, log_file="")
    sleeper.kill()
    deadline = time.monotonic() + 10
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert_lost(queue)


def test_a_later_process_under_the_same_id_is_not_the_run(queue: RunQueue, sleeper: subprocess.Popen[bytes]) -> None:
    queue.begin(make_spec(), lanes="cpu", pid=sleeper.pid, log_file="")
    note(queue, make_spec().key, process_started=time.time() - 3600)
    assert_lost(queue)


def test_a_run_whose_process_had_the_same_id_before_a_restart_lives(queue: RunQueue) -> None:
    """As in a container, whose first process has the same id each time, and whose name may be another."""
    for before in ({"process_started": time.time() - 3600}, {"host": "before", "updated": "2026-01-01T00:00:00+00:00"}):
        queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
        note(queue, make_spec().key, **before)
        queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
        assert seeds(queue, "running") == [3]
        assert queue.give_sign_of_life(make_spec().key, pid=OWN_PID, memory_mb=1.0)


def test_a_run_that_was_begun_for_a_process_already_gone_is_interrupted(
    queue: RunQueue, sleeper: subprocess.Popen[bytes]
) -> None:
    end(sleeper)
    queue.begin(make_spec(), lanes="cpu", pid=sleeper.pid, log_file="")
    assert_lost(queue)


def test_a_run_of_another_machine_lives_while_it_gives_signs_of_life(queue: RunQueue) -> None:
    queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
    # The same process id means nothing elsewhere.
    note(queue, make_spec().key, host="elsewhere", process_started=0.0)
    assert seeds(queue, "running") == [3]
    with pytest.raises(RunBusyError, match=f"process {OWN_PID} on elsewhere"):
        queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
    silent_since = datetime.now(UTC) - SILENCE - timedelta(seconds=1)
    note(queue, make_spec().key, updated=silent_since.isoformat(timespec="milliseconds"))
    assert_lost(queue)


def test_signs_of_life_tell_memory_and_whether_to_go_on(queue: RunQueue, sleeper: subprocess.Popen[bytes]) -> None:
    key = make_spec().key
    assert not queue.give_sign_of_life(key, pid=OWN_PID, memory_mb=1.0)
    queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
    note(queue, key, updated="2026-01-01T00:00:00.000+00:00")
    assert queue.give_sign_of_life(key, pid=OWN_PID, memory_mb=812.5)
    (run,) = queue.runs()
    assert run.memory_mb == 812.5
    assert datetime.now(UTC) - datetime.fromisoformat(run.updated) < timedelta(seconds=10)
    assert not queue.give_sign_of_life(key, pid=sleeper.pid, memory_mb=1.0)
    queue.cancel(key)
    assert not queue.give_sign_of_life(key, pid=OWN_PID, memory_mb=1.0)


# The queue


def test_runs_wait_in_the_order_in_which_they_came(queue: RunQueue) -> None:
    submit(queue, 5, 1, 3, log_file="queued.log")
    (first, *_) = queue.runs()
    assert seeds(queue) == [5, 1, 3]
    assert (first.request, first.host, first.log_file) == (replace(REQUEST, seed=5), this_host(), "queued.log")
    assert first.progress == Progress(stage="queued")


def test_work_comes_before_what_waits_and_what_is_over_comes_newest_first(queue: RunQueue) -> None:
    specs = submit(queue, 1, 2, 3, 4)
    for spec in (specs[2], specs[0]):
        assert queue.take(spec.key, pid=OWN_PID)
        queue.end(spec.key, "done")
        time.sleep(0.005)
    queue.take(specs[3].key, pid=OWN_PID)
    assert [(run.spec.seed, run.state) for run in queue.runs()] == [
        *((4, "running"), (2, "queued"), (1, "done"), (3, "done"))
    ]


def test_what_waits_or_works_is_not_queued_twice(queue: RunQueue) -> None:
    (spec,) = submit(queue, 1)
    assert not queue.submit(spec, REQUEST, lanes="cpu")
    queue.take(spec.key, pid=OWN_PID)
    assert not queue.submit(spec, REQUEST, lanes="cpu")
    queue.end(spec.key, "failed", "Out of memory.")
    assert queue.submit(spec, REQUEST, lanes="0")
    assert [(run.state, run.message, run.lanes) for run in queue.runs()] == [("queued", "", "0")]


def test_a_run_for_a_cluster_has_no_machine_yet(queue: RunQueue) -> None:
    submit(queue, 1, executor="ray")
    assert [(run.executor, run.host) for run in queue.runs()] == [("ray", "")]


def test_a_run_of_a_cluster_that_is_typed_later_is_this_machines(queue: RunQueue) -> None:
    (spec,) = submit(queue, 1, executor="ray")
    queue.take(spec.key, pid=OWN_PID)
    queue.begin(spec, lanes="cpu", pid=OWN_PID, log_file="")
    assert [run.executor for run in queue.runs()] == ["ray"], "its process took it"
    queue.end(spec.key, "failed", "No memory.")
    queue.begin(spec, lanes="cpu", pid=OWN_PID, log_file="")
    assert [run.executor for run in queue.runs()] == ["local"]


def test_a_queued_run_is_taken_once(queue: RunQueue, sleeper: subprocess.Popen[bytes]) -> None:
    (spec,) = submit(queue, 1)
    assert queue.take(spec.key, pid=OWN_PID)
    assert queue.take(spec.key, pid=OWN_PID)
    assert not queue.take(spec.key, pid=sleeper.pid)
    queue.cancel(spec.key)
    assert not queue.take(spec.key, pid=OWN_PID)
    assert not queue.take("unknown", pid=OWN_PID)


@pytest.mark.parametrize(
    ("seed", "places", "expected"),
    [(3, -1, [1, 3, 2, 4]), (3, -9, [3, 1, 2, 4]), (1, 1, [2, 1, 3, 4]), (2, 9, [1, 3, 4, 2]), (2, 0, [1, 2, 3, 4])],
)
def test_places_can_be_changed(queue: RunQueue, seed: int, places: int, expected: list[int]) -> None:
    submit(queue, 1, 2, 3, 4)
    queue.move(make_spec(seed=seed).key, places)
    assert seeds(queue) == expected
    submit(queue, 9)
    assert seeds(queue) == [*expected, 9]


def test_only_a_queued_run_has_a_place(queue: RunQueue) -> None:
    (spec, _) = submit(queue, 1, 2)
    queue.take(spec.key, pid=OWN_PID)
    with pytest.raises(UnknownRunError, match="not queued"):
        queue.move(spec.key, 1)


def test_a_cancelled_run_stays_cancelled(queue: RunQueue) -> None:
    waiting, working = submit(queue, 1, 2)
    queue.take(working.key, pid=OWN_PID)
    assert queue.cancel(waiting.key).state == "queued"
    as_it_was = queue.cancel(working.key)
    assert (as_it_was.state, as_it_was.pid) == ("running", OWN_PID)
    # Its process may still report how it ended.
    queue.end(working.key, "failed", "Terminated.")
    assert {(run.state, run.message) for run in queue.runs()} == {("cancelled", "")}
    with pytest.raises(UnknownRunError, match="nothing to cancel"):
        queue.cancel(working.key)


def test_a_run_that_was_cancelled_since_it_was_taken_does_not_begin(
    queue: RunQueue, sleeper: subprocess.Popen[bytes]
) -> None:
    """Between the two a process imports torch and looks through the data set."""
    (spec,) = submit(queue, 1)
    queue.take(spec.key, pid=OWN_PID)
    queue.cancel(spec.key)
    with pytest.raises(UnknownRunError, match="was cancelled before it began"):
        queue.begin(spec, lanes="cpu", pid=OWN_PID, log_file="")
    assert [run.state for run in queue.runs()] == ["cancelled"]
    # Whoever types it later wants it.
    queue.begin(spec, lanes="cpu", pid=sleeper.pid, log_file="")
    assert [run.state for run in queue.runs()] == ["running"]


def test_a_run_without_a_result_can_be_resumed_behind_the_others(
    queue: RunQueue, sleeper: subprocess.Popen[bytes]
) -> None:
    failed, cancelled, lost, done, _ = submit(queue, 1, 2, 3, 4, 5)
    queue.cancel(cancelled.key)
    for spec, pid in ((failed, OWN_PID), (lost, sleeper.pid), (done, OWN_PID)):
        queue.take(spec.key, pid=pid)
    queue.tell(lost.key, Progress(stage="fine-tuning", finished=EPOCH))
    queue.end(failed.key, "failed", "Out of memory.")
    queue.end(done.key, "done")
    end(sleeper)
    for spec in (lost, failed, cancelled):
        assert queue.resume(spec.key, log_file="here.log").state == "queued"
    assert {run.log_file for run in queue.runs() if run.spec.seed != 5 and run.state == "queued"} == {"here.log"}
    assert seeds(queue) == [5, 3, 1, 2]
    assert queue.curve(lost.key) == (EPOCH,)
    assert {run.message for run in queue.runs()} == {""}
    for key in (done.key, lost.key, "unknown"):
        with pytest.raises(UnknownRunError, match="cannot be resumed"):
            queue.resume(key)


def test_a_run_that_nobody_typed_cannot_be_resumed(queue: RunQueue) -> None:
    queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
    queue.end(make_spec().key, "failed")
    with pytest.raises(UnknownRunError, match="cannot be resumed"):
        queue.resume(make_spec().key)


def test_only_a_run_that_is_over_can_be_removed(queue: RunQueue) -> None:
    (spec,) = submit(queue, 1)
    with pytest.raises(UnknownRunError, match="is queued; cancel it first"):
        queue.remove(spec.key)
    queue.take(spec.key, pid=OWN_PID)
    queue.tell(spec.key, Progress(stage="fine-tuning", finished=EPOCH))
    queue.cancel(spec.key)
    queue.remove(spec.key)
    assert queue.runs() == []
    assert queue.curve(spec.key) == ()


def test_a_run_is_found_by_the_beginning_of_its_key(queue: RunQueue) -> None:
    one, other = submit(queue, 1, 2)
    assert queue.find(one.key[:12]).spec == one
    assert queue.find(other.key).spec == other
    with pytest.raises(UnknownRunError, match="No run has a key that begins with 'xyz'"):
        queue.find("xyz")
    with pytest.raises(UnknownRunError, match="No run"):
        queue.find("")


def test_an_ambiguous_beginning_is_refused(queue: RunQueue) -> None:
    # Seventeen keys cannot all begin with different digits.
    keys = [spec.key for spec in submit(queue, *range(17))]
    first = next(key[0] for key in keys if [each[0] for each in keys].count(key[0]) > 1)
    count = [key[0] for key in keys].count(first)
    with pytest.raises(UnknownRunError, match=f"{count} runs have a key that begins with '{first}'"):
        queue.find(first)


def test_a_run_of_another_version_is_counted(store: Store) -> None:
    store.queue.begin(make_spec(), lanes="cpu", pid=OWN_PID, log_file="")
    note(store.queue, make_spec().key, spec='{"version": 99}')
    assert store.queue.runs() == []
    assert store.unreadable() == 1
