"""Databases of older programs become today's when they are opened, and keep what they hold."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, func, inspect, make_url, select, text, update

from cache.comparison import COLUMNS, comparison
from cache.database import revision_name, revision_table
from cache.engine import StoreError
from cache.migrations import configuration, migrate
from cache.processes import started_at
from cache.queue import INTERRUPTED, this_host
from cache.store import Store
from cache.tables import REVISION, metadata, records_table
from tests.cache.samples import make_plan, make_record, make_spec
from tests.cache.test_concurrency import OPENER, _start, _wait_ready
from tests.factories import accuracy, latency, layer_times, sensitivity

# What the program of before there were revisions made, as SQLite keeps it.
OLD_SCHEMA = """
CREATE TABLE records (key VARCHAR NOT NULL, model VARCHAR NOT NULL, data VARCHAR NOT NULL, level INTEGER,
    created VARCHAR NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (key));
CREATE INDEX ix_records_model ON records (model);
CREATE INDEX ix_records_data ON records (data);
CREATE INDEX ix_records_level ON records (level);
CREATE INDEX ix_records_created ON records (created);
CREATE TABLE plans (key VARCHAR NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (key));
CREATE TABLE runs (key VARCHAR NOT NULL, spec TEXT NOT NULL, state VARCHAR NOT NULL, progress TEXT NOT NULL,
    pid INTEGER NOT NULL, process_started FLOAT NOT NULL, started VARCHAR NOT NULL, updated VARCHAR NOT NULL,
    message TEXT NOT NULL, log_file VARCHAR NOT NULL, PRIMARY KEY (key));
