"""The runs of a user or a team: what waits in which order, what is at work and how far, and how the others ended.

A run at work tells its progress from its own process, together with a sign of life. Whether it still lives is seen
from its process on the machine where it runs, and elsewhere from how long ago the last sign of life came.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from cache.database import Database
from cache.processes import is_alive, started_at
from cache.record import SHORT_KEY, EpochRow, ExecutorName, Progress, RunState, RunStatus
from cache.tables import epochs_table, runs_table
from compression.errors import SpecError, TrimboardError
from compression.request import RunRequest
from compression.spec import RunSpec

# A run gives a sign of life every two seconds; a machine whose clock is off or whose disk is slow gets half a minute.
SILENCE = timedelta(seconds=30)

INTERRUPTED = "The process ended without a word. Resume the run: it goes on from its last whole epoch."
INTERRUPTED_ON_CLUSTER = (
    "The process ended without a word. Ray starts it again on a free node, where it goes on from its last whole epoch; "
    "where Ray's job is over, resume the run."
)


class RunBusyError(TrimboardError):
    """The same run is already going on in another process."""


class UnknownRunError(TrimboardError):
    """No run has that key, or it is in no state for what is asked."""


def this_host() -> str:
    """The name that runs of this machine are noted under."""
    return platform.node()


class RunQueue:
    """All runs that were asked for, in a database that several processes and machines may share.

    Args:
        database: where they are kept.

    All methods raise a StoreError where the database cannot be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(
        self,
        spec: RunSpec,
        request: RunRequest,
        *,
        lanes: str,
        executor: ExecutorName = "local",
        log_file: str = "",
    ) -> bool:
        """Put a run behind all others, unless it waits or works already.

        Args:
            spec: the question.
            request: what was typed, for the process that will open it.
            lanes: the devices it needs, see `compression.environment.lanes`.
            executor: what will run it.
            log_file: where its output will go.

        Returns:
            Whether it was added; False where it is queued or running.
        """
        with self._database.writing() as connection:
            earlier = _find(connection, spec.key)
            if earlier and _state(earlier) in ("queued", "running"):
                return False
            if earlier is None or earlier.state == "done":
                _forget(connection, spec.key)
                connection.execute(insert(runs_table).values(**_blank(spec)))
            _change(
                connection,
                spec.key,
                state="queued",
                position=_end_of_queue(connection),
                request=json.dumps(request.to_dict()),
                lanes=lanes,
                executor=executor,
                host=this_host() if executor == "local" else "",
                log_file=log_file,
                queued=_now(),
                message="",
            )
        return True

    def take(self, key: str, *, pid: int) -> bool:
        """Note the process that was started for a queued run.

        Args:
            key: the run's.
            pid: the process; the same one may take it twice, since it says so itself as soon as it can. It may take
                a run from a process that died, too.

        Returns:
            Whether it shall go on; False where the run was cancelled or taken by another living process.
        """
        with self._database.writing() as connection:
            row = _find(connection, key)
            if row is None:
                return False
            if _state(row) == "running":
                return bool((row.host, row.pid) == (this_host(), pid))
            if row.state not in ("queued", "running"):
                return False
            _change(connection, key, **_at_work(pid))
            return True

    def begin(self, spec: RunSpec, request: RunRequest | None = None, *, lanes: str, pid: int, log_file: str) -> None:
        """Note that a process works on a run, whether it was queued or not.

        Args:
            spec: the question.
            request: what was typed, so that an interrupted run can be queued; None where nobody typed it.
            lanes: the devices it works on, see `compression.environment.lanes`.
            pid: the process; one that already has this run may note it again.
            log_file: where its output goes.

        Raises:
            RunBusyError: another living process has this run.
            UnknownRunError: it was cancelled since this process took it.
        """
        with self._database.writing() as connection:
            earlier = _find(connection, spec.key)
            if earlier and _state(earlier) == "running" and (earlier.host, earlier.pid) != (this_host(), pid):
                raise RunBusyError(
                    f"This run is already going on in process {earlier.pid}{_where(earlier)}; "
                    f"wait for it, or end that process first."
                )
            if earlier and earlier.state == "cancelled" and _is_of(earlier, pid):
                raise UnknownRunError(
                    f"Run {spec.key[:SHORT_KEY]} was cancelled before it began; resume it where it is wanted after all."
                )
            if earlier is None or earlier.state == "done":
                _forget(connection, spec.key)
                connection.execute(insert(runs_table).values(**_blank(spec)))
            typed = {"request": json.dumps(request.to_dict())} if request else {}
            # A run that this process took from the queue has begun already.
            taken = earlier is not None and _state(earlier) == "running"
            at_work = {} if taken else {**_at_work(pid), "executor": "local"}
            _change(connection, spec.key, **at_work, **typed, lanes=lanes, log_file=log_file)

    def tell(self, key: str, progress: Progress) -> None:
        """Note how far a run is.

        Raises:
            UnknownRunError: there is no such run.
        """
        with self._database.writing() as connection:
            if progress.finished is not None:
                _note_epoch(connection, key, progress.finished)
            _change(connection, key, progress=json.dumps(asdict(replace(progress, finished=None))), updated=_now())

    def give_sign_of_life(self, key: str, *, pid: int, memory_mb: float) -> bool:
        """Note that a run's process lives, and what it holds.

        Args:
            key: the run's.
            pid: the process that says so.
            memory_mb: what it and its children hold of the device's memory, megabytes.

        Returns:
            Whether it shall go on; False where the run was cancelled or belongs to another process by now.
        """
        with self._database.writing() as connection:
            row = _find(connection, key)
            if row is None or (row.state, row.host, row.pid) != ("running", this_host(), pid):
                return False
            _change(connection, key, updated=_now(), memory_mb=memory_mb)
            return True

    def end(self, key: str, state: Literal["done", "failed", "interrupted"], message: str = "") -> None:
        """Note that a run is over, unless it was cancelled.

        Args:
            key: the run's.
            state: how it ended.
            message: one sentence; why it failed.

        Raises:
            UnknownRunError: there is no such run.
        """
        with self._database.writing() as connection:
            row = _find(connection, key)
            if row is None:
                raise UnknownRunError(f"There is no run {key!r}; begin it first.")
            if row.state == "running":
                _change(connection, key, state=state, message=message, updated=_now())

    def cancel(self, key: str) -> RunStatus:
        """Note that a run is not wanted. Its process ends itself within seconds, unless the caller ends it before.

        Returns:
            The run as it was.

        Raises:
            UnknownRunError: there is no such run, or it is over.
        """
        with self._database.writing() as connection:
            row = _find(connection, key)
            status = _status(row) if row else None
            # A cluster starts a run again whose process is gone, so that there is something to cancel.
            alive = (
                ("queued", "running", "interrupted") if status and status.executor == "ray" else ("queued", "running")
            )
            if status is None or status.state not in alive:
                raise UnknownRunError(
                    f"Run {key[:SHORT_KEY]} is neither queued nor running; there is nothing to cancel."
                )
            _change(connection, key, state="cancelled", message="", updated=_now())
        return status

    def resume(self, key: str, *, log_file: str = "") -> RunStatus:
        """Put a run that ended without a result behind all others.

        Args:
            key: the run's.
            log_file: where its output will go on the machine that resumes it; a cluster keeps logs itself.

        Raises:
            UnknownRunError: there is no such run, it has its result, or it is from before there was a queue.
        """
        with self._database.writing() as connection:
            row = _find(connection, key)
            status = _status(row) if row else None
            if status is None or status.request is None or status.state not in ("failed", "cancelled", "interrupted"):
                raise UnknownRunError(
                    f"Run {key[:SHORT_KEY]} cannot be resumed; only one that ended without a result can."
                )
            place = {"state": "queued", "position": _end_of_queue(connection), "queued": _now(), "message": ""}
            # The machine that resumes a run is the one that has to have its files, and that can write its log.
            here = {"host": this_host(), "log_file": log_file} if status.executor == "local" else {}
            _change(connection, key, **place, **here)
        return replace(status, state="queued")

    def move(self, key: str, places: int) -> None:
        """Move a queued run forward (negative) or back in the queue, as far as there are others.

        Raises:
            UnknownRunError: the run is not queued, or by a cluster, which has an order of its own.
        """
        with self._database.writing() as connection:
            waiting = (runs_table.c.state == "queued") & (runs_table.c.executor == "local")
            query = select(runs_table.c.key).where(waiting)
            keys = list(connection.scalars(query.order_by(runs_table.c.position, runs_table.c.key)))
            if key not in keys:
                raise UnknownRunError(f"Run {key[:SHORT_KEY]} is not queued on a machine; only such a one has a place.")
            index = keys.index(key)
            keys.insert(max(index + places, 0), keys.pop(index))
            for position, each in enumerate(keys):
                _change(connection, each, position=float(position))

    def remove(self, key: str) -> None:
        """Forget a run that is over; its result, where it has one, stays.

        Raises:
            UnknownRunError: the run is queued or running.
        """
        with self._database.writing() as connection:
            row = _find(connection, key)
            if row and _state(row) in ("queued", "running"):
                raise UnknownRunError(f"Run {key[:SHORT_KEY]} is {row.state}; cancel it first.")
            _forget(connection, key)

    def runs(self) -> list[RunStatus]:
        """The runs that can be read: at work first, then queued in their order, then those that are over, newest first.

        One at work whose process is gone is given as interrupted.
        """
        with self._database.reading() as connection:
            rows = connection.execute(select(runs_table)).all()
        statuses = [status for status in map(_status, rows) if status]
        over = [each for each in statuses if each.state not in ("queued", "running")]
        return [
            *sorted((each for each in statuses if each.state == "running"), key=lambda each: each.started),
            *sorted((each for each in statuses if each.state == "queued"), key=lambda each: each.position),
            *sorted(over, key=lambda each: (each.updated, each.key), reverse=True),
        ]

    def find(self, prefix: str) -> RunStatus:
        """The one run whose key begins so.

        Raises:
            UnknownRunError: none does, or several do.
        """
        found = [status for status in self.runs() if status.key.startswith(prefix)] if prefix else []
        if len(found) == 1:
            return found[0]
        count = "No run has" if not found else f"{len(found)} runs have"
        raise UnknownRunError(f"{count} a key that begins with {prefix!r}; `trimboard runs` lists them.")

    def curve(self, key: str) -> tuple[EpochRow, ...]:
        """The epochs that a run has behind it."""
        query = select(epochs_table.c.payload).where(epochs_table.c.key == key).order_by(epochs_table.c.epoch)
        with self._database.reading() as connection:
            return tuple(EpochRow(**json.loads(payload)) for payload in connection.scalars(query))

    def n_unreadable(self) -> int:
        """How many runs are of another version or damaged, and not shown."""
        with self._database.reading() as connection:
            return [_status(row) for row in connection.execute(select(runs_table))].count(None)


