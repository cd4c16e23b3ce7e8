"""Several processes at one database."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, select, update

from cache.store import Store
from cache.tables import plans_table, records_table
from tests.cache.samples import LAYER, make_plan, make_record, make_spec

ROOT = Path(__file__).parents[2]

# Reads until the last record is there; the one that is replaced all the time must always be there, and whole.
READER = """
import pathlib, sys
from cache.store import Store

store = Store(shipped=pathlib.Path(sys.argv[1]))
print("ready", flush=True)
n_reads = 0
while True:
    found = {record.key: record for record in store.records()}
    assert "replaced" in found, sorted(found)
    for record in found.values():
        assert len(record.layers) == int(record.environment["n_layers"]), record.key
    n_reads += 1
    if "last" in found:
        break
print(n_reads)
"""

# Opens a database that may not exist yet, as soon as it is told to.
OPENER = """
import pathlib, sys
from cache.store import Store

print("ready", flush=True)
sys.stdin.readline()
store = Store(shipped=pathlib.Path(sys.argv[1]))
print(len(store.records()))
"""


# Writes, and does not come to its end.
WRITER = """
import pathlib, sys, time
from sqlalchemy import insert
from cache.store import Store
from cache.tables import plans_table

with Store(shipped=pathlib.Path(sys.argv[1]))._database.writing() as connection:
    connection.execute(insert(plans_table).values(key="half", payload="{}"))
    print("ready", flush=True)
    time.sleep(60)
"""


def _start(script: str, shipped: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(shipped)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def _wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_readers_see_results_whole_or_not_at_all(store: Store, shipped: Path) -> None:
    def save(key: str, n_layers: int) -> None:
        layers = tuple(replace(LAYER, name=f"model.{i}") for i in range(n_layers))
        store.save(make_record(make_spec(), key=key, layers=layers, environment={"n_layers": str(n_layers)}))

    save("replaced", 10)
    readers = [_start(READER, shipped) for _ in range(2)]
    for reader in readers:
        _wait_ready(reader)
    for turn in range(60):
        save("replaced", 10 + turn)
        save(f"new {turn}", 20)
    save("last", 1)
    for reader in readers:
        output, errors = reader.communicate(timeout=60)
        assert reader.returncode == 0, errors
        assert int(output) >= 1


def test_processes_may_create_the_database_at_once(address: str, shipped: Path) -> None:
    openers = [_start(OPENER, shipped) for _ in range(4)]
    for opener in openers:
        _wait_ready(opener)
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        output, errors = opener.communicate(timeout=60)
        assert (opener.returncode, output) == (0, "0\n"), errors


def test_opening_waits_for_the_process_that_is_creating_the_database(tmp_path: Path, shipped: Path) -> None:
    file = tmp_path / "new.db"
    creator = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    creator.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.3, creator.execute, ["COMMIT"])
    done.start()
    store = Store(f"sqlite:///{file}", shipped=shipped)
    assert store.records() == []
    store.close()
    done.join()
    creator.close()


def test_whoever_writes_sees_what_the_one_before_wrote(store: Store) -> None:
    """Each thread reads a number and writes the next one; alone as it is, none is written twice."""
    store.save_plan("count", make_plan(seconds=0))

    def count() -> None:
        for _ in range(10):
            with store._database.writing() as connection:
                text = connection.scalar(select(plans_table.c.payload).where(plans_table.c.key == "count"))
                seconds = json.loads(str(text))["seconds"] + 1
                payload = json.dumps(make_plan(seconds=seconds).to_dict())
                connection.execute(update(plans_table).values(payload=payload))

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plan = store.find_plan("count")
    assert plan is not None
    assert plan.seconds == 50


def test_waiting_takes_nothing_from_the_common_random_numbers(store: Store) -> None:
    """A training draws from them in another thread, and must get the same ones however long a write had to wait."""
    entered, before = threading.Event(), random.getstate()

    def write() -> None:
        with store._database.writing():
            entered.set()
            time.sleep(0.3)

    other = threading.Thread(target=write)
    other.start()
    assert entered.wait(10)
    with store._database.writing():
        pass
    other.join()
    assert random.getstate() == before


def test_a_reading_transaction_sees_one_state(store: Store) -> None:
    n_records = select(func.count()).select_from(records_table)
    with store._database.reading() as connection:
        before = connection.scalar(n_records)
        writer = threading.Thread(target=store.save, args=[make_record()])
        writer.start()
        writer.join()
        assert (before, connection.scalar(n_records)) == (0, 0)
    assert len(store.records()) == 1


def test_a_writer_that_is_killed_leaves_nothing_and_holds_nobody_up(store: Store, shipped: Path) -> None:
    writer = _start(WRITER, shipped)
    _wait_ready(writer)
    writer.kill()
    writer.wait()
    store.save(make_record())
    assert store.records() == [make_record()]