CREATE INDEX ix_runs_started ON runs (started);
"""
RECORD, OTHER = make_record(), make_record(make_spec(level=None, seed=9), model="other")
BAD = '{"version": 99}'
# Of a result of before there were recovery and test images.
ADDED_LATER = ("metrics_recovered", "metrics_test")


def _old_rows(pid: int) -> Iterator[tuple[str, tuple[object, ...]]]:
    early = {name: value for name, value in OTHER.to_dict().items() if name not in ADDED_LATER}
    for key, model, payload in (
        (RECORD.key, RECORD.model, json.dumps(RECORD.to_dict())),
        (OTHER.key, OTHER.model, json.dumps(early)),
        ("bad", "m", BAD),
    ):
        yield "INSERT INTO records VALUES (?, ?, 'shapes', 5, '2026-05-22', ?)", (key, model, payload)
    yield "INSERT INTO plans VALUES (?, ?)", ("plan", json.dumps(make_plan().to_dict()))
    for seed, state, own_pid in ((0, "done", 1), (1, "failed", 1), (2, "running", pid), (3, "running", 2**22 - 1)):
        spec, now = make_spec(seed=seed), "2026-05-22T10:00:00.000+00:00"
        row = (spec.key, json.dumps(spec.to_dict()), state, json.dumps({"stage": "fine-tuning", "epoch": 3}), own_pid)
        ends = (started_at(own_pid), now, now, "Disk full." if state == "failed" else "", f"{seed}.log")
        yield f"INSERT INTO runs VALUES ({', '.join('?' * 10)})", (*row, *ends)


@pytest.fixture
def old_sqlite(tmp_path: Path) -> str:
    """The address of a database as an older program left it."""
    file = tmp_path / "old.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(OLD_SCHEMA)
        for statement, values in _old_rows(os.getpid()):
            connection.execute(statement, values)
    connection.close()
    return f"sqlite:///{file}"


@contextmanager
def _connected(address: str) -> Iterator[Connection]:
    engine: Engine = create_engine(address)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest) -> str:
    """The same on both; no program wrote the old form into PostgreSQL, so the first revision makes it there."""
    if request.param == "sqlite":
        found: str = request.getfixturevalue("old_sqlite")
        return found
    address: str = request.getfixturevalue("postgresql_address")
    with _connected(address) as connection:
        migrate(connection, revision_name(1))
        for statement, values in _old_rows(os.getpid()):
            connection.exec_driver_sql(statement.replace("?", "%s"), values)
        connection.execute(text("DROP TABLE alembic_version"))
    return address


def test_old_results_are_kept_and_can_be_compared(old: str, shipped: Path) -> None:
    store = Store(old, shipped=shipped)
    early = make_record(make_spec(level=None, seed=9), model="other", metrics_recovered=None, metrics_test=None)
    assert store.records() == [RECORD, early]
    assert [head.key for head in store.heads()] == [RECORD.key, OTHER.key]
    pd.testing.assert_frame_equal(store.table(), comparison([RECORD, early]))
    assert store.find_plan("plan") == make_plan()
    store.close()


def test_what_an_old_program_could_not_read_either_is_kept_and_counted(old: str, shipped: Path) -> None:
    store = Store(old, shipped=shipped)
    assert store.unreadable() == 1
    with store._database.reading() as connection:
        kept = connection.scalar(select(records_table.c.payload).where(records_table.c.key == "bad"))
    assert kept == BAD
    store.close()


def test_old_runs_are_kept_with_their_states(old: str, shipped: Path) -> None:
    store = Store(old, shipped=shipped)
    runs = {run.spec.seed: run for run in store.queue.runs()}
    assert {seed: run.state for seed, run in runs.items()} == {
        0: "done",
        1: "failed",
        # The process of the one lives, that of the other is gone.
        2: "running",
        3: "interrupted",
    }
    assert (runs[1].message, runs[3].message) == ("Disk full.", INTERRUPTED)
    run = runs[1]
    assert (run.request, run.executor, run.host, run.lanes, run.log_file) == (None, "local", this_host(), "", "1.log")
    assert (run.progress.stage, run.progress.epoch, run.queued) == ("fine-tuning", 3, run.started)
    store.close()


def test_a_migrated_database_is_like_a_new_one(old: str, address: str, shipped: Path) -> None:
    for each in (old, address):
        store = Store(each, shipped=shipped)
        store.save(make_record(make_spec(seed=77)))
        store.close()
        with _connected(each) as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == revision_name(REVISION)
            assert "ix_runs_started" not in {index["name"] for index in inspect(connection).get_indexes("runs")}


def test_the_last_revision_is_the_one_that_is_looked_for(address: str) -> None:
    with _connected(address) as connection:
        scripts = ScriptDirectory.from_config(configuration(connection))
    assert scripts.get_heads() == [revision_name(REVISION)]
    assert [script.revision for script in scripts.walk_revisions()] == [
        revision_name(number) for number in range(REVISION, 0, -1)
    ]


def test_lines_of_the_comparison_are_those_of_the_last_revision() -> None:
    """Other columns need a revision that writes the lines of older results again; then this number follows."""
    assert (REVISION, zlib.crc32(",".join(COLUMNS).encode())) == (7, 3030481880)


def test_a_database_with_a_queue_of_before_there_were_revisions_is_migrated_too(old_sqlite: str, shipped: Path) -> None:
    Store(old_sqlite, shipped=shipped).close()
    with _connected(old_sqlite) as connection:
        connection.execute(text("UPDATE runs SET lanes = 'cuda:1' WHERE state = 'failed'"))
        connection.execute(text("INSERT INTO epochs VALUES ('k', 1, '{}')"))
        for name in ("alembic_version", "summaries", "latencies", "layer_times", "accuracies", "sensitivities"):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("ALTER TABLE records DROP COLUMN head"))
    store = Store(old_sqlite, shipped=shipped)
    assert [run.lanes for run in store.queue.runs() if run.state == "failed"] == ["cuda:1"]
    assert len(store.table()) == 2
    with store._database.reading() as connection:
        assert connection.scalar(text("SELECT count(*) FROM epochs")) == 1
    store.close()


def test_processes_that_open_an_old_database_at_once_do_not_clash(
    old: str, shipped: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMBOARD_DB", old)
    openers = [_start(OPENER, shipped) for _ in range(4)]
    for opener in openers:
        _wait_ready(opener)
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("go\n")
        opener.stdin.flush()
    for opener in openers:
        output, errors = opener.communicate(timeout=60)
        assert (opener.returncode, output) == (0, "2\n"), errors


def test_lines_of_a_form_2_are_written_again_and_what_cannot_be_read_is_counted(address: str, shipped: Path) -> None:
    """A line of form 2 knew nothing of the steps of channels."""
    store = Store(address, shipped=shipped)
    for record in (RECORD, OTHER):
        store.save(record)
    store.close()
    with _connected(address) as connection:
        for name in ("latencies", "layer_times", "accuracies", "sensitivities"):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("UPDATE summaries SET line = 'old'"))
        connection.execute(update(records_table).where(records_table.c.key == OTHER.key).values(payload=BAD))
        connection.execute(update(revision_table).values(version_num=revision_name(2)))
    store = Store(address, shipped=shipped)
    pd.testing.assert_frame_equal(store.table(), comparison([RECORD]))
    assert store.unreadable() == 1
    assert store.find_latency("k") is None
    store.close()


def test_a_database_of_form_3_keeps_its_results_and_takes_times_of_layers(address: str, shipped: Path) -> None:
    store = Store(address, shipped=shipped)
    store.save(RECORD)
    store.close()
    with _connected(address) as connection:
        for name in ("layer_times", "accuracies", "sensitivities"):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(update(revision_table).values(version_num=revision_name(3)))
    store = Store(address, shipped=shipped)
    assert store.find(RECORD.key) == RECORD
    times = layer_times()
    store.save_layer_times(times)
    assert store.layer_times(times.spec.subject) == [times]
    store.close()


def test_a_form_4_keeps_its_latencies_and_gets_room_for_accuracies(address: str, shipped: Path) -> None:
    store = Store(address, shipped=shipped)
    store.save_latency(latency())
    store.close()
    with _connected(address) as connection:
        for name in ("accuracies", "sensitivities"):
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(update(revision_table).values(version_num=revision_name(4)))
    store = Store(address, shipped=shipped)
    assert store.latencies(["ab" * 32]) == [latency()]
    store.save_accuracy(accuracy())
    assert store.find_accuracy(accuracy().spec.key) == accuracy()
    store.close()


def test_a_form_5_keeps_its_accuracies_and_gets_room_for_sensitivities(address: str, shipped: Path) -> None:
    store = Store(address, shipped=shipped)
    store.save_accuracy(accuracy())
    store.close()
    with _connected(address) as connection:
        connection.execute(text("DROP TABLE sensitivities"))
        connection.execute(update(revision_table).values(version_num=revision_name(5)))
    store = Store(address, shipped=shipped)
    assert store.find_accuracy(accuracy().spec.key) == accuracy()
    store.save_sensitivity(sensitivity())
    assert store.find_sensitivity(sensitivity().spec.key) == sensitivity()
    store.close()


def test_a_migration_that_fails_leaves_the_old_database(
    old: str, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(record: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("cache.summary.head_json", fail)
        with pytest.raises(KeyboardInterrupt):
            Store(old, shipped=shipped)
    with _connected(old) as connection:
        tables = inspect(connection).get_table_names()
        assert sorted(tables) == ["plans", "records", "runs"]
        assert connection.scalar(text("SELECT count(*) FROM runs")) == 4
    store = Store(old, shipped=shipped)
    assert len(store.queue.runs()) == 4
    store.close()


def test_a_database_of_a_newer_program_is_refused(address: str, shipped: Path) -> None:
    Store(address, shipped=shipped).close()
    with _connected(address) as connection:
        connection.execute(update(revision_table).values(version_num=revision_name(REVISION + 1)))
    with pytest.raises(
        StoreError,
        match=rf"written by a newer Trimboard \(form {REVISION + 1}, this one knows up to {REVISION}\); update",
    ):
        Store(address, shipped=shipped)


@pytest.mark.parametrize("noted", ["1a2b3c4d5e6f", "trimboard_x", "trimboard_02", None])
def test_a_database_of_another_program_is_refused_and_left_alone(
    address: str, shipped: Path, noted: str | None
) -> None:
    with _connected(address) as connection:
        connection.execute(text("CREATE TABLE customers (id INTEGER)"))
        if noted:
            revision_table.create(connection)
            connection.execute(revision_table.insert().values(version_num=noted))
    with pytest.raises(StoreError, match="holds tables of another program; give Trimboard an empty one of its own"):
        Store(address, shipped=shipped)
    with _connected(address) as connection:
        assert set(inspect(connection).get_table_names()) <= {"customers", "alembic_version"}


def test_opening_what_is_up_to_date_is_fast_and_imports_no_alembic(address: str, shipped: Path) -> None:
    Store(address, shipped=shipped).close()
    script = (
        "import pathlib, sys; from cache.store import Store;"
        f"Store({address!r}, shipped=pathlib.Path({str(shipped)!r}));"
        "print(sorted({'alembic', 'pandas', 'pyarrow', 'fsspec'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "[]\n"
    if make_url(address).get_backend_name() == "sqlite":
        times = []
        for _ in range(9):
            start = time.perf_counter()
            Store(address, shipped=shipped)
            times.append(time.perf_counter() - start)
        assert min(times) < 0.01


def test_migrations_are_installed_with_the_program() -> None:
    folder = Path(importlib.import_module("cache.migrations").__file__ or "").parent
    assert {file.name for file in folder.rglob("*.py")} >= {"env.py"}
    assert all((parent / "__init__.py").is_file() for parent in (folder, folder / "versions"))
    assert importlib.metadata.version("alembic")


def test_a_new_database_holds_nothing(address: str, shipped: Path) -> None:
    store = Store(address, shipped=shipped)
    with store._database.reading() as connection:
        counts = [connection.scalar(select(func.count()).select_from(table)) for table in metadata.sorted_tables]
    assert counts == [0] * 9
    store.close()