def _blank(spec: RunSpec) -> dict[str, Any]:
    """A run of which nothing but the question is known."""
    return {
        "key": spec.key,
        "spec": json.dumps(spec.to_dict()),
        "request": "",
        "state": "queued",
        "position": 0.0,
        "lanes": "",
        "executor": "local",
        "host": "",
        "pid": 0,
        "process_started": 0.0,
        "memory_mb": 0.0,
        "progress": json.dumps(asdict(Progress(stage="queued"))),
        "queued": _now(),
        "started": "",
        "updated": _now(),
        "message": "",
        "log_file": "",
    }


def _at_work(pid: int) -> dict[str, Any]:
    now = _now()
    return {
        "state": "running",
        "host": this_host(),
        "pid": pid,
        "process_started": started_at(pid),
        "memory_mb": 0.0,
        "progress": json.dumps(asdict(Progress(stage="starting"))),
        "started": now,
        "updated": now,
        "message": "",
    }


def _find(connection: Connection, key: str) -> Row[Any] | None:
    return connection.execute(select(runs_table).where(runs_table.c.key == key)).one_or_none()


def _change(connection: Connection, key: str, **values: Any) -> None:
    changed = connection.execute(update(runs_table).where(runs_table.c.key == key).values(**values))
    if changed.rowcount == 0:
        raise UnknownRunError(f"There is no run {key!r}; begin it first.")


