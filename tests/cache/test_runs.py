from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cache.database import StoreError
from cache.record import Progress
from cache.store import RunBusyError, Store
from tests.cache.samples import make_spec


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A living process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_run_tells_its_way_from_start_to_end(store: Store) -> None:
    spec = make_spec()
    store.begin_run(spec, pid=os.getpid(), log_file="run.log")
    (begun,) = store.runs(active_only=True)
    assert (begun.key, begun.spec, begun.state, begun.pid) == (spec.key, spec, "running", os.getpid())
    assert (begun.message, begun.log_file) == ("", "run.log")

    progress = Progress(stage="fine-tuning", epoch=2, epochs=30, eta_seconds=12.5, map50=0.5, map50_95=0.25)
    store.tell(spec.key, progress)
    (told,) = store.runs()
    assert told.progress == progress
    assert told.updated >= told.started == begun.started

    store.end_run(spec.key, "done")
    assert store.runs(active_only=True) == []
    assert [(run.state, run.progress) for run in store.runs()] == [("done", progress)]


def test_a_failed_run_says_why(store: Store) -> None:
    store.begin_run(make_spec(), pid=os.getpid(), log_file="")
    store.end_run(make_spec().key, "failed", "The data set has no labels.")
    assert [(run.state, run.message) for run in store.runs()] == [("failed", "The data set has no labels.")]


def test_runs_come_newest_first(store: Store) -> None:
    for seed in (1, 2, 3):
        store.begin_run(make_spec(seed=seed), pid=os.getpid(), log_file="")
        time.sleep(0.005)
    assert [run.spec.seed for run in store.runs()] == [3, 2, 1]


def test_a_run_that_was_not_begun_cannot_tell(store: Store) -> None:
    with pytest.raises(StoreError, match="no run 'unknown'"):
        store.tell("unknown", Progress(stage="pruning"))


def test_the_same_run_is_not_begun_twice_at_once(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    store.begin_run(make_spec(), pid=sleeper.pid, log_file="first.log")
    with pytest.raises(RunBusyError, match=f"process {sleeper.pid}"):
        store.begin_run(make_spec(), pid=os.getpid(), log_file="second.log")
    assert [run.log_file for run in store.runs()] == ["first.log"]
    store.begin_run(make_spec(seed=7), pid=os.getpid(), log_file="")
    assert len(store.runs(active_only=True)) == 2


def test_a_process_may_note_its_own_run_again(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    store.begin_run(make_spec(), pid=sleeper.pid, log_file="page.log")
    store.begin_run(make_spec(), pid=sleeper.pid, log_file="own.log")
    assert [run.log_file for run in store.runs()] == ["own.log"]


def test_a_finished_run_may_be_begun_again_by_another_process(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    store.begin_run(make_spec(), pid=sleeper.pid, log_file="")
    store.end_run(make_spec().key, "failed", "Out of memory.")
    store.begin_run(make_spec(), pid=os.getpid(), log_file="")
    assert [(run.state, run.pid, run.message) for run in store.runs()] == [("running", os.getpid(), "")]


def _assert_lost(store: Store) -> None:
    assert store.runs(active_only=True) == []
    (run,) = store.runs()
    assert (run.state, run.message) == ("failed", "The process ended without a word; its log says more.")
    store.begin_run(make_spec(), pid=os.getpid(), log_file="")
    assert [run.pid for run in store.runs(active_only=True)] == [os.getpid()]


def test_a_run_whose_process_is_gone_has_failed(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    store.begin_run(make_spec(), pid=sleeper.pid, log_file="")
    sleeper.kill()
    sleeper.wait()
    _assert_lost(store)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no zombies")
def test_a_run_whose_process_is_a_zombie_has_failed(store: Store, sleeper: subprocess.Popen[bytes]) -> None:
    store.begin_run(make_spec(), pid=sleeper.pid, log_file="")
    sleeper.kill()
    deadline = time.monotonic() + 10
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    _assert_lost(store)


def test_a_later_process_under_the_same_id_is_not_the_run(
    store: Store, home: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    store.begin_run(make_spec(), pid=sleeper.pid, log_file="")
    with sqlite3.connect(home / "trimboard.db") as connection:
        connection.execute("UPDATE runs SET process_started = process_started - 3600")
    connection.close()
    _assert_lost(store)


def test_a_run_that_was_begun_for_a_process_already_gone_has_failed(
    store: Store, sleeper: subprocess.Popen[bytes]
) -> None:
    sleeper.kill()
    sleeper.wait()
    store.begin_run(make_spec(), pid=sleeper.pid, log_file="")
    _assert_lost(store)


def test_a_run_of_another_version_is_counted(store: Store, home: Path) -> None:
    store.begin_run(make_spec(), pid=os.getpid(), log_file="")
    with sqlite3.connect(home / "trimboard.db") as connection:
        connection.execute("""UPDATE runs SET spec = '{"version": 99}'""")
    connection.close()
    assert store.runs() == []
    assert store.unreadable() == 1
