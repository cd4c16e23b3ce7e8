"""The store's figures with 10,000 results, as JSON on stdout: SQLite, and PostgreSQL where there is one.

    python -m benchmarks.store                                          # starts a PostgreSQL where it is installed
    TRIMBOARD_DB=postgresql+psycopg://... python -m benchmarks.store    # an empty database there

Results are copies of a study that comes with the program, with layers and most with curves, of 10 models on 5 data sets
each. What is asked is asked in several new processes, once and then again; imports are not counted. All times are
medians in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cache.engine import ADDRESS_VARIABLE
from cache.record import RunRecord
from cache.shipped import load_shipped
from cache.store import Store
from tests.postgres import programs, running_server

N_RECORDS = 10_000
N_MODELS, N_DATASETS = 10, 5
# What is copied: a model and a data set that several methods are measured on, with seeds 0 to N_SEEDS - 1.
COPIED, N_SEEDS = ("yolo26n", "bccd"), 3
N_SAVED_ALONE = 100
N_PROCESSES = 5
N_REPEATS = 9

QUESTIONS: dict[str, Callable[[Store], object]] = {
    "table_of_all": lambda store: store.table(),
    "table_of_one_model": lambda store: store.table(model="model-3"),
    "table_of_one_data_set": lambda store: store.table(data="data-2"),
    "table_of_both": lambda store: store.table(model="model-3", data="data-2"),
    "heads_of_both": lambda store: store.heads(model="model-3", data="data-2"),
    "overview": lambda store: store.overview(),
    "unreadable": lambda store: store.unreadable(),
}


def made_records() -> Iterator[RunRecord]:
    """Results as large as real ones, no two of one key: whole series, as a page shows them, again and again."""
    shipped = (item.record for item in load_shipped().by_key.values())
    real = [record for record in shipped if (record.model, record.data) == COPIED]
    for number in range(N_RECORDS):
        copy, record = number // len(real), real[number % len(real)]
        assert record.spec is not None
        model, data = f"model-{copy % N_MODELS}", f"data-{copy // N_MODELS % N_DATASETS}"
        spec = replace(record.spec, seed=N_SEEDS * copy + record.spec.seed, data=data)
        yield replace(record, key=spec.key, spec=spec, model=model, data=data)


def fill(address: str) -> dict[str, float]:
    """Write all results; a few of them as runs do, one after the other."""
    store, coming = Store(address), made_records()
    alone = [next(coming) for _ in range(N_SAVED_ALONE)]
    saving = [_ms(store.save, record) for record in alone]
    merging = _ms(lambda: store.merge(coming, replace=False, settle=lambda outcome: None))
    return {
        "record_kb": statistics.mean(len(json.dumps(record.to_dict())) for record in alone) / 1000,
        "save": statistics.median(saving),
        "merge_each": merging / (N_RECORDS - N_SAVED_ALONE),
    }


def ask(address: str) -> dict[str, list[float]]:
    """Open the store and ask it everything: the time of the first answer and of those after it."""
    # What a page or a command has imported by then.
    import cache.comparison  # noqa: F401

    start = time.perf_counter()
    store = Store(address)
    opening = 1e3 * (time.perf_counter() - start)
    found = {"open": [opening, *(_ms(Store, address) for _ in range(N_REPEATS))]}
    for name, question in QUESTIONS.items():
        found[name] = [_ms(question, store) for _ in range(1 + N_REPEATS)]
    keys = store.own_keys(model="model-3")[: 1 + N_REPEATS]
    found["find"] = [_ms(store.find, key) for key in keys]
    return found


def ask_in_new_processes(address: str) -> dict[str, dict[str, float]]:
    """Medians of the first answer in a process, and of later ones."""
    environment = os.environ | {ADDRESS_VARIABLE: address}
    command = [sys.executable, "-m", "benchmarks.store", "--ask"]
    answers = [
        json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(N_PROCESSES)
    ]
    return {
        name: {
            "first": statistics.median(times[name][0] for times in answers),
            "again": statistics.median(each for times in answers for each in times[name][1:]),
        }
        for name in answers[0]
    }


def _ms(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return 1e3 * (time.perf_counter() - start)


def _rounded(value: Any) -> Any:
    return {name: _rounded(each) for name, each in value.items()} if isinstance(value, dict) else round(value, 2)


@contextmanager
def _postgresql() -> Iterator[str | None]:
    """An empty PostgreSQL database, given or started; None where there is none."""
    given = os.environ.get(ADDRESS_VARIABLE)
    if given or programs() is None:
        yield given
        return
    with running_server() as server, server.new_database() as address:
        yield address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ask", action="store_true", help="ask the database of TRIMBOARD_DB, and print the times")
    if parser.parse_args().ask:
        print(json.dumps(ask(os.environ[ADDRESS_VARIABLE])))
        return
    figures: dict[str, Any] = {"records": N_RECORDS}
    with tempfile.TemporaryDirectory() as folder, _postgresql() as postgresql:
        for name, address in (("sqlite", f"sqlite:///{folder}/store.db"), ("postgresql", postgresql)):
            if address:
                figures[name] = {**fill(address), **ask_in_new_processes(address)}
    print(json.dumps(_rounded(figures), indent=1))


if __name__ == "__main__":
    main()
