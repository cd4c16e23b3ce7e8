"""How SQLite and PostgreSQL are reached, so that both keep the same promises to `cache.database`."""

from __future__ import annotations

import os
import random
import sqlite3
import time

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from compression.errors import TrimboardError
from compression.home import home

ADDRESS_VARIABLE = "TRIMBOARD_DB"

# So long a transaction waits for another one to end.
BUSY_TIMEOUT_S = 30
RETRY_S = 0.01
# A training draws from Python's common random numbers while its signs of life wait here: it must get the same ones
# whether they had to wait or not.
_chance = random.Random()
# A server that says nothing for so long is away.
CONNECT_TIMEOUT_S = 10
# Whoever falls silent in a transaction, as a machine that was switched off, loses it: others wait for its end.
SILENT_TIMEOUT_S = 60
# The lock that writers of one PostgreSQL database take in turn; any number that no other program is likely to use.
WRITE_LOCK = int.from_bytes(b"trimbord", "big")

_SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")
_POSTGRESQL_DRIVERS = ("postgresql+psycopg", "postgresql", "postgres")
_FORMS = "postgresql+psycopg://user:password@host/database, or sqlite:////folder/file.db"

# Execution option of a transaction that may write.
WRITES = "trimboard_writes"


class StoreError(TrimboardError):
    """The database or a shared place of files cannot be opened, read or written."""


def own_address() -> URL:
    """Where results are kept: what TRIMBOARD_DB says, else a file in the data folder.

    Raises:
        StoreError: what it says is no address of a database.
    """
    return parse_address(
        os.environ.get(ADDRESS_VARIABLE) or URL.create("sqlite", database=str(home() / "trimboard.db"))
    )


def parse_address(address: str | URL) -> URL:
    """SQLAlchemy's address of a SQLite or PostgreSQL database.

    Raises:
        StoreError: it is none; the text never repeats the address, which may hold a password.
    """
    try:
        url = make_url(address)
    # A ValueError of a port that is no number, which may be a password with a colon in it.
    except (ArgumentError, ValueError):
        raise StoreError(f"{ADDRESS_VARIABLE} is no address of a database; give {_FORMS}.") from None
    if "@" in (url.host or ""):
        raise StoreError(f"{ADDRESS_VARIABLE} has more than one @; write one within a password as %40.")
    if url.drivername in _POSTGRESQL_DRIVERS:
        return url.set(drivername=_POSTGRESQL_DRIVERS[0])
    if url.drivername not in _SQLITE_DRIVERS:
        raise StoreError(f"{ADDRESS_VARIABLE} speaks of {url.drivername!r}, which is not supported; give {_FORMS}.")
    return url


def open_engine(url: URL) -> Engine:
    """An engine whose transactions wait for each other, and read one state of the database.

    Raises:
        StoreError: the driver is not installed.
    """
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url)
        _set_up_sqlite(engine)
        return engine
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_S}
    try:
        # A connection is tried before it is used: the server may have been started anew.
        engine = create_engine(url, pool_pre_ping=True, connect_args=timeout)
    except ImportError:
        raise StoreError(
            f"{ADDRESS_VARIABLE} speaks of PostgreSQL, whose driver is not installed; "
            f"run: pip install 'trimboard[cluster]'"
        ) from None
    _set_up_postgresql(engine)
    return engine


def reading(engine: Engine) -> Engine:
    """The engine for transactions that see one state of the database, and hold nobody up."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def writing(engine: Engine) -> Engine:
    """The engine for transactions of which there is one at a time."""
    return engine.execution_options(**{WRITES: True})


def explained(url: URL, error: SQLAlchemyError) -> StoreError:
    """What went wrong, in one sentence without a password, and what can be done."""
    reason = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
    # Drivers do not repeat passwords; a later one may.
    if url.password:
        reason = reason.replace(str(url.password), "***")
    if url.get_backend_name() == "sqlite":
        return StoreError(
            f"The results database {url.database} cannot be used: {reason}. "
            "Check that it is a database of Trimboard which you may write, or set TRIMBOARD_HOME to another folder."
        )
    return StoreError(
        f"The results database {shown(url)} cannot be used: {reason}. "
        f"Check that its server runs and that {ADDRESS_VARIABLE} is right."
    )


def shown(url: URL) -> str:
    """A database as it may be shown: no user, no password, no options."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"{url.database} on {url.host or 'this machine'}{port}"


def _set_up_sqlite(engine: Engine) -> None:
    """Let readers go on beside a writer, and begin transactions ourselves.

    Source: https://docs.sqlalchemy.org/en/20/dialects/sqlite.html on transactions of the pysqlite driver.
    """

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        _switch_to_wal(connection)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # The write lock is taken at once: a transaction that begins by reading could not wait for it later.
        if connection.get_execution_options().get(WRITES):
            _begin_immediate(connection)
        else:
            connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Connection) -> None:
    """Wait for the write lock by asking for it at even intervals.

    SQLite's own waiting asks more and more rarely, so that of many writers the one that has waited longest has the
    smallest chance: with ten at it all the time, some were turned away after 30 s.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except OperationalError as error:
                if not _is_busy(error.orig) or time.monotonic() > deadline:
                    raise
            time.sleep(_chance.uniform(0.1, 1) * RETRY_S)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")


def _is_busy(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait by itself when two processes switch a new file at once, so try again."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)


def _set_up_postgresql(engine: Engine) -> None:
    """Let one transaction write at a time, as SQLite does, and none for ever.

    The lock goes with the transaction, also where its process is killed. Rows are not enough to lock: most questions of
    the queue are about rows that are not there yet.
    """

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(WRITES):
            connection.exec_driver_sql(
                f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S}s'; "
                f"SET LOCAL idle_in_transaction_session_timeout = '{SILENT_TIMEOUT_S}s'; "
                f"SELECT pg_advisory_xact_lock({WRITE_LOCK})"
            )