def _forget(connection: Connection, key: str) -> None:
    connection.execute(delete(epochs_table).where(epochs_table.c.key == key))
    connection.execute(delete(runs_table).where(runs_table.c.key == key))


def _note_epoch(connection: Connection, key: str, row: EpochRow) -> None:
    """Add an epoch, in place of one of that number and those after it: a resumed run may repeat some."""
    connection.execute(delete(epochs_table).where(epochs_table.c.key == key, epochs_table.c.epoch >= row.epoch))
    connection.execute(insert(epochs_table).values(key=key, epoch=row.epoch, payload=json.dumps(asdict(row))))


def _end_of_queue(connection: Connection) -> float:
    last = connection.scalar(select(func.max(runs_table.c.position)).where(runs_table.c.state == "queued"))
    return 0.0 if last is None else float(last) + 1


def _status(row: Row[Any]) -> RunStatus | None:
    """The run of a row, or None where it cannot be read."""
    try:
        spec, progress = RunSpec.from_dict(json.loads(row.spec)), Progress(**json.loads(row.progress))
        request = RunRequest.from_dict(json.loads(row.request)) if row.request else None
    except (SpecError, TypeError, ValueError):
        return None
    state = _state(row)
    return RunStatus(
        key=row.key,
        spec=spec,
        request=request,
        state=state,
        progress=progress,
        position=row.position,
        lanes=row.lanes,
        executor=row.executor,
        host=row.host,
        pid=row.pid,
        process_started=row.process_started,
        memory_mb=row.memory_mb,
        queued=row.queued,
        started=row.started,
        updated=row.updated,
        message=_interrupted(row) if state != row.state else row.message,
        log_file=row.log_file,
    )


def _interrupted(row: Row[Any]) -> str:
    return INTERRUPTED_ON_CLUSTER if row.executor == "ray" else INTERRUPTED


def _state(row: Row[Any]) -> RunState:
    """The state that is noted, unless the process is gone that was at work."""
    if row.state != "running":
        return row.state
    if row.host == this_host():
        lives = is_alive(row.pid, row.process_started)
    else:
        lives = datetime.now(UTC) - datetime.fromisoformat(row.updated) < SILENCE
    return "running" if lives else "interrupted"


def _is_of(row: Row[Any], pid: int) -> bool:
    """Whether it is this living process of this machine that a run was last at work in."""
    return (row.host, row.pid) == (this_host(), pid) and is_alive(pid, row.process_started)


def _where(row: Row[Any]) -> str:
    return "" if row.host == this_host() else f" on {row.host}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
