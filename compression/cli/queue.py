"""The commands of the queue: what is in it, in which order, and who empties it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from cache.queue import this_host
from cache.record import SHORT_KEY, ExecutorName
from compression.cli.commands import Add
from compression.errors import SpecError
from compression.models.tasks import TASKS
from compression.request import RunRequest

if TYPE_CHECKING:
    from cache.record import RunStatus

RESUMABLE = ("failed", "cancelled", "interrupted")


def queue_requests(requests: Sequence[RunRequest], executor: ExecutorName, *, as_json: bool, results: TextIO) -> None:
    """Queue requests and say what became of each; see that somebody works on them.

    Raises:
        TrimboardError: something asked for cannot be used; nothing was queued then.
    """
    from compression.jobs.submit import submit
    from compression.jobs.worker import ensure_worker

    rows = []
    for each in submit(requests, executor=executor):
        request, record = each.request, each.record
        rows.append(
            {
                "key": each.key[:SHORT_KEY],
                "level": "custom" if request.level is None else request.level,
                "criterion": request.method.criterion,
                "seed": request.seed,
                "state": each.state,
                "map50_95": record.metrics.map50_95 if record else None,
            }
        )
    if executor == "local":
        ensure_worker()
    _write(rows, as_json, results)


def add_queue_commands(add: Add) -> None:
    """Add the commands to the parser of all commands."""
    runs = add("runs", _runs, "List the runs: at work, queued, and how others ended.")
    runs.add_argument("key", nargs="?", help="show this one, with its epochs and the end of its log")

    cancel = add("cancel", _cancel, "End runs, or take them out of the queue; what they did is kept.")
    cancel.add_argument("keys", nargs="+", metavar="KEY", help="as `trimboard runs` shows it, or its beginning")

    resume = add("resume", _resume, "Queue runs again that ended without a result; they go on from their last epoch.")
    resume.add_argument("keys", nargs="*", metavar="KEY", help="as `trimboard runs` shows it, or its beginning")
    resume.add_argument(
        "--all", action="store_true", help="all of this machine or a cluster that failed, were cancelled or interrupted"
    )

    move = add("move", _move, "Change a queued run's place.")
    move.add_argument("key", metavar="KEY", help="as `trimboard runs` shows it, or its beginning")
    move.add_argument("places", type=int, metavar="PLACES", help="so many forward (-1) or back (1)")

    worker = add("worker", _worker, "Work on this machine's queue until it is empty; queueing starts one by itself.")
    worker.add_argument("--stay", action="store_true", help="wait for further runs, as a service does")


def _runs(options: argparse.Namespace, results: TextIO) -> None:
    from cache.store import own_store
    from compression.jobs.logs import log_tail
    from compression.jobs.ray_cluster import settle

    queue = own_store().queue
    settle(queue)
    if options.key is None:
        _write([_row(status) for status in queue.runs()], options.json, results)
        return
    status = queue.find(options.key)
    curve, log = queue.curve(status.key), log_tail(status)
    if options.json:
        found = {**_row(status), "spec": status.spec.to_dict(), "curve": [asdict(row) for row in curve], "log": log}
        json.dump(found, results, indent=1)
        results.write("\n")
        return
    _write([_row(status)], False, results)
    main = TASKS[status.spec.task].main
    for row in curve:
        results.write(f"epoch {row.epoch}: {main} {row.map50_95:.3f}, {row.seconds:.1f} s\n")
    results.writelines(f"| {line}\n" for line in log)


def _row(status: RunStatus) -> dict[str, Any]:
    spec, progress = status.spec, status.progress
    return {
        "key": status.key[:SHORT_KEY],
        "state": status.state,
        "model": spec.without_places().model,
        "data": spec.data,
        "level": "custom" if spec.level is None else spec.level,
        "criterion": spec.criterion,
        "seed": spec.seed,
        "stage": progress.stage,
        "epoch": f"{progress.epoch}/{progress.epochs}" if progress.epochs else "",
        "map50_95": progress.map50_95,
        "device": status.lanes,
        "host": status.host,
        "message": status.message,
    }


def _cancel(options: argparse.Namespace, results: TextIO) -> None:
    from cache.store import own_store
    from compression.jobs.control import cancel

    queue = own_store().queue
    for status in [queue.find(key) for key in options.keys]:
        cancel(queue, status.key)
    _write([_row(queue.find(key)) for key in options.keys], options.json, results)


def _resume(options: argparse.Namespace, results: TextIO) -> None:
    from cache.store import own_store
    from compression.jobs.control import resume

    if bool(options.keys) == options.all:
        raise SpecError("Give the keys of the runs to resume, or --all.")
    queue = own_store().queue
    found = [queue.find(key) for key in options.keys] or [
        status
        for status in queue.runs()
        if status.state in RESUMABLE and status.request is not None and _is_of_here(status)
    ]
    for status in found:
        resume(queue, status.key)
    _write([_row(queue.find(status.key)) for status in found], options.json, results)


def _is_of_here(status: RunStatus) -> bool:
    """Whether a run is this machine's to resume unasked: the files that another one's needs may not be here."""
    return status.executor != "local" or status.host == this_host()


def _move(options: argparse.Namespace, results: TextIO) -> None:
    from cache.store import own_store

    queue = own_store().queue
    queue.move(queue.find(options.key).key, options.places)
    _write([_row(status) for status in queue.runs() if status.state == "queued"], options.json, results)


def _worker(options: argparse.Namespace, results: TextIO) -> None:
    from compression.jobs.worker import work

    work(stay=options.stay)


def _write(rows: list[dict[str, Any]], as_json: bool, results: TextIO) -> None:
    if as_json:
        json.dump(rows, results, indent=1)
        results.write("\n")
    elif rows:
        import pandas as pd

        results.write(f"{pd.DataFrame(rows).to_string(index=False, na_rep='-')}\n")
    else:
        sys.stderr.write("There are no runs.\n")
