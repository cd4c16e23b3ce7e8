"""The SQLite file: its tables, and transactions that several processes can hold beside each other."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    inspect,
)
from sqlalchemy.exc import SQLAlchemyError

from compression.errors import TrimboardError

BUSY_TIMEOUT_S = 30
RETRY_S = 0.02

_metadata = MetaData()

records_table = Table(
    "records",
    _metadata,
    Column("key", String, primary_key=True),
    Column("model", String, nullable=False, index=True),
    Column("data", String, nullable=False, index=True),
    Column("level", Integer, index=True),
    Column("created", String, nullable=False, index=True),
    Column("payload", Text, nullable=False),
)

plans_table = Table(
    "plans",
    _metadata,
    Column("key", String, primary_key=True),
    Column("payload", Text, nullable=False),
)

runs_table = Table(
    "runs",
    _metadata,
    Column("key", String, primary_key=True),
    Column("spec", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("position", Float, nullable=False),
    Column("lanes", String, nullable=False),
    Column("executor", String, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", Float, nullable=False),
    Column("memory_mb", Float, nullable=False),
    Column("progress", Text, nullable=False),
    Column("queued", String, nullable=False),
    Column("started", String, nullable=False),
    Column("updated", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("log_file", String, nullable=False),
)

epochs_table = Table(
    "epochs",
    _metadata,
    Column("key", String, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("payload", Text, nullable=False),
)


class StoreError(TrimboardError):
    """The database cannot be opened, read or written."""


class Database:
    """An open database, created on first use."""

    def __init__(self, url: str | URL) -> None:
        """Open it.

        Raises:
            StoreError: the file is not a database, or cannot be written.
        """
        self._engine = create_engine(url)
        _set_up_sqlite(self._engine)
        with self.reading() as connection:
            tables_exist = inspect(connection).has_table(runs_table.name)
        if not tables_exist:
            with self.writing() as connection:
                _metadata.create_all(connection)

    def close(self) -> None:
        """Close the connections; they are opened again when needed."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees the database as it is now, and holds nobody up."""
        with self._telling_errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that takes effect at its end, or not at all; waits while another one writes."""
        # The write lock is taken at once: a transaction that begins by reading could not wait for it later.
        with self._telling_errors(), self._engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
            yield connection

    @contextmanager
    def _telling_errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error
            raise StoreError(
                f"The results database {self._engine.url.database} cannot be used: {reason}. "
                "Check that it is a database of Trimboard which you may write, or set TRIMBOARD_HOME to another folder."
            ) from error


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
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait by itself when two processes switch a new file at once, so try again."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)
