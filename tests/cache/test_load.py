"""Ten processes that write and twenty that read, at one database at once: nothing is lost, and nobody is turned away."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from cache.record import Progress
from cache.store import Store
from compression.request import RunRequest
from tests.cache.samples import EPOCH, LAYER, make_plan, make_record, make_spec

N_WRITERS, N_READERS = 10, 20
# CI sets a minute. That is for SQLite, which locks the whole file; PostgreSQL gets a third of it.
SECONDS = float(os.environ.get("TRIMBOARD_LOAD_SECONDS", "4"))
REQUEST = RunRequest(model="weights/my-yolo26n.pt", data="shapes", level=5)


def _seconds(address: str) -> float:
    return SECONDS if address.startswith("sqlite") else SECONDS / 3


def _write(number: int, address: str, shipped: Path, notes: Path, together: Barrier) -> None:
    """Do what runs do, and note what has to be there afterwards."""
    store = Store(address, shipped=shipped)
    together.wait()
    end, turn = time.monotonic() + _seconds(address), 0
    while turn == 0 or time.monotonic() < end:
        spec = make_spec(seed=1000 * number + turn)
        n_layers = 1 + turn % 30
        layers = tuple(replace(LAYER, name=f"model.{index}") for index in range(n_layers))
        environment = {"n_layers": str(n_layers)}
        queue = store.queue
        queue.submit(spec, REQUEST, lanes=f"cuda:{number}")
        queue.begin(spec, lanes=f"cuda:{number}", pid=os.getpid(), log_file="")
        for epoch in (1, 2):
            queue.tell(spec.key, Progress(stage="fine-tuning", finished=replace(EPOCH, epoch=epoch)))
        for key in (spec.key, "of all"):
            store.save(make_record(spec, key=key, model=f"m{number % 3}", layers=layers, environment=environment))
        store.save_plan(spec.key, make_plan(seconds=turn))
        queue.end(spec.key, "done")
        turn += 1
    store.close()
    (notes / f"writer-{number}.json").write_text(json.dumps(turn))


def _read(number: int, address: str, shipped: Path, notes: Path, together: Barrier) -> None:
    """Do what pages do; what is seen is whole."""
    store = Store(address, shipped=shipped)
    together.wait()
    end, turn, seen = time.monotonic() + _seconds(address), 0, 0
    while turn == 0 or time.monotonic() < end:
        table = store.table()
        assert len(set(table["key"])) == len(table) >= seen, "a result is gone, or there twice"
        seen = len(table)
        assert len(store.heads(model="m1", data="shapes")) >= (table["model"] == "m1").sum() - 1
        for key in table["key"].tail(3):
            record = store.find(key)
            assert record is not None
            assert len(record.layers) == int(record.environment["n_layers"])
        assert all(len(store.queue.curve(run.key)) == 2 for run in store.queue.runs()[-3:] if run.state == "done")
        assert store.unreadable() == 0
        turn += 1
    store.close()
    (notes / f"reader-{number}.json").write_text(json.dumps(turn))


def test_nothing_is_lost_under_load(
    address: str, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The processes find this module there.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    Store(address, shipped=shipped).close()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "cache.comparison"])
    notes = tmp_path / "notes"
    notes.mkdir()
    together = context.Barrier(N_WRITERS + N_READERS)
    work = [(_write, number) for number in range(N_WRITERS)] + [(_read, number) for number in range(N_READERS)]
    processes = [
        context.Process(target=target, args=(number, address, shipped, notes, together)) for target, number in work
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS + 120)
    assert [process.exitcode for process in processes] == [0] * len(processes)
    n_written = {number: json.loads((notes / f"writer-{number}.json").read_text()) for number in range(N_WRITERS)}
    store = Store(address, shipped=shipped)
    expected = {make_spec(seed=1000 * number + turn).key for number, n in n_written.items() for turn in range(n)}
    assert {record.key for record in store.records()} == expected | {"of all"}
    assert set(store.table()["key"]) == expected | {"of all"}
    assert {run.key for run in store.queue.runs()} == expected
    assert all(run.state == "done" and len(store.queue.curve(run.key)) == 2 for run in store.queue.runs())
    assert all(store.find_plan(key) for key in expected)
    store.close()
